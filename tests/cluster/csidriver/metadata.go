package main

import (
	"context"
	"errors"
	"io/fs"
	"log"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// opened is a snapshot with its bytes.
type opened struct {
	*snapshot
	file *os.File
}

// open opens snapshots for reading, in the order of their ids; they can be deleted meanwhile. INVALID_ARGUMENT
// without an id, NOT_FOUND for a wrong one, UNAVAILABLE for one that is not ready: FAILED_PRECONDITION would say
// that a volume has no block metadata at all.
func (d *driver) open(ctx context.Context, ids ...string) (found []opened, end func(), err error) {
	end = func() {
		for _, one := range found {
			one.file.Close()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	for _, id := range ids {
		if id == "" {
			return nil, end, status.Error(codes.InvalidArgument, "no snapshot id")
		}
	}
	// Metadata and bytes are of one snapshot, also if another of this name takes its place.
	unlock, err := d.state.lock(ctx, append([]string{}, ids...)...)
	if err != nil {
		return nil, end, err
	}
	defer unlock()
	for _, id := range ids {
		s, err := d.state.snapshot(id)
		if err != nil {
			return found, end, err
		}
		if s == nil {
			return found, end, status.Errorf(codes.NotFound, "snapshot %s does not exist", id)
		}
		if ready, err := d.ready(s); err != nil || !ready {
			return found, end, orElse(err, status.Errorf(codes.Unavailable, "snapshot %s is not ready", id))
		}
		file, err := os.Open(data(d.state.snapshotDir(id)))
		if errors.Is(err, fs.ErrNotExist) {
			err = status.Errorf(codes.NotFound, "snapshot %s has lost its bytes", id)
		}
		if err != nil {
			return found, end, err
		}
		found = append(found, opened{snapshot: s, file: file})
	}
	return found, end, nil
}

// GetMetadataAllocated streams what of a snapshot is not a hole.
func (d *driver) GetMetadataAllocated(
	r *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer,
) error {
	ctx := stream.Context()
	found, end, err := d.open(ctx, r.SnapshotId)
	if err != nil {
		return err
	}
	defer end()
	t, err := newTeller(ctx, found[0].Size, r.StartingOffset, r.MaxResults)
	if err != nil {
		return err
	}
	t.send = func(m message) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{
			BlockMetadataType: m.kind, VolumeCapacityBytes: m.capacity, BlockMetadata: m.tuples,
		})
	}
	if err := allocated(ctx, found[0].file, t.start(), t.found); err != nil {
		return err
	}
	return t.end()
}

// GetMetadataDelta streams in which blocks a snapshot differs from another one of its volume. The volume itself need
// not exist any more.
func (d *driver) GetMetadataDelta(
	r *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer,
) error {
	ctx := stream.Context()
	found, end, err := d.open(ctx, r.BaseSnapshotId, r.TargetSnapshotId)
	if err != nil {
		return err
	}
	defer end()
	base, target := found[0], found[1]
	if base.Volume != target.Volume {
		return status.Errorf(codes.InvalidArgument, "snapshots %s and %s are of different volumes, %s and %s",
			base.ID, target.ID, base.Volume, target.Volume)
	}
	t, err := newTeller(ctx, target.Size, r.StartingOffset, r.MaxResults)
	if err != nil {
		return err
	}
	t.send = func(m message) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{
			BlockMetadataType: m.kind, VolumeCapacityBytes: m.capacity, BlockMetadata: m.tuples,
		})
	}
	compared, err := difference(ctx, base.file, target.file, t.start(), target.Size, t.found)
	if err != nil {
		return err
	}
	log.Printf("compared %d of %d bytes of %s and %s", compared, target.Size, base.ID, target.ID)
	return t.end()
}
