package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSharedExtentsAreNotRead(t *testing.T) {
	l := newLab(t)
	const size = 64 * mebibyte
	id, device := l.volumeInUse(size)
	write(t, device, random(size), 0)
	base := l.a.snapshot("base", id).SnapshotId
	write(t, device, random(512), 7*mebibyte)
	target := l.a.snapshot("target", id).SnapshotId
	var files [2]*os.File
	for i, one := range []string{base, target} {
		var err error
		files[i], err = os.Open(filepath.Join(l.state, "snapshots", one, "data"))
		must(t, err)
		defer files[i].Close()
	}
	var found []piece
	compared, err := difference(l.ctx(), files[0], files[1], 0, size, func(offset, length int64) error {
		found = append(found, piece{offset, length})
		return nil
	})
	must(t, err)
	equal(t, found, []piece{{7 * mebibyte, blockSize}})
	if compared > mebibyte {
		t.Fatalf("%d bytes were compared", compared)
	}
}

// Extents of 1 KiB begin within blocks; tmpfs does not say where the bytes of a file lie, so that all are compared.
func TestDeltaOnOtherFileSystems(t *testing.T) {
	const size = 5 * mebibyte
	for kind, allRead := range map[string]bool{"xfs": false, "tmpfs": true} {
		t.Run(kind, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "")
			must(t, err)
			image := dir + ".image"
			t.Cleanup(func() { must(t, errors.Join(os.RemoveAll(dir), os.RemoveAll(image))) })
			if kind == "xfs" {
				must(t, os.WriteFile(image, nil, 0o600))
				must(t, os.Truncate(image, 400*mebibyte))
				sh(t, "mkfs.xfs", "-q", "-b", "size=1024", "-m", "reflink=1", image)
				sh(t, "mount", "-o", "loop", image, dir)
			} else {
				sh(t, "mount", "-t", "tmpfs", "tmpfs", dir)
			}
			t.Cleanup(func() { sh(t, "umount", dir) })
			a := append(make([]byte, mebibyte), append(random(2*mebibyte), make([]byte, 2*mebibyte)...)...)
			paths := [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
			must(t, os.WriteFile(paths[0], nil, 0o600))
			must(t, os.Truncate(paths[0], size))
			file, err := os.OpenFile(paths[0], os.O_RDWR, 0)
			must(t, err)
			write(t, file, a[mebibyte:3*mebibyte], mebibyte)
			must(t, file.Close())
			must(t, clone(paths[0], paths[1], false))
			b := slices.Clone(a)
			file, err = os.OpenFile(paths[1], os.O_RDWR, 0)
			must(t, err)
			for _, at := range []int64{
				0, 4095, 9 * 1024, mebibyte - 1, mebibyte + 1023, mebibyte + 9*1024, 2*mebibyte + 4096, 3 * mebibyte, size - 1,
			} {
				b[at]++
				write(t, file, b[at:at+1], at)
			}
			must(t, file.Close())
			var files [2]*os.File
			for i, path := range paths {
				files[i], err = os.Open(path)
				must(t, err)
				defer files[i].Close()
			}
			for _, from := range []int64{0, 4095, 5000, 3 * mebibyte, size - 1} {
				var told []piece
				te := &teller{capacity: size, from: from, most: 10, send: func(m message) error {
					for _, one := range m.tuples {
						told = append(told, piece{one.ByteOffset, one.SizeBytes})
					}
					return nil
				}}
				compared, err := difference(t.Context(), files[0], files[1], te.start(), size, te.found)
				must(t, err)
				must(t, te.end())
				if all := size - floor(from); allRead != (compared == all) && all > mebibyte {
					t.Errorf("%d of %d bytes compared", compared, all)
				}
				equal(t, told, after(differing(a, b), from))
			}
		})
	}
}
