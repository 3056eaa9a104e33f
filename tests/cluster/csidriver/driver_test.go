package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// rig is the driver behind its real socket, on an XFS with reflinks.
type rig struct {
	t          *testing.T
	dir        string
	faults     string
	controller csi.ControllerClient
	node       csi.NodeClient
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loop devices and mounts need root")
	}
	dir := t.TempDir()
	image, state := filepath.Join(dir, "xfs.img"), filepath.Join(dir, "state")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 8<<30))
	must(t, os.Mkdir(state, 0o700))
	sh(t, "mkfs.xfs", "-q", image)
	sh(t, "mount", "-o", "loop", image, state)
	t.Cleanup(func() { sh(t, "umount", "-l", state) })
	r := &rig{t: t, dir: dir, faults: filepath.Join(dir, "faults.json")}
	socket := filepath.Join(dir, "csi.sock")
	end, err := serve(options{
		endpoint: socket, nodeID: "node1", stateDir: state, faultsFile: r.faults, name: "test.csi.blockvault.dev",
	})
	must(t, err)
	t.Cleanup(end)
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { connection.Close() })
	r.controller, r.node = csi.NewControllerClient(connection), csi.NewNodeClient(connection)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	out, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, arguments, err, out)
	}
	return string(out)
}

func block() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func mount(fsType string, flags ...string) *csi.VolumeCapability {
	c := block()
	c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}}
	return c
}

func (r *rig) create(name string, size int64, source *csi.VolumeContentSource) string {
	r.t.Helper()
	answer, err := r.controller.CreateVolume(context.Background(), &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		VolumeCapabilities: []*csi.VolumeCapability{block()}, VolumeContentSource: source,
	})
	must(r.t, err)
	return answer.Volume.VolumeId
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}}
}

func (r *rig) snapshot(name, volume string) *csi.Snapshot {
	r.t.Helper()
	answer, err := r.controller.CreateSnapshot(context.Background(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	must(r.t, err)
	return answer.Snapshot
}

// use stages and publishes a volume and returns the published path; it is undone at the test's end.
func (r *rig) use(id string, c *csi.VolumeCapability) (string, error) {
	r.t.Helper()
	ctx := context.Background()
	staging, target := filepath.Join(r.dir, "staging-"+id), filepath.Join(r.dir, "target-"+id)
	r.t.Cleanup(func() {
		_, err := r.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
		must(r.t, err)
		_, err = r.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
		must(r.t, err)
		if out := sh(r.t, "losetup", "--list"); strings.Contains(out, id) {
			r.t.Errorf("a loop device of %s is left: %s", id, out)
		}
	})
	for range 2 { // twice is the same as once
		if _, err := r.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: c}); err != nil {
			return "", err
		}
		if _, err := r.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: c}); err != nil {
			return "", err
		}
	}
	return target, nil
}

func code(err error) codes.Code { return status.Code(err) }

func TestCreationIsIdempotentAndRounded(t *testing.T) {
	r := newRig(t)
	first, second := r.create("a", mib+1, nil), r.create("a", mib+1, nil)
	if first != second {
		t.Fatalf("%s and %s", first, second)
	}
	info, err := os.Stat(filepath.Join(r.dir, "state", "volumes", first, "data"))
	must(t, err)
	if info.Size() != 2*mib {
		t.Fatalf("%d bytes", info.Size())
	}
	_, err = r.controller.CreateVolume(context.Background(), &csi.CreateVolumeRequest{
		Name: "a", CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30}, VolumeCapabilities: []*csi.VolumeCapability{block()},
	})
	if code(err) != codes.AlreadyExists {
		t.Fatalf("a larger one under the same name: %v", err)
	}
}

