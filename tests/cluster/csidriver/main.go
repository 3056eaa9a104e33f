// A CSI driver for tests: volumes are sparse files, snapshots share their extents, and several processes, one
// for each node, serve one state directory as network storage would. See README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// config is what the flags say.
type config struct {
	driverName string
	endpoint   string // path of the CSI socket, without unix://
	nodeID     string
	stateDir   string
	kubeletDir string
	faultsFile string
	register   bool
}

// driver serves the four CSI services of one node.
type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	csi.UnimplementedSnapshotMetadataServer
	config
	state  *state
	faults *faults
}

func newDriver(c config) (*driver, error) {
	s, err := openState(c.stateDir)
	if err != nil {
		return nil, err
	}
	// ControllerPublishVolume, served by any of the processes, knows nodes by these files.
	if err := s.addNode(c.nodeID); err != nil {
		return nil, err
	}
	return &driver{config: c, state: s, faults: &faults{file: c.faultsFile, state: s}}, nil
}

// listen makes the socket, in place of one that a killed process left behind.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// serve answers CSI calls, and the kubelet's registration if wanted, until ctx ends.
func (d *driver) serve(ctx context.Context) error {
	server := grpc.NewServer(grpc.UnaryInterceptor(d.intercept), grpc.StreamInterceptor(d.interceptStream))
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	csi.RegisterSnapshotMetadataServer(server, d)
	socket, err := listen(d.endpoint)
	if err != nil {
		return fmt.Errorf("CSI socket %s: %w", d.endpoint, err)
	}
	servers := []*grpc.Server{server}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(socket) }()
	if d.register {
		registration, path, err := d.registration()
		if err != nil {
			server.Stop()
			return fmt.Errorf("registration socket %s: %w", path, err)
		}
		servers = append(servers, registration.server)
		go func() { ended <- registration.server.Serve(registration.socket) }()
	}
	log.Printf("%s on %s: serving %s from %s", d.driverName, d.nodeID, d.endpoint, d.stateDir)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-ended:
	}
	for _, s := range servers {
		s.Stop()
	}
	return err
}

func parse(arguments []string) (config, error) {
	var c config
	flags := flag.NewFlagSet("csidriver", flag.ContinueOnError)
	flags.StringVar(&c.driverName, "driver-name", "test.csi.blockvault.dev", "name of the driver")
	flags.StringVar(&c.endpoint, "endpoint", "", "unix socket of the CSI services, with or without unix://")
	flags.StringVar(&c.nodeID, "node-id", "", "id of this node")
	flags.StringVar(&c.stateDir, "state-dir", "", "directory of all volumes, shared by the nodes; on XFS with reflink")
	flags.StringVar(&c.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "directory of the kubelet")
	flags.StringVar(&c.faultsFile, "faults-file", "", "JSON file with the faults to make, read at every call")
	flags.BoolVar(&c.register, "register", true, "register with the kubelet")
	if err := flags.Parse(arguments); err != nil {
		return c, err
	}
	c.endpoint = strings.TrimPrefix(c.endpoint, "unix://")
	for name, value := range map[string]string{
		"endpoint": c.endpoint, "node-id": c.nodeID, "state-dir": c.stateDir,
	} {
		if value == "" {
			return c, fmt.Errorf("--%s is needed", name)
		}
	}
	if len(c.nodeID) > maxNodeID || strings.ContainsAny(c.nodeID, "/ ") {
		return c, fmt.Errorf("--node-id %q: at most %d characters, no slash or space", c.nodeID, maxNodeID)
	}
	return c, nil
}

func run(arguments []string) error {
	log.SetFlags(log.Ldate | log.Ltime | log.Lmicroseconds)
	c, err := parse(arguments)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d, err := newDriver(c)
	if err != nil {
		return err
	}
	return d.serve(ctx)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "csidriver:", err)
		os.Exit(1)
	}
}
