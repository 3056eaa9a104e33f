package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

func random(size int64) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	return data
}

// write puts bytes on a device the way a database does: written, fsynced, the file kept open.
func write(t *testing.T, file *os.File, data []byte, at int64) {
	t.Helper()
	_, err := file.WriteAt(data, at)
	must(t, err)
	must(t, file.Sync())
}

func read(t *testing.T, path string, at, size int64) []byte {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	data := make([]byte, size)
	_, err = file.ReadAt(data, at)
	must(t, err)
	return data
}

func TestSnapshotHoldsWhatWasFsyncedAndNothingLater(t *testing.T) {
	l := newLab(t)
	id := l.a.create("source", 64*mebibyte, nil)
	file, err := os.OpenFile(l.a.use(id, block()), os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	first, second := random(4*mebibyte), random(4*mebibyte)
	write(t, file, first, 8*mebibyte)
	one := l.b.snapshot("one", id) // by another process
	write(t, file, second[:512], 8*mebibyte+512)
	two := l.a.snapshot("two", id)
	write(t, file, second, 8*mebibyte)
	for snap, wanted := range map[*csi.Snapshot][]byte{
		one: first, two: append(append(bytes.Clone(first[:512]), second[:512]...), first[1024:]...),
	} {
		// Larger than the snapshot: the rest is zeros.
		clone := l.a.use(l.a.create("of-"+snap.SnapshotId, 96*mebibyte, fromSnapshot(snap.SnapshotId)), block())
		if !bytes.Equal(read(t, clone, 8*mebibyte, 4*mebibyte), wanted) {
			t.Error("the clone has other bytes than its snapshot's moment")
		}
		if size, err := deviceSize(clone); err != nil || size != 96*mebibyte {
			t.Errorf("the clone's device has %d bytes: %v", size, err)
		}
		if !bytes.Equal(read(t, clone, 64*mebibyte, 32*mebibyte), make([]byte, 32*mebibyte)) {
			t.Error("beyond the snapshot's size the clone is not zero")
		}
	}
	if snap := one; snap.SizeBytes != 64*mebibyte || !snap.ReadyToUse || snap.SourceVolumeId != id {
		t.Errorf("snapshot %v", snap)
	}
}

func TestSectorsStay512AfterASnapshotAndInAClone(t *testing.T) {
	l := newLab(t)
	id := l.a.create("source", 8*mebibyte, nil)
	devices := []string{l.a.use(id, block())}
	clone := l.a.create("clone", 8*mebibyte, fromSnapshot(l.a.snapshot("one", id).SnapshotId))
	devices = append(devices, l.a.use(clone, block()), l.b.use(l.b.create("other", 8*mebibyte, fromVolume(clone)), block()))
	l.a.leave(id) // its file shares extents now
	devices[0] = l.a.use(id, block())
	for _, device := range devices {
		if size := sh(t, "blockdev", "--getss", device); size != "512" {
			t.Errorf("%s: sectors of %s bytes", device, size)
		}
		info, err := loopInfo(loopName(t, device))
		must(t, err)
		t.Logf("direct I/O: %t", info.Flags&unix.LO_FLAGS_DIRECT_IO != 0)
	}
}

// loopName is the loop device (loop7) that a node of any path stands for.
func loopName(t *testing.T, device string) string {
	t.Helper()
	number, err := numberOf(device)
	must(t, err)
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(number), unix.Minor(number)))
	must(t, err)
	return filepath.Base(link)
}

func TestFileSystemIsMadeOnceAndItsImageGrowsInALargerClone(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			id := l.a.create("source", 400*mebibyte, nil)
			path := l.a.use(id, mount(kind))
			kept := random(mebibyte)
			write(t, create(t, filepath.Join(path, "file")), kept, 0)
			snap := l.a.snapshot("one", id) // of a mounted file system with a dirty log

			clone := l.a.create("clone", 800*mebibyte, fromSnapshot(snap.SnapshotId))
			flags := []string{}
			if kind == "xfs" {
				// Its source is mounted on this node: only the CO can say that this is all right.
				must(t, l.a.attach(clone, mount(kind)))
				refused(t, l.a.stage(clone, mount(kind)), codes.Internal, "mount")
				l.a.leave(clone)
				flags = append(flags, "nouuid")
			}
			copied := l.a.use(clone, mount(kind, flags...))
			if !bytes.Equal(read(t, filepath.Join(copied, "file"), 0, mebibyte), kept) {
				t.Error("the file's bytes differ")
			}
			if size := capacity(t, copied); size < 700*mebibyte {
				t.Errorf("the file system has %d bytes on a device of 800 MiB", size)
			}
			// The same bytes as a raw device, on the other node.
			raw := l.b.use(l.b.create("raw", 0, fromSnapshot(snap.SnapshotId)), block())
			if found, err := content(raw); err != nil || found != kind {
				t.Errorf("the raw device holds %q: %v", found, err)
			}
		})
	}
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func capacity(t *testing.T, path string) int64 {
	t.Helper()
	var s unix.Statfs_t
	must(t, unix.Statfs(path, &s))
	return int64(s.Blocks) * s.Bsize
}

func TestOtherContentIsNeverFormatted(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", 400*mebibyte, nil)
	l.a.use(id, mount("xfs"))
	l.a.leave(id)
	must(t, l.a.attach(id, mount("ext4")))
	refused(t, l.a.stage(id, mount("ext4")), codes.FailedPrecondition, "holds xfs")
	l.a.leave(id)
	small := l.a.create("small", 100*mebibyte, nil)
	must(t, l.a.attach(small, mount("xfs")))
	refused(t, l.a.stage(small, mount("xfs")), codes.Internal, "300MB")
	l.a.leave(small)
}

