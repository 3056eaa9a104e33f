package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ready says whether a snapshot can be used. Its delay is the one in force when it was made; a shorter one in
// force now counts too, so that a test can end the wait.
func (d *driver) ready(s *snapshot) (bool, error) {
	if s.ReadySeconds == 0 {
		return true, nil
	}
	p, err := d.faults.current()
	if err != nil {
		return false, err
	}
	delay := min(s.ReadySeconds, p.snapshotReadySeconds)
	return time.Since(s.Created).Seconds() >= delay, nil
}

func (d *driver) described(s *snapshot) (*csi.Snapshot, error) {
	ready, err := d.ready(s)
	return &csi.Snapshot{
		SnapshotId:     s.ID,
		SourceVolumeId: s.Volume,
		SizeBytes:      s.Size,
		CreationTime:   timestamppb.New(s.Created),
		ReadyToUse:     ready,
	}, err
}

// CreateSnapshot holds what a volume's device has been given at this moment: everything that its user has
// fsynced, nothing that is still in the user's cache.
func (d *driver) CreateSnapshot(
	ctx context.Context, r *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	if r.Name == "" || r.SourceVolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "a name and a source volume id are needed")
	}
	id := snapshotID(r.Name)
	unlock, err := d.state.lock(ctx, id, r.SourceVolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	found, err := d.state.snapshot(id)
	if err != nil {
		return nil, err
	}
	if found != nil && found.Volume != r.SourceVolumeId {
		return nil, status.Errorf(codes.AlreadyExists,
			"snapshot %s of name %s is one of volume %s", id, r.Name, found.Volume)
	}
	if found == nil {
		if found, err = d.cut(id, r); err != nil {
			return nil, err
		}
	}
	described, err := d.described(found)
	return &csi.CreateSnapshotResponse{Snapshot: described}, err
}

// cut makes the files of a snapshot; the metadata, written last, makes it exist.
func (d *driver) cut(id string, r *csi.CreateSnapshotRequest) (*snapshot, error) {
	v, err := d.state.existing(r.SourceVolumeId)
	if err != nil {
		return nil, err
	}
	p, err := d.faults.current()
	if err != nil {
		return nil, err
	}
	directory := d.state.snapshotDir(id)
	if err := os.RemoveAll(directory); err != nil { // of a process killed here
		return nil, err
	}
	if err := os.Mkdir(directory, 0o755); err != nil {
		return nil, err
	}
	made := &snapshot{ID: id, Name: r.Name, Volume: v.ID, Size: v.Size, ReadySeconds: p.snapshotReadySeconds}
	err = clone(data(d.state.volumeDir(v.ID)), data(directory), len(v.Attached) > 0)
	if err == nil {
		made.Created = time.Now()
		err = writeJSON(meta(directory), made)
	}
	if err != nil {
		os.RemoveAll(directory)
		return nil, err
	}
	return made, nil
}

// DeleteSnapshot removes it; volumes made from it share extents, not files.
func (d *driver) DeleteSnapshot(
	ctx context.Context, r *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	if r.SnapshotId == "" {
		return nil, status.Error(codes.InvalidArgument, "no snapshot id")
	}
	if !local(r.SnapshotId) {
		return &csi.DeleteSnapshotResponse{}, nil
	}
	unlock, err := d.state.lock(ctx, r.SnapshotId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return &csi.DeleteSnapshotResponse{}, remove(d.state.snapshotDir(r.SnapshotId))
}

// ListSnapshots lists by snapshot, by volume, or all; the token is a position in the order of ids.
func (d *driver) ListSnapshots(
	_ context.Context, r *csi.ListSnapshotsRequest,
) (*csi.ListSnapshotsResponse, error) {
	all, err := d.state.snapshots()
	if err != nil {
		return nil, err
	}
	answer := &csi.ListSnapshotsResponse{}
	start := 0
	if r.StartingToken != "" {
		if start, err = strconv.Atoi(r.StartingToken); err != nil || start < 0 {
			return nil, status.Errorf(codes.Aborted, "starting token %q", r.StartingToken)
		}
	}
	position := 0
	for _, one := range all {
		if r.SnapshotId != "" && one.ID != r.SnapshotId ||
			r.SourceVolumeId != "" && one.Volume != r.SourceVolumeId {
			continue
		}
		if position++; position <= start {
			continue
		}
		if r.MaxEntries > 0 && len(answer.Entries) == int(r.MaxEntries) {
			answer.NextToken = strconv.Itoa(position - 1)
			break
		}
		described, err := d.described(one)
		if err != nil {
			return nil, err
		}
		answer.Entries = append(answer.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: described})
	}
	return answer, nil
}
