package main

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	mebibyte    = int64(1) << 20
	defaultSize = int64(1) << 30
	// maxSize leaves room for rounding; an XFS file could be larger still.
	maxSize = int64(1) << 50
)

// fileSystems are those that a node can make, mount and grow.
var fileSystems = []string{"ext4", "xfs"}

// modeOf translates a capability; INVALID_ARGUMENT if the driver does not serve it.
func modeOf(c *csi.VolumeCapability) (mode, error) {
	var m mode
	switch {
	case c.GetBlock() != nil:
		m.Block = true
	case c.GetMount() == nil:
		return m, status.Error(codes.InvalidArgument, "a volume capability says neither block nor mount")
	case c.GetMount().FsType != "" && !slices.Contains(fileSystems, c.GetMount().FsType):
		return m, status.Errorf(codes.InvalidArgument, "file system %q: only %v", c.GetMount().FsType, fileSystems)
	}
	switch access := c.GetAccessMode().GetMode(); access {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		if !m.Block {
			return m, status.Errorf(codes.InvalidArgument, "%s: a file system can be used on one node only", access)
		}
		m.Shared = true
	default:
		return m, status.Errorf(codes.InvalidArgument, "access mode %s is not served", access)
	}
	return m, nil
}

func checkCapabilities(all []*csi.VolumeCapability) error {
	if len(all) == 0 {
		return status.Error(codes.InvalidArgument, "no volume capabilities")
	}
	for _, one := range all {
		if _, err := modeOf(one); err != nil {
			return err
		}
	}
	return nil
}

// sizeFor is the size in bytes for a wanted range, at least that of the source; whole mebibytes.
func sizeFor(wanted *csi.CapacityRange, source int64) (int64, error) {
	required, limit := wanted.GetRequiredBytes(), wanted.GetLimitBytes()
	if required < 0 || limit < 0 || (limit > 0 && limit < required) {
		return 0, status.Errorf(codes.InvalidArgument, "capacity range %d..%d", required, limit)
	}
	size := required
	switch {
	case required > maxSize:
		return 0, status.Errorf(codes.OutOfRange, "%d bytes: at most %d", required, maxSize)
	case required > 0 && required < source:
		return 0, status.Errorf(codes.OutOfRange, "%d bytes: the source has %d", required, source)
	case required == 0 && source > 0:
		size = source
	case required == 0 && limit > 0:
		size = max(min(defaultSize, limit/mebibyte*mebibyte), mebibyte)
	case required == 0:
		size = defaultSize
	}
	size = (size + mebibyte - 1) / mebibyte * mebibyte
	if limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange,
			"%d bytes, the least possible here, are over the limit of %d", size, limit)
	}
	return size, nil
}

// fits says whether an existing volume is within a wanted range.
func fits(size int64, wanted *csi.CapacityRange) bool {
	return size >= wanted.GetRequiredBytes() && (wanted.GetLimitBytes() == 0 || size <= wanted.GetLimitBytes())
}
