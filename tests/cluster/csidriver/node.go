package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func truncate(path string, size int64) error { return os.Truncate(path, size) }

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.options.nodeID}, nil
}

func (d *driver) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, rpc := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: rpc}},
		})
	}
	return answer, nil
}

func (d *driver) NodeStageVolume(_ context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	var v volume
	if found, err := d.state.load("volumes", r.GetVolumeId(), &v); err != nil || !found {
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	}
	err := d.state.locked(func() error {
		device, err := d.attach(v.ID)
		if err != nil || r.GetVolumeCapability().GetBlock() != nil {
			return err
		}
		mount := r.GetVolumeCapability().GetMount()
		return stageFileSystem(device, r.GetStagingTargetPath(), mount.GetFsType(), mount.GetMountFlags())
	})
	return &csi.NodeStageVolumeResponse{}, asStatus(err)
}

// stageFileSystem makes a file system where there is none, mounts it with the options given and no others,
// and grows it when the device is larger, as the EBS and Ceph drivers do after a restore to a larger volume.
func stageFileSystem(device, target, fsType string, flags []string) error {
	there, err := probe(device)
	if err != nil {
		return err
	}
	if fsType == "" {
		fsType = "ext4"
	}
	if there == "" {
		if _, err := run("mkfs."+fsType, mkfsOptions(fsType, device)...); err != nil {
			return err
		}
		there = fsType
	}
	if there == "ext4" {
		if err := growOffline(device); err != nil {
			return err
		}
	}
	if mounted, err := isMounted(target); err != nil {
		return err
	} else if !mounted {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return err
		}
		arguments := []string{"-t", there}
		if len(flags) > 0 {
			arguments = append(arguments, "-o", strings.Join(flags, ","))
		}
		if _, err := run("mount", append(arguments, device, target)...); err != nil {
			return err
		}
	}
	return grow(there, device, target)
}

// growOffline lets an ext4 take the whole device before it is mounted, because growing it mounted wants
// CAP_SYS_RESOURCE, which a test machine may lack. A mounted device is left alone.
func growOffline(device string) error {
	mounted, err := run("findmnt", "--list", "--noheadings", "--output", "SOURCE")
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(mounted), device) {
		return nil
	}
	if out, err := exec.Command("e2fsck", "-f", "-p", device).CombinedOutput(); err != nil {
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() > 1 { // 1: its log was replayed
			return fmt.Errorf("e2fsck %s: %w: %s", device, err, out)
		}
	}
	_, err = run("resize2fs", device)
	return err
}

func mkfsOptions(fsType, device string) []string {
	if fsType == "xfs" {
		return []string{"-q", device}
	}
	return []string{"-q", "-F", "-m0", device}
}

// grow asks the file system to take the whole device. A mounted ext4 is grown when it is staged next.
func grow(fsType, device, target string) error {
	var err error
	switch fsType {
	case "xfs":
		_, err = run("xfs_growfs", "-d", target)
	case "ext4":
		err = growOffline(device)
	}
	return err
}

// probe says which file system a device holds, empty for none.
func probe(device string) (string, error) {
	out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "TYPE", device).Output()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 2 {
		return "", nil
	}
	return strings.TrimSpace(string(out)), err
}

func (d *driver) NodeUnstageVolume(
	_ context.Context, r *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	err := d.state.locked(func() error {
		if err := unmount(r.GetStagingTargetPath()); err != nil {
			return err
		}
		return d.detach(r.GetVolumeId())
	})
	return &csi.NodeUnstageVolumeResponse{}, asStatus(err)
}

func (d *driver) NodePublishVolume(
	_ context.Context, r *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	target := r.GetTargetPath()
	err := d.state.locked(func() error {
		if mounted, err := isMounted(target); err != nil || mounted {
			return err
		}
		source := r.GetStagingTargetPath()
		if r.GetVolumeCapability().GetBlock() != nil {
			device, err := d.attach(r.GetVolumeId())
			if err != nil {
				return err
			}
			source = device
			if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
				return err
			}
			file, err := os.OpenFile(target, os.O_CREATE|os.O_RDWR, 0o660)
			if err != nil {
				return err
			}
			file.Close()
		} else if err := os.MkdirAll(target, 0o750); err != nil {
			return err
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", source, target, err)
		}
		if r.GetReadonly() {
			return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
		return nil
	})
	return &csi.NodePublishVolumeResponse{}, asStatus(err)
}

func (d *driver) NodeUnpublishVolume(
	_ context.Context, r *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	err := d.state.locked(func() error {
		if err := unmount(r.GetTargetPath()); err != nil {
			return err
		}
		if err := os.Remove(r.GetTargetPath()); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	})
	return &csi.NodeUnpublishVolumeResponse{}, asStatus(err)
}

func (d *driver) NodeExpandVolume(
	_ context.Context, r *csi.NodeExpandVolumeRequest,
) (*csi.NodeExpandVolumeResponse, error) {
	var v volume
	if found, err := d.state.load("volumes", r.GetVolumeId(), &v); err != nil || !found {
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	}
	err := d.state.locked(func() error {
		device, err := d.attach(v.ID)
		if err != nil {
			return err
		}
		if _, err := run("losetup", "--set-capacity", device); err != nil {
			return err
		}
		if r.GetVolumeCapability().GetBlock() != nil {
			return nil
		}
		fsType, err := probe(device)
		if err != nil {
			return err
		}
		return grow(fsType, device, r.GetVolumePath())
	})
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, asStatus(err)
}
