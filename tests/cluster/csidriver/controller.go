package main

import (
	"context"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (d *driver) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, rpc := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: rpc}},
		})
	}
	return answer, nil
}

// sizeOf is the size to give for a range asked for: whole MiB, 1 GiB when nothing is asked.
func sizeOf(r *csi.CapacityRange) (int64, error) {
	size := r.GetRequiredBytes()
	if size == 0 {
		size = 1 << 30
	}
	size = (size + mib - 1) / mib * mib
	if limit := r.GetLimitBytes(); limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "%d bytes in whole MiB are more than the limit %d", size, limit)
	}
	return size, nil
}

func checkCapabilities(capabilities []*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "no volume capabilities")
	}
	for _, c := range capabilities {
		switch c.GetAccessMode().GetMode() {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		case csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
			if c.GetBlock() == nil {
				return status.Error(codes.InvalidArgument, "many writers only share raw block volumes")
			}
		default:
			return status.Errorf(codes.InvalidArgument, "access mode %s is not served", c.GetAccessMode().GetMode())
		}
	}
	return nil
}

func (d *driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "no name")
	}
	if err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	size, err := sizeOf(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	wanted := volume{ID: idOf("vol", r.GetName()), Name: r.GetName(), Size: size, FsType: fsTypeOf(r)}
	err = d.state.locked(func() error {
		var there volume
		found, err := d.state.load("volumes", wanted.ID, &there)
		if err != nil {
			return err
		}
		if found {
			limit := r.GetCapacityRange().GetLimitBytes()
			if there.Size < r.GetCapacityRange().GetRequiredBytes() || limit > 0 && there.Size > limit {
				return status.Errorf(codes.AlreadyExists, "%s exists with %d bytes", r.GetName(), there.Size)
			}
			wanted = there
			return nil
		}
		source, err := d.sourceOf(r.GetVolumeContentSource(), wanted.Size)
		if err != nil {
			return err
		}
		wanted.Source = source
		return d.state.createVolume(wanted, source)
	})
	if err != nil {
		return nil, asStatus(err)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: wanted.ID, CapacityBytes: wanted.Size, ContentSource: r.GetVolumeContentSource(),
	}}, nil
}

func fsTypeOf(r *csi.CreateVolumeRequest) string {
	for _, c := range r.GetVolumeCapabilities() {
		if fs := c.GetMount().GetFsType(); fs != "" {
			return fs
		}
	}
	return ""
}

// sourceOf is the data file to copy, empty for a new volume.
func (d *driver) sourceOf(source *csi.VolumeContentSource, size int64) (string, error) {
	if source == nil {
		return "", nil
	}
	var path string
	var from int64
	if id := source.GetSnapshot().GetSnapshotId(); id != "" {
		var s snapshot
		if found, err := d.state.load("snapshots", id, &s); err != nil || !found {
			return "", status.Errorf(codes.NotFound, "no snapshot %s", id)
		}
		path, from = d.state.snapshotData(id), s.Size
	} else {
		id := source.GetVolume().GetVolumeId()
		var v volume
		if found, err := d.state.load("volumes", id, &v); err != nil || !found {
			return "", status.Errorf(codes.NotFound, "no volume %s", id)
		}
		path, from = d.state.volumeData(id), v.Size
	}
	if size < from {
		return "", status.Errorf(codes.OutOfRange, "%d bytes are less than the source's %d", size, from)
	}
	return path, nil
}

func (d *driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	err := d.state.locked(func() error {
		var v volume
		found, err := d.state.load("volumes", r.GetVolumeId(), &v)
		if err != nil {
			return err
		}
		if found && len(v.Attached) > 0 {
			return status.Errorf(codes.FailedPrecondition, "%s is attached to %v", v.ID, v.Attached)
		}
		return d.state.remove("volumes", r.GetVolumeId())
	})
	return &csi.DeleteVolumeResponse{}, asStatus(err)
}

func (d *driver) ControllerPublishVolume(
	_ context.Context, r *csi.ControllerPublishVolumeRequest,
) (*csi.ControllerPublishVolumeResponse, error) {
	shared := r.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	err := d.change(r.GetVolumeId(), func(v *volume) error {
		if slices.Contains(v.Attached, r.GetNodeId()) {
			return nil
		}
		if len(v.Attached) > 0 && !shared {
			return status.Errorf(codes.FailedPrecondition, "%s is attached to %v", v.ID, v.Attached)
		}
		v.Attached = append(v.Attached, r.GetNodeId())
		return nil
	})
	return &csi.ControllerPublishVolumeResponse{}, err
}