func TestMountHasTheGivenFlagsAndReadOnlyTargets(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", 64*mebibyte, nil)
	c := mount("", "noatime", "commit=7") // ext4 by default
	l.a.use(id, c)
	staged, err := mounts(l.a.staging(id))
	must(t, err)
	if len(staged) != 1 || staged[0].FSType != "ext4" || staged[0].Options != "rw,noatime" ||
		staged[0].VFSOptions != "rw,commit=7" {
		t.Fatalf("%+v", staged[0])
	}
	_, err = l.a.NodeUnpublishVolume(l.ctx(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: l.a.target(id)})
	must(t, err)
	must(t, l.a.publish(id, c, true))
	if err := os.WriteFile(filepath.Join(l.a.target(id), "file"), nil, 0o600); err == nil {
		t.Fatal("a read-only target was written")
	}
	must(t, os.WriteFile(filepath.Join(l.a.staging(id), "file"), nil, 0o600))
}

func TestExpansionWhileInUse(t *testing.T) {
	l := newLab(t)
	expand := func(id string, size int64) error {
		answer, err := l.b.ControllerExpandVolume(l.ctx(), &csi.ControllerExpandVolumeRequest{
			VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		})
		must(t, err)
		if answer.CapacityBytes != size || !answer.NodeExpansionRequired {
			t.Fatalf("%v", answer)
		}
		_, err = l.a.NodeExpandVolume(l.ctx(), &csi.NodeExpandVolumeRequest{
			VolumeId: id, VolumePath: l.a.target(id), StagingTargetPath: l.a.staging(id),
		})
		return err
	}
	raw := l.a.create("raw", 8*mebibyte, nil)
	device := l.a.use(raw, block())
	must(t, expand(raw, 16*mebibyte))
	if size, err := deviceSize(device); err != nil || size != 16*mebibyte {
		t.Errorf("the device has %d bytes: %v", size, err)
	}
	xfs := l.a.create("xfs", 400*mebibyte, nil)
	path := l.a.use(xfs, mount("xfs"))
	must(t, expand(xfs, 800*mebibyte))
	if size := capacity(t, path); size < 700*mebibyte {
		t.Errorf("the XFS has %d bytes", size)
	}
	ext4 := l.a.create("ext4", 64*mebibyte, nil)
	path = l.a.use(ext4, mount("ext4"))
	if err := expand(ext4, 128*mebibyte); err != nil {
		refused(t, err, codes.FailedPrecondition, "CAP_SYS_RESOURCE")
		l.a.leave(ext4)
		l.a.use(ext4, mount("ext4"))
	}
	if size := capacity(t, path); size < 100*mebibyte {
		t.Errorf("the ext4 has %d bytes", size)
	}
}

func TestNodeKeepsToWhatIsAttached(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	refused(t, l.a.stage(id, block()), codes.FailedPrecondition, "not attached")
	must(t, l.b.attach(id, block()))
	refused(t, l.a.stage(id, block()), codes.FailedPrecondition, "not attached")
	refused(t, l.b.stage(id, mount("ext4")), codes.FailedPrecondition, "attached")
	refused(t, l.b.publish(id, block(), false), codes.FailedPrecondition, "not staged")
	refused(t, l.a.stage("vol-none", block()), codes.NotFound, "vol-none")
	l.b.leave(id)
	l.b.leave("vol-none")
}

func TestSharedBlockVolumeOnTwoNodes(t *testing.T) {
	l := newLab(t)
	c := block(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)
	id := l.a.create("a", 8*mebibyte, nil)
	paths := []string{l.a.use(id, c), l.b.use(id, c)}
	if loopName(t, paths[0]) == loopName(t, paths[1]) {
		t.Fatal("two nodes use one loop device")
	}
	file, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	must(t, err)
	data := random(mebibyte)
	write(t, file, data, 0)
	must(t, file.Close())
	if !bytes.Equal(read(t, paths[1], 0, mebibyte), data) {
		t.Fatal("the other node reads other bytes")
	}
	l.a.leave(id)
	if left, err := loops(l.file(id), l.b.id); err != nil || len(left) != 1 {
		t.Fatalf("one node took the other's device away: %v %v", left, err)
	}
}

func TestUnstageSaysWhenTheDeviceIsStillInUse(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	l.a.use(id, block())
	// As kubelet does, which holds a block volume by one more loop device.
	device, err := os.Open("/dev/" + loopName(t, l.a.target(id)))
	must(t, err)
	_, err = l.a.NodeUnpublishVolume(l.ctx(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: l.a.target(id)})
	must(t, err)
	_, err = l.a.NodeUnstageVolume(l.ctx(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: l.a.staging(id)})
	refused(t, err, codes.Internal, "still in use")
	must(t, device.Close())
	l.a.leave(id)
}

func TestLoopOfALostNodeGoesWithItsVolume(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	must(t, l.b.attach(id, block()))
	must(t, l.b.stage(id, block()))
	l.b.unattach(id) // forced, since the node is lost
	left, err := loops(l.file(id), "")
	must(t, err)
	_, err = l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	must(t, err)
	if len(left) != 1 {
		t.Fatalf("loop devices of the lost node: %v", left)
	}
	if backing, err := os.ReadFile("/sys/block/" + left[0] + "/loop/backing_file"); err == nil &&
		strings.Contains(string(backing), id) {
		t.Fatalf("%s is left over %s", left[0], backing)
	}
}
