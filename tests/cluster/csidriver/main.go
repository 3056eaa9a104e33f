// A CSI driver for tests: real protocol, real bytes, no cluster storage needed. See README.md.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const version = "1.0.0"

type options struct {
	endpoint, nodeID, stateDir, kubeletDir, faultsFile, name string
	register                                                 bool
}

func main() {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "", "path of the CSI socket")
	flag.StringVar(&o.nodeID, "node-id", "", "name of the node")
	flag.StringVar(&o.stateDir, "state-dir", "", "directory of volumes and snapshots; processes of several nodes share it")
	flag.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "root directory of the kubelet")
	flag.StringVar(&o.faultsFile, "faults-file", "", "JSON file of faults, read at every call")
	flag.StringVar(&o.name, "driver-name", "test.csi.blockvault.dev", "name of the driver")
	flag.BoolVar(&o.register, "register", true, "register with the kubelet")
	flag.Parse()
	o.endpoint = strings.TrimPrefix(o.endpoint, "unix://")
	if o.endpoint == "" || o.nodeID == "" || o.stateDir == "" {
		log.Fatal("--endpoint, --node-id and --state-dir are needed")
	}
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	end, err := serve(o)
	if err != nil {
		log.Fatal(err)
	}
	<-stop
	end()
}

// serve starts the driver; the function returned stops it.
func serve(o options) (func(), error) {
	state, err := openState(o.stateDir)
	if err != nil {
		return nil, err
	}
	faults := &faults{file: o.faultsFile}
	driver := &driver{options: o, state: state, faults: faults}
	server := grpc.NewServer(grpc.UnaryInterceptor(faults.intercept))
	csi.RegisterIdentityServer(server, driver)
	csi.RegisterControllerServer(server, driver)
	csi.RegisterNodeServer(server, driver)
	listener, err := listen(o.endpoint)
	if err != nil {
		return nil, err
	}
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	end := server.Stop
	if o.register {
		registration, err := startRegistration(o)
		if err != nil {
			server.Stop()
			return nil, err
		}
		end = func() { registration(); server.Stop() }
	}
	log.Printf("%s %s serves %s on node %s", o.name, version, o.endpoint, o.nodeID)
	return end, nil
}

// listen takes over a socket path; what a killed process left there goes.
func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", socket)
}

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	options options
	state   *state
	faults  *faults
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.options.name, VendorVersion: version}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (d *driver) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	expansion := &csi.PluginCapability{Type: &csi.PluginCapability_VolumeExpansion_{
		VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE},
	}}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE), expansion,
	}}, nil
}

// logged writes one line a call: method, result, milliseconds.
func logged(method string, start time.Time, err error) {
	code, text := status.Code(err), ""
	if err != nil {
		text = " " + status.Convert(err).Message()
	}
	log.Printf("%s %s %d ms%s", path.Base(method), code, time.Since(start).Milliseconds(), text)
}
