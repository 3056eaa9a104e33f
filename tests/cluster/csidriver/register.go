package main

import (
	"context"
	"log"
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registration is the service by which the kubelet, watching its directory, learns of the driver.
type registration struct {
	registerapi.UnimplementedRegistrationServer
	driver *driver
	server *grpc.Server
	socket net.Listener
}

// registration makes the registration server and its socket, whose path is returned for errors too.
func (d *driver) registration() (*registration, string, error) {
	path := filepath.Join(d.kubeletDir, "plugins_registry", d.driverName+"-reg.sock")
	socket, err := listen(path)
	if err != nil {
		return nil, path, err
	}
	r := &registration{driver: d, server: grpc.NewServer(), socket: socket}
	registerapi.RegisterRegistrationServer(r.server, r)
	return r, path, nil
}

// GetInfo names the driver and where it answers.
func (r *registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.CSIPlugin,
		Name:              r.driver.driverName,
		Endpoint:          r.driver.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus logs what the kubelet made of it; a kubelet that refuses tries again by itself.
func (r *registration) NotifyRegistrationStatus(
	_ context.Context, status *registerapi.RegistrationStatus,
) (*registerapi.RegistrationStatusResponse, error) {
	log.Printf("kubelet: registered=%t %s", status.PluginRegistered, status.Error)
	return &registerapi.RegistrationStatusResponse{}, nil
}
