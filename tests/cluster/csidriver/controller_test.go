package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

func TestCreateVolumeIsIdempotentByName(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte+1, nil)
	if again := l.b.create("a", mebibyte+1, nil); again != id {
		t.Fatalf("%s and %s have one name", id, again)
	}
	info, err := os.Stat(l.file(id))
	must(t, err)
	if info.Size() != 2*mebibyte || info.Sys() == nil {
		t.Fatalf("%d bytes", info.Size())
	}
	_, err = l.a.tryCreate("a", 4*mebibyte, nil)
	refused(t, err, codes.AlreadyExists, "exists with 2097152 bytes")
	_, err = l.a.tryCreate("a", mebibyte, fromVolume(l.a.create("b", mebibyte, nil)))
	refused(t, err, codes.AlreadyExists, "source")
	for range 2 {
		_, err = l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
		must(t, err)
	}
	if _, err := os.Stat(filepath.Dir(l.file(id))); !os.IsNotExist(err) {
		t.Fatalf("the volume's directory: %v", err)
	}
}

func TestManyCallsForOneNameMakeOneVolume(t *testing.T) {
	l := newLab(t)
	source := l.a.create("source", 8*mebibyte, nil)
	var calls sync.WaitGroup
	for i := range 32 {
		calls.Go(func() {
			n := []*node{l.a, l.b}[i%2]
			if _, err := n.tryCreate("a", 0, fromVolume(source)); err != nil {
				t.Error(err)
			}
			if _, err := n.CreateSnapshot(l.ctx(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: source}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	for kind, wanted := range map[string]int{"volumes": 2, "snapshots": 1, "locks": 0} {
		if found, err := os.ReadDir(filepath.Join(l.state, kind)); err != nil || len(found) != wanted {
			t.Errorf("%s: %v %v", kind, found, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, one := range []struct {
		required, limit, source, size int64
		code                          codes.Code
	}{
		{required: 1, size: mebibyte},
		{required: mebibyte, limit: mebibyte, size: mebibyte},
		{required: mebibyte + 1, limit: mebibyte + 2, code: codes.OutOfRange},
		{size: defaultSize},
		{limit: 3*mebibyte + 1, size: 3 * mebibyte},
		{limit: 1, code: codes.OutOfRange},
		{source: 5 * mebibyte, size: 5 * mebibyte},
		{source: 5 * mebibyte, required: 9 * mebibyte, size: 9 * mebibyte},
		{source: 5 * mebibyte, required: 4 * mebibyte, code: codes.OutOfRange},
		{source: 5 * mebibyte, limit: 4 * mebibyte, code: codes.OutOfRange},
		{required: -1, code: codes.InvalidArgument},
		{required: 2, limit: 1, code: codes.InvalidArgument},
		{required: maxSize + 1, code: codes.OutOfRange},
	} {
		size, err := sizeFor(&csi.CapacityRange{RequiredBytes: one.required, LimitBytes: one.limit}, one.source)
		if size != one.size {
			t.Errorf("%+v: %d", one, size)
		}
		refused(t, err, one.code, "")
	}
}

func TestCapabilitiesThatAreNotServedAreRefused(t *testing.T) {
	l := newLab(t)
	shared := mount("ext4")
	shared.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	for said, one := range map[string]*csi.CreateVolumeRequest{
		"one node only": {VolumeCapabilities: []*csi.VolumeCapability{shared}},
		"btrfs":         {VolumeCapabilities: []*csi.VolumeCapability{mount("btrfs")}},
		"neither":       {VolumeCapabilities: []*csi.VolumeCapability{{}}},
		"no volume cap": {},
		"speed is unkn": {VolumeCapabilities: []*csi.VolumeCapability{block()}, Parameters: map[string]string{"speed": "1"}},
	} {
		one.Name = "a"
		_, err := l.a.CreateVolume(l.ctx(), one)
		refused(t, err, codes.InvalidArgument, said)
	}
}

func TestOneNodeAtATime(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	must(t, l.a.attach(id, block()))
	must(t, l.a.attach(id, block()))
	refused(t, l.a.attach(id, mount("ext4")), codes.AlreadyExists, "attached")
	refused(t, l.b.attach(id, block()), codes.FailedPrecondition, l.a.id)
	refused(t, l.b.attach(id, block(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)), codes.FailedPrecondition, l.a.id)
	_, err := l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	refused(t, err, codes.FailedPrecondition, l.a.id)
	l.a.unattach(id)
	l.a.unattach(id)
	must(t, l.b.attach(id, block()))
	l.b.unattach(id)
	refused(t, (&node{ControllerClient: l.a, lab: l, id: "none"}).attach(id, block()), codes.NotFound, "none")
	refused(t, l.a.attach("vol-none", block()), codes.NotFound, "vol-none")
}

func TestSnapshotsAreListedAndDeleted(t *testing.T) {
	l := newLab(t)
	first, second := l.a.create("a", mebibyte, nil), l.a.create("b", 2*mebibyte, nil)
	one := l.a.snapshot("one", first)
	if again := l.b.snapshot("one", first); again.SnapshotId != one.SnapshotId ||
		!again.CreationTime.AsTime().Equal(one.CreationTime.AsTime()) {
		t.Fatalf("%v and %v", one, again)
	}
	_, err := l.a.CreateSnapshot(l.ctx(), &csi.CreateSnapshotRequest{Name: "one", SourceVolumeId: second})
	refused(t, err, codes.AlreadyExists, first)
	_, err = l.a.CreateSnapshot(l.ctx(), &csi.CreateSnapshotRequest{Name: "x", SourceVolumeId: "vol-none"})
	refused(t, err, codes.NotFound, "vol-none")
	two, three := l.a.snapshot("two", second), l.a.snapshot("three", second)
	list := func(r *csi.ListSnapshotsRequest) []string {
		var ids []string
		for {
			answer, err := l.b.ListSnapshots(l.ctx(), r)
			must(t, err)
			for _, entry := range answer.Entries {
				ids = append(ids, entry.Snapshot.SnapshotId)
			}
			if r.StartingToken = answer.NextToken; r.StartingToken == "" {
				return ids
			}
		}
	}
	if found := list(&csi.ListSnapshotsRequest{SnapshotId: one.SnapshotId}); len(found) != 1 || found[0] != one.SnapshotId {
		t.Errorf("by id: %v", found)
	}
	if found := list(&csi.ListSnapshotsRequest{SnapshotId: "snap-none"}); len(found) != 0 {
		t.Errorf("by an id that is not there: %v", found)
	}
	if found := list(&csi.ListSnapshotsRequest{SourceVolumeId: second}); len(found) != 2 {
		t.Errorf("by volume: %v", found)
	}
	if found := strings.Join(list(&csi.ListSnapshotsRequest{MaxEntries: 2}), " "); len(strings.Fields(found)) != 3 ||
		!strings.Contains(found, two.SnapshotId) || !strings.Contains(found, three.SnapshotId) {
		t.Errorf("in pages: %v", found)
	}
	for range 2 {
		_, err = l.a.DeleteSnapshot(l.ctx(), &csi.DeleteSnapshotRequest{SnapshotId: one.SnapshotId})
		must(t, err)
	}
	_, err = l.a.tryCreate("c", 0, fromSnapshot(one.SnapshotId))
	refused(t, err, codes.NotFound, one.SnapshotId)
}

func TestSnapshotOutlivesItsVolumeAndCloneItsSnapshot(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", 4*mebibyte, nil)
	kept := random(4 * mebibyte)
	must(t, os.WriteFile(l.file(id), kept, 0o600))
	snap := l.a.snapshot("one", id)
	_, err := l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	must(t, err)
	clone := l.a.create("b", 0, fromSnapshot(snap.SnapshotId))
	_, err = l.a.DeleteSnapshot(l.ctx(), &csi.DeleteSnapshotRequest{SnapshotId: snap.SnapshotId})
	must(t, err)
	if !bytes.Equal(read(t, l.file(clone), 0, 4*mebibyte), kept) {
		t.Fatal("the clone's bytes differ")
	}
}

func TestCopyWhereExtentsCannotBeShared(t *testing.T) {
	dir := t.TempDir()
	sh(t, "mount", "-t", "tmpfs", "none", dir)
	t.Cleanup(func() { sh(t, "umount", dir) })
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	file := create(t, from)
	must(t, file.Truncate(64*mebibyte))
	kept := random(mebibyte)
	for _, at := range []int64{0, 17 * mebibyte, 62 * mebibyte} {
		write(t, file, kept, at)
	}
	refused(t, clone(from, to, true), codes.FailedPrecondition, "cannot share extents")
	must(t, clone(from, to, false))
	if !bytes.Equal(read(t, from, 0, 64*mebibyte), read(t, to, 0, 64*mebibyte)) {
		t.Fatal("the copy's bytes differ")
	}
	var s unix.Stat_t
	must(t, unix.Stat(to, &s))
	if s.Blocks*512 > 4*mebibyte || s.Size != 64*mebibyte {
		t.Fatalf("the copy of 3 MiB in 64 takes %d bytes of %d", s.Blocks*512, s.Size)
	}
}

func TestWhatAKilledCallLeftIsTakenForNothing(t *testing.T) {
	l := newLab(t)
	source := l.a.create("source", mebibyte, nil)
	for _, directory := range []string{
		filepath.Dir(l.file(volumeID("a"))), filepath.Join(l.state, "snapshots", snapshotID("s")),
	} {
		must(t, os.Mkdir(directory, 0o755))
		must(t, os.WriteFile(filepath.Join(directory, "data"), random(3*mebibyte), 0o600))
		must(t, os.WriteFile(filepath.Join(directory, "meta.json.new"), []byte("{"), 0o600))
	}
	listed, err := l.a.ListSnapshots(l.ctx(), &csi.ListSnapshotsRequest{})
	must(t, err)
	if len(listed.Entries) != 0 {
		t.Errorf("%v", listed.Entries)
	}
	id := l.a.create("a", mebibyte, nil)
	if !bytes.Equal(read(t, l.file(id), 0, mebibyte), make([]byte, mebibyte)) {
		t.Error("a new volume has old bytes")
	}
	l.a.snapshot("s", source)
}

func TestIdsCannotLeadOutOfTheState(t *testing.T) {
	l := newLab(t)
	outside := filepath.Join(l.dir, "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(meta(outside), []byte(`{"id":"../../../outside"}`), 0o600))
	_, err := l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: "../../../outside"})
	must(t, err)
	_, err = l.a.DeleteSnapshot(l.ctx(), &csi.DeleteSnapshotRequest{SnapshotId: "../../outside"})
	must(t, err)
	if _, err := os.Stat(meta(outside)); err != nil {
		t.Fatal(err)
	}
	refused(t, l.a.attach("../../outside", block()), codes.NotFound, "outside")
}

func TestDriverGoesOnWhereAKilledOneWas(t *testing.T) {
	l := newLab(t)
	endpoint, kubelet := filepath.Join(l.dir, "c.sock"), filepath.Join(l.dir, "kubelet")
	start := func() (*exec.Cmd, *node) {
		id := os.Getenv(nodeMark) + "c"
		process := exec.Command(os.Args[0], "--endpoint=unix://"+endpoint, "--node-id="+id, "--state-dir="+l.state,
			"--kubelet-dir="+kubelet, "--faults-file="+l.faults)
		process.Env = append(os.Environ(), part+"=driver")
		process.Stderr = os.Stderr
		must(t, process.Start())
		t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
		return process, l.connect(endpoint, id)
	}
	process, c := start()
	id := c.create("a", 64*mebibyte, nil)
	path := c.occupy(id, mount("ext4"))
	must(t, os.WriteFile(filepath.Join(path, "file"), []byte("kept"), 0o600))
	must(t, process.Process.Kill())
	_ = process.Wait()
	_, c = start()
	// It knows what the one before had staged, and registers anew.
	must(t, c.stage(id, mount("ext4")))
	must(t, c.publish(id, mount("ext4"), false))
	if found, err := mounts(c.target(id)); err != nil || len(found) != 1 {
		t.Errorf("%v %v", found, err)
	}
	c.leave(id)
	info := registered(t, filepath.Join(kubelet, "plugins_registry", "test.csi.blockvault.dev-reg.sock"))
	if info.Type != "CSIPlugin" || info.Name != "test.csi.blockvault.dev" || info.Endpoint != endpoint ||
		strings.Join(info.SupportedVersions, " ") != "1.0.0" {
		t.Errorf("%v", info)
	}
}

func TestLocksExcludeAndAreNotWaitedForEver(t *testing.T) {
	dir := t.TempDir()
	s, err := openState(dir)
	must(t, err)
	path := filepath.Join(dir, "count")
	must(t, writeJSON(path, 0))
	var calls sync.WaitGroup
	for i := range 16 {
		calls.Go(func() {
			for range 400 {
				unlock, err := s.lock(t.Context(), []string{"a", "b"}[i%2], []string{"b", "a"}[i%2])
				if err != nil {
					t.Error(err)
					return
				}
				var count int
				if err := readJSON(path, &count); err != nil {
					t.Error(err)
				}
				if err := writeJSON(path, count+1); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	calls.Wait()
	var count int
	must(t, readJSON(path, &count))
	if count != 6400 {
		t.Errorf("of 6400 changes one after another %d are left", count)
	}
	unlock, err := s.lock(t.Context(), "a")
	must(t, err)
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.lock(ctx, "b", "a")
	refused(t, err, codes.Aborted, "another call on a")
	free, err := s.lock(t.Context(), "b")
	must(t, err)
	free()
}
