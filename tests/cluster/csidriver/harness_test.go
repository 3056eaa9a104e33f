package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The test binary plays three parts: it is started as the first, which starts itself as the second in a mount
// namespace of its own and cleans up after it whatever its end; tests start it as the driver too.
const (
	part     = "CSIDRIVER_TEST_PART"
	nodeMark = "CSIDRIVER_TEST_NODES" // what all node ids of this run begin with
)

func TestMain(m *testing.M) {
	switch os.Getenv(part) {
	case "driver":
		main()
	case "tests":
		if flag.Parse(); !testing.Verbose() {
			log.SetOutput(io.Discard)
		}
		os.Exit(m.Run())
	default:
		os.Exit(supervise())
	}
}

func supervise() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "loop devices and mounts need root: run these tests as root")
		return 1
	}
	scratch, err := os.MkdirTemp("", "csi-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	mark := fmt.Sprintf("csi-test-%d-", os.Getpid())
	tests := exec.Command(os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), part+"=tests", nodeMark+"="+mark, "TMPDIR="+scratch)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Mounts vanish with the namespace, and the XFS under the volumes with its last loop device.
	tests.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = tests.Run()
	left, _ := filepath.Glob("/sys/block/loop*/loop")
	for _, one := range left {
		name := strings.Split(one, "/")[3]
		info, statusErr := loopInfo(name)
		if statusErr == nil && strings.HasPrefix(unix.ByteSliceToString(info.File_name[:]), mark) {
			err = errors.Join(err, fmt.Errorf("left behind: %s", name), end(name))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lab is a state directory on XFS with two drivers that serve it, each behind its real socket.
type lab struct {
	t      *testing.T
	dir    string
	state  string
	faults string
	a, b   *node
}

// node is the clients of one driver.
type node struct {
	csi.IdentityClient
	csi.ControllerClient
	csi.NodeClient
	csi.SnapshotMetadataClient
	lab *lab
	id  string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // short, since a socket's path has 107 characters at most
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	l := &lab{t: t, dir: dir, state: filepath.Join(dir, "state"), faults: filepath.Join(dir, "faults.json")}
	image := filepath.Join(dir, "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 8<<30))
	must(t, os.Mkdir(l.state, 0o755))
	sh(t, "mkfs.xfs", "-q", "-m", "reflink=1", image)
	sh(t, "mount", "-o", "loop", image, l.state)
	t.Cleanup(func() { sh(t, "umount", l.state) })
	l.a, l.b = l.start("a"), l.start("b")
	return l
}

// start serves one more node of the lab until the test ends.
func (l *lab) start(name string) *node {
	l.t.Helper()
	c := config{
		driverName: "test.csi.blockvault.dev",
		endpoint:   filepath.Join(l.dir, name+".sock"),
		nodeID:     os.Getenv(nodeMark) + name,
		stateDir:   l.state,
		faultsFile: l.faults,
	}
	d, err := newDriver(c)
	must(l.t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.serve(ctx) }()
	l.t.Cleanup(func() { stop(); must(l.t, <-ended) })
	return l.connect(c.endpoint, c.nodeID)
}

func (l *lab) connect(endpoint, id string) *node {
	l.t.Helper()
	connection, err := grpc.NewClient("unix://"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	must(l.t, err)
	l.t.Cleanup(func() { connection.Close() })
	n := &node{
		IdentityClient: csi.NewIdentityClient(connection), ControllerClient: csi.NewControllerClient(connection),
		NodeClient: csi.NewNodeClient(connection), SnapshotMetadataClient: csi.NewSnapshotMetadataClient(connection),
		lab: l, id: id,
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := n.Probe(l.ctx(), &csi.ProbeRequest{})
		if err == nil {
			return n
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s does not answer: %v", endpoint, err)
		}
	}
}

func (l *lab) ctx() context.Context { return l.t.Context() }

func (l *lab) plan(text string) {
	l.t.Helper()
	must(l.t, os.WriteFile(l.faults+".new", []byte(text), 0o600))
	must(l.t, os.Rename(l.faults+".new", l.faults))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, wanted codes.Code, said string) {
	t.Helper()
	if status.Code(err) != wanted || !strings.Contains(status.Convert(err).Message(), said) {
		t.Fatalf("wanted %s with %q, got: %v", wanted, said, err)
	}
}

func sh(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	said, err := command(name, arguments...)
	must(t, err)
	return said
}

func block(modes ...csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	access := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	if len(modes) > 0 {
		access = modes[0]
	}
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: access},
	}
}

func mount(kind string, flags ...string) *csi.VolumeCapability {
	c := block()
	c.AccessType = &csi.VolumeCapability_Mount{
		Mount: &csi.VolumeCapability_MountVolume{FsType: kind, MountFlags: flags},
	}
	return c
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id},
	}}
}

