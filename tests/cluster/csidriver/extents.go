package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
)

// blockSize is the unit of block metadata: what changed or is allocated is told in whole blocks of so many bytes.
const blockSize = int64(4096)

// chunk is how much of two files is compared at a time, in bytes; whole blocks.
const chunk = 256 * blockSize

func floor(position int64) int64 { return position / blockSize * blockSize }
func ceil(position int64) int64  { return floor(position + blockSize - 1) }

// nextData returns the next stretch of a file, from a position on, that is not a hole; io.EOF if only holes follow.
func nextData(file *os.File, position int64) (start, end int64, err error) {
	start, err = unix.Seek(int(file.Fd()), position, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err == nil {
		end, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE)
	}
	return start, end, err
}

// allocated calls found for every stretch of a file, from a position on, that is not a hole.
func allocated(ctx context.Context, file *os.File, from int64, found func(offset, length int64) error) error {
	for position := from; ; {
		start, end, err := nextData(file, position)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && ctx.Err() != nil {
			err = status.FromContextError(ctx.Err()).Err()
		}
		if err == nil {
			err = found(floor(start), ceil(end)-floor(start))
		}
		if err != nil {
			return err
		}
		position = end
	}
}

// extent is a stretch of a file that lies in one piece on its file system.
type extent struct {
	logical, physical, length int64 // bytes
	opaque                    bool  // its place does not tell its content
}

func (e *extent) end() int64 { return e.logical + e.length }

// From linux/fiemap.h.
const (
	fsIocFiemap = 0xC020660B
	fiemapSync  = 0x1
	extentLast  = 0x1
	// Unknown, not yet placed, encoded, encrypted, not aligned, inline, tail, reserved but never written.
	extentOpaque = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
)

type fiemap struct {
	start, length                  uint64
	flags, mapped, count, reserved uint32
	extents                        [512]struct {
		logical, physical, length uint64
		reserved                  [2]uint64
		flags                     uint32
		reservedToo               [3]uint32
	}
}

// extents lists the extents of a file in their order, without holes. Where the file system does not tell, it is one
// opaque extent.
func extents(file *os.File) ([]extent, error) {
	var found []extent
	for position := uint64(0); ; {
		request := fiemap{start: position, length: math.MaxUint64 - position, flags: fiemapSync}
		request.count = uint32(len(request.extents))
		_, _, number := unix.Syscall(unix.SYS_IOCTL, file.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&request)))
		if number == unix.EOPNOTSUPP || number == unix.ENOTTY {
			return []extent{{length: math.MaxInt64, opaque: true}}, nil
		}
		if number != 0 {
			return nil, &os.PathError{Op: "fiemap", Path: file.Name(), Err: number}
		}
		if request.mapped == 0 {
			return found, nil
		}
		for _, one := range request.extents[:request.mapped] {
			position = one.logical + one.length
			found = append(found, extent{
				logical: int64(one.logical), physical: int64(one.physical), length: int64(one.length),
				opaque: one.flags&extentOpaque != 0,
			})
			if one.flags&extentLast != 0 {
				return found, nil
			}
		}
	}
}

// cursor goes over extents in their order.
type cursor struct{ rest []extent }

// at returns the extent at a position that only ever grows, nil in a hole, and where that extent or hole ends.
func (c *cursor) at(position int64) (*extent, int64) {
	for len(c.rest) > 0 && c.rest[0].end() <= position {
		c.rest = c.rest[1:]
	}
	switch {
	case len(c.rest) == 0:
		return nil, math.MaxInt64
	case position < c.rest[0].logical:
		return nil, c.rest[0].logical
	}
	return &c.rest[0], c.rest[0].end()
}

// shared says that two files have the same bytes at a position, by where they lie.
func shared(x, y *extent, position int64) bool {
	if x == nil || y == nil {
		return x == y // two holes
	}
	return !x.opaque && !y.opaque && position-x.logical+x.physical == position-y.logical+y.physical
}

// difference calls found for every stretch of blocks, from that of a position on, in which target differs from base;
// behind its end, base is as a hole. Only what does not share its extents is read. Returns how many bytes were
// compared.
func difference(
	ctx context.Context, base, target *os.File, from, size int64, found func(offset, length int64) error,
) (int64, error) {
	var cursors [2]cursor
	for i, file := range []*os.File{base, target} {
		list, err := extents(file)
		if err != nil {
			return 0, err
		}
		cursors[i].rest = list
	}
	compared, done := int64(0), floor(from)
	for position := floor(from); position < size; {
		x, xEnd := cursors[0].at(position)
		y, yEnd := cursors[1].at(position)
		end := min(xEnd, yEnd, size)
		if !shared(x, y, position) {
			// A block is compared whole, and once, if an extent begins inside of it.
			start, stop := max(floor(position), done), min(ceil(end), size)
			if err := compare(ctx, base, target, start, stop, found); err != nil {
				return compared, err
			}
			compared, done = compared+stop-start, stop
		}
		position = end
	}
	return compared, nil
}

// compare calls found for every block between two positions in which the files differ.
func compare(
	ctx context.Context, base, target *os.File, start, end int64, found func(offset, length int64) error,
) error {
	var buffers [2][]byte
	for ; start < end; start += chunk {
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		length := min(chunk, end-start)
		for i, file := range []*os.File{base, target} {
			buffers[i] = make([]byte, length) // zeros behind a file's end
			if _, err := file.ReadAt(buffers[i], start); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		for at := int64(0); at < length; at += blockSize {
			next := min(at+blockSize, length)
			if bytes.Equal(buffers[0][at:next], buffers[1][at:next]) {
				continue
			}
			if err := found(start+at, next-at); err != nil {
				return err
			}
		}
	}
	return nil
}
