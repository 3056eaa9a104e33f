package main

import (
	"context"
	"os"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ControllerGetCapabilities lists what the controller service serves.
func (d *driver) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, one := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: one}},
		})
	}
	return answer, nil
}

// origin is what a new volume is made from.
type origin struct {
	id    string
	data  string // path
	size  int64  // bytes
	inUse bool
}

// sourceID is the id that a content source names, or empty.
func sourceID(source *csi.VolumeContentSource) string {
	return source.GetSnapshot().GetSnapshotId() + source.GetVolume().GetVolumeId()
}

// origin finds the source of a new volume; nil without one.
func (d *driver) origin(source *csi.VolumeContentSource) (*origin, error) {
	id := sourceID(source)
	switch {
	case source == nil:
		return nil, nil
	case source.GetSnapshot() != nil:
		found, err := d.state.snapshot(id)
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, status.Errorf(codes.NotFound, "snapshot %s does not exist", id)
		}
		if ready, err := d.ready(found); err != nil || !ready {
			return nil, orElse(err, status.Errorf(codes.FailedPrecondition, "snapshot %s is not ready", id))
		}
		return &origin{id: id, data: data(d.state.snapshotDir(id)), size: found.Size}, nil
	default:
		found, err := d.state.existing(id)
		if err != nil {
			return nil, err
		}
		return &origin{
			id: id, data: data(d.state.volumeDir(id)), size: found.Size, inUse: len(found.Attached) > 0,
		}, nil
	}
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func created(v *volume, source *csi.VolumeContentSource) *csi.CreateVolumeResponse {
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: v.ID, CapacityBytes: v.Size, ContentSource: source,
	}}
}

// CreateVolume makes a sparse file, or one that shares its source's extents.
func (d *driver) CreateVolume(
	ctx context.Context, r *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	if r.Name == "" {
		return nil, status.Error(codes.InvalidArgument, "no name")
	}
	if err := checkCapabilities(r.VolumeCapabilities); err != nil {
		return nil, err
	}
	for name := range r.Parameters {
		if !strings.HasPrefix(name, "csi.storage.k8s.io/") {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is unknown", name)
		}
	}
	id := volumeID(r.Name)
	unlock, err := d.state.lock(ctx, id, sourceID(r.VolumeContentSource))
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.volume(id)
	if err != nil {
		return nil, err
	}
	if v != nil {
		if v.Source != sourceID(r.VolumeContentSource) || !fits(v.Size, r.CapacityRange) {
			return nil, status.Errorf(codes.AlreadyExists,
				"volume %s of name %s exists with %d bytes and source %q", id, r.Name, v.Size, v.Source)
		}
		return created(v, r.VolumeContentSource), nil
	}
	from, err := d.origin(r.VolumeContentSource)
	if err != nil {
		return nil, err
	}
	v = &volume{ID: id, Name: r.Name, Attached: map[string]mode{}}
	if from == nil {
		from = &origin{}
	}
	v.Source = from.id
	if v.Size, err = sizeFor(r.CapacityRange, from.size); err != nil {
		return nil, err
	}
	if err := d.fill(v, from); err != nil {
		os.RemoveAll(d.state.volumeDir(id))
		return nil, err
	}
	return created(v, r.VolumeContentSource), nil
}

