package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NodeGetCapabilities lists what the node service serves.
func (d *driver) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, one := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: one}},
		})
	}
	return answer, nil
}

// NodeGetInfo names the node: no topology, no limit of volumes.
func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.nodeID}, nil
}

// lockHere keeps other calls of this node from a volume; the other nodes and the controller go on.
func (d *driver) lockHere(ctx context.Context, id string) (func(), error) {
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	return d.state.lock(ctx, id+"@"+d.nodeID)
}

func (d *driver) file(id string) string { return data(d.state.volumeDir(id)) }

// attached returns the mode in which the volume is attached to this node, which a pod must not do without.
func (d *driver) attached(id string, c *csi.VolumeCapability) (mode, error) {
	wanted, err := modeOf(c)
	if err != nil {
		return wanted, err
	}
	v, err := d.state.existing(id)
	if err != nil {
		return wanted, err
	}
	got, ok := v.Attached[d.nodeID]
	if !ok {
		return got, status.Errorf(codes.FailedPrecondition, "volume %s is not attached to node %s", id, d.nodeID)
	}
	if got.Block != wanted.Block {
		return got, status.Errorf(codes.FailedPrecondition,
			"volume %s is attached to node %s as %+v, not as %+v", id, d.nodeID, got, wanted)
	}
	return got, nil
}

// NodeStageVolume attaches a loop device and, for a file system, makes it where the device is empty, mounts it
// with the CO's flags alone, and grows it to the device.
func (d *driver) NodeStageVolume(
	ctx context.Context, r *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	if r.StagingTargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "no staging path")
	}
	unlock, err := d.lockHere(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	m, err := d.attached(r.VolumeId, r.VolumeCapability)
	if err != nil {
		return nil, err
	}
	device, err := attach(d.file(r.VolumeId), d.nodeID)
	if err != nil || m.Block {
		return &csi.NodeStageVolumeResponse{}, err
	}
	return &csi.NodeStageVolumeResponse{}, d.stage(device, r.StagingTargetPath, r.VolumeCapability.GetMount())
}

func (d *driver) stage(device, path string, wanted *csi.VolumeCapability_MountVolume) error {
	kind := wanted.FsType
	if kind == "" {
		kind = fileSystems[0]
	}
	readonly := slices.Contains(wanted.MountFlags, "ro")
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	there, err := shows(path, device, false)
	if err != nil {
		return err
	}
	if !there && !readonly {
		err = format(device, kind)
		if err == nil && kind == "ext4" {
			err = growUnmounted(device)
		}
	}
	if !there && err == nil {
		err = mountDevice(device, path, kind, wanted.MountFlags)
	}
	if err == nil && kind == "xfs" && !readonly {
		err = growMounted(device, path)
	}
	return err
}

// NodeUnstageVolume unmounts and detaches, whatever of it is left to do.
func (d *driver) NodeUnstageVolume(
	ctx context.Context, r *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	if r.StagingTargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "no staging path")
	}
	unlock, err := d.lockHere(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := unmount(r.StagingTargetPath); err != nil {
		return nil, err
	}
	if local(r.VolumeId) {
		err = detach(d.file(r.VolumeId), d.nodeID)
	}
	return &csi.NodeUnstageVolumeResponse{}, err
}

// NodePublishVolume shows the staged directory, or the loop device, at the pod's path.
func (d *driver) NodePublishVolume(
	ctx context.Context, r *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	if r.TargetPath == "" || r.StagingTargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "a target path and a staging path are needed")
	}
	unlock, err := d.lockHere(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	m, err := d.attached(r.VolumeId, r.VolumeCapability)
	if err != nil {
		return nil, err
	}
	device, err := d.device(r.VolumeId)
	if err != nil {
		return nil, err
	}
	from := device
	if !m.Block {
		from = r.StagingTargetPath
		if there, err := shows(from, device, false); err != nil || !there {
			return nil, orElse(err, status.Errorf(codes.FailedPrecondition, "%s is not staged at %s", r.VolumeId, from))
		}
	}
	if there, err := shows(r.TargetPath, device, m.Block); err != nil || there {
		return &csi.NodePublishVolumeResponse{}, err
	}
	if err := target(r.TargetPath, m.Block); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, bind(from, r.TargetPath, r.Readonly)
}

// device is the loop device of a volume staged here.
func (d *driver) device(id string) (string, error) {
	found, err := loops(d.file(id), d.nodeID)
	if err == nil && len(found) == 0 {
		err = status.Errorf(codes.FailedPrecondition, "volume %s is not staged on node %s", id, d.nodeID)
	}
	if err != nil {
		return "", err
	}
	return "/dev/" + found[0], nil
}

// target makes what a volume is bound to: a file for a device, a directory for a file system.
func target(path string, block bool) error {
	if !block {
		return os.MkdirAll(path, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE, 0o660)
	if err != nil {
		return err
	}
	return file.Close()
}

// NodeUnpublishVolume takes the pod's path away, whatever of it is left.
func (d *driver) NodeUnpublishVolume(
	ctx context.Context, r *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.TargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "no target path")
	}
	unlock, err := d.lockHere(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := unmount(r.TargetPath); err != nil {
		return nil, err
	}
	// Not RemoveAll: what is in a directory that ought to be empty is somebody's data.
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume gives the device the size of the volume, and the file system that of the device.
func (d *driver) NodeExpandVolume(
	ctx context.Context, r *csi.NodeExpandVolumeRequest,
) (*csi.NodeExpandVolumeResponse, error) {
	if r.VolumePath == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume path")
	}
	unlock, err := d.lockHere(ctx, r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := d.state.existing(r.VolumeId)
	if err != nil {
		return nil, err
	}
	device, err := d.device(r.VolumeId)
	if err != nil {
		return nil, err
	}
	if err := resize(device); err != nil {
		return nil, err
	}
	if got := v.Attached[d.nodeID]; !got.Block {
		if err := growMounted(device, r.VolumePath); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, nil
}
