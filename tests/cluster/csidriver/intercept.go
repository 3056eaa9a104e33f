package main

import (
	"context"
	"errors"
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

// intercept makes the faults asked for and logs one line for each call.
func (d *driver) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	started := time.Now()
	name := path.Base(info.FullMethod)
	answer, err := d.faults.around(ctx, name, func() (any, error) { return handler(ctx, request) })
	elapsed := time.Since(started).Milliseconds()
	if err != nil {
		err = coded(err)
		s := status.Convert(err)
		log.Printf("%s%s: %s: %s (%d ms)", name, subject(request), s.Code(), s.Message(), elapsed)
		return nil, err
	}
	log.Printf("%s%s: OK (%d ms)", name, subject(request), elapsed)
	return answer, nil
}