func TestFlushedBytesAreInTheSnapshotAndItsClone(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	id := r.create("source", 64*mib, nil)
	device, err := r.use(id, block())
	must(t, err)
	data := make([]byte, 4*mib)
	_, _ = rand.Read(data)
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	must(t, err)
	defer file.Close() // it stays open while the snapshot is taken, as a database's file would
	_, err = file.WriteAt(data, 8*mib)
	must(t, err)
	must(t, file.Sync())
	snap := r.snapshot("s", id)
	if again := r.snapshot("s", id); again.SnapshotId != snap.SnapshotId || !again.ReadyToUse {
		t.Fatalf("%v and %v", snap, again)
	}
	_, err = file.WriteAt(make([]byte, mib), 8*mib)
	must(t, err)
	must(t, file.Sync())
	_, err = r.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: "small", CapacityRange: &csi.CapacityRange{RequiredBytes: mib, LimitBytes: mib},
		VolumeCapabilities: []*csi.VolumeCapability{block()}, VolumeContentSource: fromSnapshot(snap.SnapshotId),
	})
	if code(err) != codes.OutOfRange {
		t.Fatalf("a clone smaller than the snapshot: %v", err)
	}
	clone, err := r.use(r.create("clone", 128*mib, fromSnapshot(snap.SnapshotId)), block())
	must(t, err)
	content, err := os.ReadFile(clone)
	must(t, err)
	if len(content) != int(128*mib) || !bytes.Equal(content[8*mib:12*mib], data) {
		t.Fatal("the clone has other bytes than the snapshot's moment")
	}
}

func TestFileSystemsAreMadeOnceGrownAndMountedWithGivenOptionsOnly(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			r := newRig(t)
			id := r.create("source", 400*mib, nil)
			target, err := r.use(id, mount(fsType))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(target, "file"), []byte("kept"), 0o600))
			sh(t, "sync", "-f", target)
			clone := r.create("clone", 800*mib, fromSnapshot(r.snapshot("s", id).SnapshotId))
			_, err = r.use(clone, mount(fsType))
			if fsType == "xfs" {
				if err == nil {
					t.Fatal("a second copy of one XFS was mounted without nouuid: the driver adds options of its own")
				}
				_, err = r.use(clone, mount(fsType, "nouuid"))
			}
			must(t, err)
			copied := filepath.Join(r.dir, "target-"+clone)
			content, err := os.ReadFile(filepath.Join(copied, "file"))
			must(t, err)
			if string(content) != "kept" {
				t.Fatalf("%q", content)
			}
			if size := strings.TrimSpace(strings.Split(sh(t, "df", "-BM", "--output=size", copied), "\n")[1]); len(size) < 4 || size < "700M" {
				t.Fatalf("the file system was not grown: %s", size)
			}
		})
	}
}

func TestOneWriterNodeAtATime(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	id := r.create("a", mib, nil)
	publish := func(node string) error {
		_, err := r.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: node, VolumeCapability: block()})
		return err
	}
	must(t, publish("node1"))
	must(t, publish("node1"))
	if code(publish("node2")) != codes.FailedPrecondition {
		t.Fatal("two nodes write one volume")
	}
	if _, err := r.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); code(err) != codes.FailedPrecondition {
		t.Fatalf("an attached volume was deleted: %v", err)
	}
	_, err := r.controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: "node1"})
	must(t, err)
	must(t, publish("node2"))
}

func TestFaultsOnDemand(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	id := r.create("a", mib, nil)
	must(t, os.WriteFile(r.faults, []byte(`{"CreateSnapshot": {"error": "UNAVAILABLE", "message": "no quota", "times": 2}}`), 0o600))
	for try := range 3 {
		_, err := r.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
		if want := []codes.Code{codes.Unavailable, codes.Unavailable, codes.OK}[try]; code(err) != want {
			t.Fatalf("call %d: %v, wanted %s", try, err, want)
		}
	}
	must(t, os.WriteFile(r.faults, []byte(`{"snapshotReadySeconds": 2, "DeleteSnapshot": {"after": true, "times": 1}}`), 0o600))
	late := r.snapshot("late", id)
	if late.ReadyToUse {
		t.Fatal("ready at once")
	}
	time.Sleep(2100 * time.Millisecond)
	if !r.snapshot("late", id).ReadyToUse {
		t.Fatal("never ready")
	}
	if _, err := r.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: late.SnapshotId}); code(err) != codes.Unavailable {
		t.Fatalf("the answer was not lost: %v", err)
	}
	listed, err := r.controller.ListSnapshots(ctx, &csi.ListSnapshotsRequest{SnapshotId: late.SnapshotId})
	must(t, err)
	if len(listed.Entries) != 0 {
		t.Fatal("the call whose answer was lost had no effect")
	}
}