// fill makes the files of a volume; the metadata, written last, makes it exist.
func (d *driver) fill(v *volume, from *origin) error {
	directory := d.state.volumeDir(v.ID)
	if err := os.RemoveAll(directory); err != nil { // of a process killed here
		return err
	}
	if err := os.Mkdir(directory, 0o755); err != nil {
		return err
	}
	var err error
	if from.id != "" {
		err = clone(from.data, data(directory), from.inUse)
	} else {
		err = os.WriteFile(data(directory), nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := os.Truncate(data(directory), v.Size); err != nil {
		return err
	}
	return d.state.save(v)
}

// DeleteVolume refuses a volume that a node still has.
func (d *driver) DeleteVolume(
	ctx context.Context, r *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	unlock, err := d.state.lock(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.volume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	if v != nil {
		for node := range v.Attached {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to node %s", v.ID, node)
		}
		// A node that was lost could not detach its own.
		if err := detachAll(data(d.state.volumeDir(v.ID))); err != nil {
			return nil, err
		}
	}
	if local(r.VolumeId) {
		err = remove(d.state.volumeDir(r.VolumeId))
	}
	return &csi.DeleteVolumeResponse{}, err
}

// ControllerPublishVolume records the attachment; a node without it cannot stage the volume.
func (d *driver) ControllerPublishVolume(
	ctx context.Context, r *csi.ControllerPublishVolumeRequest,
) (*csi.ControllerPublishVolumeResponse, error) {
	m, err := modeOf(r.VolumeCapability)
	if err != nil {
		return nil, err
	}
	m.Readonly = r.Readonly
	unlock, err := d.state.lock(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.existing(r.VolumeId)
	if err != nil {
		return nil, err
	}
	if !d.state.knowsNode(r.NodeId) {
		return nil, status.Errorf(codes.NotFound, "node %q does not exist", r.NodeId)
	}
	if before, ok := v.Attached[r.NodeId]; ok {
		if before != m {
			return nil, status.Errorf(codes.AlreadyExists,
				"volume %s is attached to node %s as %+v, not as %+v", v.ID, r.NodeId, before, m)
		}
		return &csi.ControllerPublishVolumeResponse{}, nil
	}
	for node, other := range v.Attached {
		if !m.Shared || !other.Shared {
			return nil, status.Errorf(codes.FailedPrecondition,
				"volume %s is attached to node %s, and is not for several nodes", v.ID, node)
		}
	}
	v.Attached[r.NodeId] = m
	return &csi.ControllerPublishVolumeResponse{}, d.state.save(v)
}

// ControllerUnpublishVolume forgets the attachment; of all nodes if none is named.
func (d *driver) ControllerUnpublishVolume(
	ctx context.Context, r *csi.ControllerUnpublishVolumeRequest,
) (*csi.ControllerUnpublishVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	unlock, err := d.state.lock(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.volume(r.VolumeId)
	if err != nil || v == nil {
		return &csi.ControllerUnpublishVolumeResponse{}, err
	}
	if r.NodeId == "" {
		clear(v.Attached)
	}
	delete(v.Attached, r.NodeId)
	return &csi.ControllerUnpublishVolumeResponse{}, d.state.save(v)
}

// ControllerExpandVolume makes the file larger; every node that uses it has to look again.
func (d *driver) ControllerExpandVolume(
	ctx context.Context, r *csi.ControllerExpandVolumeRequest,
) (*csi.ControllerExpandVolumeResponse, error) {
	unlock, err := d.state.lock(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.existing(r.VolumeId)
	if err != nil {
		return nil, err
	}
	size, err := sizeFor(r.CapacityRange, 0)
	if err != nil {
		return nil, err
	}
	if limit := r.CapacityRange.GetLimitBytes(); limit > 0 && v.Size > limit {
		return nil, status.Errorf(codes.OutOfRange, "volume %s has %d bytes already", v.ID, v.Size)
	}
	if size > v.Size {
		if err := os.Truncate(data(d.state.volumeDir(v.ID)), size); err != nil {
			return nil, err
		}
		v.Size = size
		if err := d.state.save(v); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: true}, nil
}

// ValidateVolumeCapabilities confirms what any volume can do.
func (d *driver) ValidateVolumeCapabilities(
	_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := d.state.existing(r.VolumeId); err != nil {
		return nil, err
	}
	if len(r.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no volume capabilities")
	}
	if err := checkCapabilities(r.VolumeCapabilities); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.VolumeCapabilities},
	}, nil
}
