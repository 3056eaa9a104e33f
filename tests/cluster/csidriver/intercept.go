package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// subject names what a request is about, for the log.
func subject(request any) string {
	var found string
	if r, ok := request.(interface{ GetName() string }); ok && r.GetName() != "" {
		found += " " + r.GetName()
	}
	if r, ok := request.(interface{ GetSourceVolumeId() string }); ok && r.GetSourceVolumeId() != "" {
		found += " of " + r.GetSourceVolumeId()
	}
	if r, ok := request.(interface{ GetVolumeId() string }); ok && r.GetVolumeId() != "" {
		found += " " + r.GetVolumeId()
	}
	if r, ok := request.(interface{ GetSnapshotId() string }); ok && r.GetSnapshotId() != "" {
		found += " " + r.GetSnapshotId()
	}
	if r, ok := request.(interface{ GetTargetSnapshotId() string }); ok && r.GetTargetSnapshotId() != "" {
		found += " " + r.GetTargetSnapshotId()
	}
	if r, ok := request.(interface{ GetBaseSnapshotId() string }); ok && r.GetBaseSnapshotId() != "" {
		found += " since " + r.GetBaseSnapshotId()
	}
	if r, ok := request.(interface{ GetNodeId() string }); ok && r.GetNodeId() != "" {
		found += " on " + r.GetNodeId()
	}
	return found
}

// coded gives an error of the operating system the code that a CO can act on.
func coded(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	if errors.Is(err, unix.ENOSPC) {
		code = codes.ResourceExhausted
	}
	return status.Error(code, err.Error())
}

// outcome logs one line for a call and gives its error a code.
func outcome(started time.Time, call string, err error) error {
	elapsed := time.Since(started).Milliseconds()
	if err == nil {
		log.Printf("%s: OK (%d ms)", call, elapsed)
		return nil
	}
	err = coded(err)
	s := status.Convert(err)
	log.Printf("%s: %s: %s (%d ms)", call, s.Code(), s.Message(), elapsed)
	return err
}

// intercept makes the faults asked for and logs one line for each call.
func (d *driver) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	started := time.Now()
	name := path.Base(info.FullMethod)
	answer, err := d.faults.around(ctx, name, func() (any, error) { return handler(ctx, request) })
	if err = outcome(started, name+subject(request), err); err != nil {
		return nil, err
	}
	return answer, nil
}

// interceptStream is intercept for calls that answer with a stream.
func (d *driver) interceptStream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	started := time.Now()
	name := path.Base(info.FullMethod)
	w := &watched{ServerStream: stream}
	err := d.faults.aroundStream(name, w, func() error { return handler(service, w) })
	return outcome(started, fmt.Sprintf("%s%s (%d messages)", name, w.subject, w.sent), err)
}