func (n *node) tryCreate(name string, size int64, source *csi.VolumeContentSource) (*csi.Volume, error) {
	answer, err := n.CreateVolume(n.lab.ctx(), &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		VolumeCapabilities: []*csi.VolumeCapability{block()}, VolumeContentSource: source,
	})
	return answer.GetVolume(), err
}

func (n *node) create(name string, size int64, source *csi.VolumeContentSource) string {
	n.lab.t.Helper()
	v, err := n.tryCreate(name, size, source)
	must(n.lab.t, err)
	return v.VolumeId
}

func (n *node) snapshot(name, volume string) *csi.Snapshot {
	n.lab.t.Helper()
	answer, err := n.CreateSnapshot(n.lab.ctx(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	must(n.lab.t, err)
	return answer.Snapshot
}

func (n *node) attach(id string, c *csi.VolumeCapability) error {
	_, err := n.ControllerPublishVolume(n.lab.ctx(), &csi.ControllerPublishVolumeRequest{
		VolumeId: id, NodeId: n.id, VolumeCapability: c,
	})
	return err
}

func (n *node) unattach(id string) {
	n.lab.t.Helper()
	_, err := n.ControllerUnpublishVolume(context.Background(), &csi.ControllerUnpublishVolumeRequest{
		VolumeId: id, NodeId: n.id,
	})
	must(n.lab.t, err)
}

func (n *node) staging(id string) string { return filepath.Join(n.lab.dir, n.id+"-staging-"+id) }
func (n *node) target(id string) string  { return filepath.Join(n.lab.dir, n.id+"-target", id) }

func (n *node) stage(id string, c *csi.VolumeCapability) error {
	_, err := n.NodeStageVolume(n.lab.ctx(), &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), VolumeCapability: c,
	})
	return err
}

func (n *node) publish(id string, c *csi.VolumeCapability, readonly bool) error {
	_, err := n.NodePublishVolume(n.lab.ctx(), &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), TargetPath: n.target(id), VolumeCapability: c,
		Readonly: readonly,
	})
	return err
}

// use attaches, stages and publishes a volume, each twice as a CO may, and returns the pod's path.
func (n *node) use(id string, c *csi.VolumeCapability) string {
	n.lab.t.Helper()
	n.lab.t.Cleanup(func() { n.leave(id) })
	return n.occupy(id, c)
}

// occupy is use by a node that is not there any more when the test ends.
func (n *node) occupy(id string, c *csi.VolumeCapability) string {
	n.lab.t.Helper()
	for range 2 {
		must(n.lab.t, n.attach(id, c))
		must(n.lab.t, n.stage(id, c))
		must(n.lab.t, n.publish(id, c, false))
	}
	return n.target(id)
}

// leave undoes use, or whatever of it was done, twice.
func (n *node) leave(id string) {
	n.lab.t.Helper()
	ctx := context.Background()
	for range 2 {
		_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: n.target(id)})
		must(n.lab.t, err)
		_, err = n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id)})
		must(n.lab.t, err)
		n.unattach(id)
	}
	if _, err := os.Stat(n.target(id)); err == nil {
		n.lab.t.Errorf("%s is left", n.target(id))
	}
	if left, err := loops(n.lab.file(id), n.id); err == nil && len(left) > 0 {
		n.lab.t.Errorf("%v is left over %s", left, id)
	}
}

func (l *lab) file(id string) string { return filepath.Join(l.state, "volumes", id, "data") }