func (d *driver) ControllerUnpublishVolume(
	_ context.Context, r *csi.ControllerUnpublishVolumeRequest,
) (*csi.ControllerUnpublishVolumeResponse, error) {
	err := d.change(r.GetVolumeId(), func(v *volume) error {
		v.Attached = slices.DeleteFunc(v.Attached, func(n string) bool { return r.GetNodeId() == "" || n == r.GetNodeId() })
		return nil
	})
	if status.Code(err) == codes.NotFound {
		err = nil
	}
	return &csi.ControllerUnpublishVolumeResponse{}, err
}

// change loads a volume, lets it be changed, and saves it.
func (d *driver) change(id string, change func(*volume) error) error {
	return asStatus(d.state.locked(func() error {
		var v volume
		found, err := d.state.load("volumes", id, &v)
		if err != nil {
			return err
		}
		if !found {
			return status.Errorf(codes.NotFound, "no volume %s", id)
		}
		if err := change(&v); err != nil {
			return err
		}
		return d.state.save("volumes", id, v)
	}))
}

func (d *driver) ValidateVolumeCapabilities(
	_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	var v volume
	if found, err := d.state.load("volumes", r.GetVolumeId(), &v); err != nil || !found {
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	}
	if err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()},
	}, nil
}

func (d *driver) ControllerExpandVolume(
	_ context.Context, r *csi.ControllerExpandVolumeRequest,
) (*csi.ControllerExpandVolumeResponse, error) {
	size, err := sizeOf(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	err = d.change(r.GetVolumeId(), func(v *volume) error {
		if size <= v.Size {
			size = v.Size
			return nil
		}
		v.Size = size
		return truncate(d.state.volumeData(v.ID), size)
	})
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: size, NodeExpansionRequired: true}, err
}

func (d *driver) CreateSnapshot(_ context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.GetName() == "" || r.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no name or no source volume")
	}
	var made snapshot
	err := d.state.locked(func() error {
		found, err := d.state.load("snapshots", idOf("snap", r.GetName()), &made)
		if err != nil {
			return err
		}
		if found {
			if made.Volume != r.GetSourceVolumeId() {
				return status.Errorf(codes.AlreadyExists, "%s is a snapshot of %s", r.GetName(), made.Volume)
			}
			return nil
		}
		var v volume
		if found, err := d.state.load("volumes", r.GetSourceVolumeId(), &v); err != nil || !found {
			return status.Errorf(codes.NotFound, "no volume %s", r.GetSourceVolumeId())
		}
		made, err = d.state.createSnapshot(r.GetName(), v)
		return err
	})
	if err != nil {
		return nil, asStatus(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: d.describe(made)}, nil
}

func (d *driver) describe(s snapshot) *csi.Snapshot {
	created := time.Unix(0, s.Created)
	return &csi.Snapshot{
		SnapshotId: s.ID, SourceVolumeId: s.Volume, SizeBytes: s.Size, CreationTime: timestamppb.New(created),
		ReadyToUse: time.Since(created) >= d.faults.snapshotReady(),
	}
}

func (d *driver) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.GetSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "no snapshot id")
	}
	err := d.state.locked(func() error { return d.state.remove("snapshots", r.GetSnapshotId()) })
	return &csi.DeleteSnapshotResponse{}, asStatus(err)
}

func (d *driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	ids, err := d.state.list("snapshots")
	if err != nil {
		return nil, asStatus(err)
	}
	answer := &csi.ListSnapshotsResponse{}
	for _, id := range ids {
		var s snapshot
		if found, err := d.state.load("snapshots", id, &s); err != nil || !found {
			continue
		}
		if r.GetSnapshotId() != "" && s.ID != r.GetSnapshotId() || r.GetSourceVolumeId() != "" && s.Volume != r.GetSourceVolumeId() {
			continue
		}
		answer.Entries = append(answer.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: d.describe(s)})
	}
	return answer, nil
}

// asStatus gives every error a code.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
