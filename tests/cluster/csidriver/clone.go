package main

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// clone makes a file with the content of another at one point in time by sharing its extents. On a file system
// that cannot, it copies, unless inUse says that the source may be written meanwhile: that copy would be of no
// point in time.
func clone(from, to string, inUse bool) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer target.Close()
	// What a loop device without direct I/O left in the page cache; FICLONE does it too, but holds up writers.
	const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(source.Fd()), 0, 0, flags); err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EXDEV) {
		if inUse {
			return status.Errorf(codes.FailedPrecondition,
				"%s is in use and its file system cannot share extents: no snapshot of one point in time "+
					"(put --state-dir on XFS with reflink)", from)
		}
		err = copyData(source, target)
	}
	if err != nil {
		return &os.PathError{Op: "clone to " + to, Path: from, Err: err}
	}
	return target.Close()
}

// copyData copies what is not a hole.
func copyData(source, target *os.File) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for position := int64(0); ; {
		start, end, err := nextData(source, position)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		position = end
		for in, out := start, start; in < end; {
			n, err := unix.CopyFileRange(int(source.Fd()), &in, int(target.Fd()), &out, int(end-in), 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return errors.New("file became shorter while it was copied")
			}
		}
	}
}
