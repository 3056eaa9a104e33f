// A client of the Kubernetes SnapshotMetadata service that hides nothing, for tests: it prints each message of the
// stream as one line of JSON, checks none of it, and never tries again.
//
//	TOKEN=... metadataclient --address host:port --ca file --namespace n --snapshot name [--base handle]
//
// With --base, the CSI handle of an earlier snapshot, it asks for what changed since, else for what is allocated. When
// the stream ends in an error, the code and the message go to standard error, and the exit code is 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// line is one message.
type line struct {
	Type     string     `json:"type"`
	Capacity int64      `json:"capacity"` // bytes
	Tuples   [][2]int64 `json:"tuples"`   // offset and size in bytes
}

// message is what both kinds of stream consist of.
type message interface {
	GetBlockMetadataType() api.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*api.BlockMetadata
}

func print[M message](recv func() (M, error)) error {
	for {
		one, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l := line{Type: one.GetBlockMetadataType().String(), Capacity: one.GetVolumeCapacityBytes(), Tuples: [][2]int64{}}
		for _, tuple := range one.GetBlockMetadata() {
			l.Tuples = append(l.Tuples, [2]int64{tuple.ByteOffset, tuple.SizeBytes})
		}
		if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
			return err
		}
	}
}

func run() error {
	address := flag.String("address", "", "host:port of the service")
	authority := flag.String("ca", "", "file with the certificate authority of the service")
	namespace := flag.String("namespace", "", "namespace of the snapshot")
	snapshot := flag.String("snapshot", "", "name of the VolumeSnapshot")
	base := flag.String("base", "", "CSI handle of an earlier snapshot")
	offset := flag.Int64("offset", 0, "byte to begin at")
	most := flag.Int("max-results", 0, "tuples in a message")
	patience := flag.Duration("timeout", time.Minute, "time for all of it")
	flag.Parse()
	trust, err := credentials.NewClientTLSFromFile(*authority, "")
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(trust), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	client, token := api.NewSnapshotMetadataClient(connection), os.Getenv("TOKEN")
	if *base == "" {
		stream, err := client.GetMetadataAllocated(ctx, &api.GetMetadataAllocatedRequest{
			SecurityToken: token, Namespace: *namespace, SnapshotName: *snapshot,
			StartingOffset: *offset, MaxResults: int32(*most),
		})
		if err != nil {
			return err
		}
		return print(stream.Recv)
	}
	stream, err := client.GetMetadataDelta(ctx, &api.GetMetadataDeltaRequest{
		SecurityToken: token, Namespace: *namespace, BaseSnapshotId: *base, TargetSnapshotName: *snapshot,
		StartingOffset: *offset, MaxResults: int32(*most),
	})
	if err != nil {
		return err
	}
	return print(stream.Recv)
}

func main() {
	if err := run(); err != nil {
		s := status.Convert(err)
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.Code(), s.Message())
		os.Exit(1)
	}
}
