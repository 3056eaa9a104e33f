package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registration answers the kubelet, which finds the socket by watching its directory.
type registration struct {
	registerapi.UnimplementedRegistrationServer
	options options
}

func startRegistration(o options) (func(), error) {
	socket := filepath.Join(o.kubeletDir, "plugins_registry", o.name+"-reg.sock")
	listener, err := listen(socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	registerapi.RegisterRegistrationServer(server, registration{options: o})
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	return func() { server.Stop(); _ = os.Remove(socket) }, nil
}

func (r registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type:              registerapi.CSIPlugin,
		Name:              r.options.name,
		Endpoint:          r.options.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r registration) NotifyRegistrationStatus(
	_ context.Context, s *registerapi.RegistrationStatus,
) (*registerapi.RegistrationStatusResponse, error) {
	log.Printf("registered with the kubelet: %v %s", s.PluginRegistered, s.Error)
	return &registerapi.RegistrationStatusResponse{}, nil
}
