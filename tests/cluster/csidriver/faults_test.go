package main

import (
	"context"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registered asks as the kubelet does.
func registered(t *testing.T, socket string) *registerapi.PluginInfo {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer connection.Close()
	client := registerapi.NewRegistrationClient(connection)
	info, err := client.GetInfo(t.Context(), &registerapi.InfoRequest{})
	must(t, err)
	_, err = client.NotifyRegistrationStatus(t.Context(), &registerapi.RegistrationStatus{PluginRegistered: true})
	must(t, err)
	return info
}

func TestErrorsSoManyTimesOverAllNodes(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	for range 2 { // the second time the file is written again, and counts anew
		l.plan(`{"CreateSnapshot": {"error": "UNAVAILABLE", "message": "no quota", "times": 2}}`)
		for call, wanted := range []codes.Code{codes.Unavailable, codes.Unavailable, codes.OK} {
			n := []*node{l.a, l.b}[call%2]
			_, err := n.CreateSnapshot(l.ctx(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
			if status.Code(err) != wanted {
				t.Fatalf("call %d: %v", call, err)
			}
			if wanted != codes.OK {
				refused(t, err, wanted, "no quota")
			}
		}
	}
	l.plan(`{"CreateSnapshot": {"error": "RESOURCE_EXHAUSTED"}}`)
	for range 4 {
		_, err := l.a.CreateSnapshot(l.ctx(), &csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: id})
		refused(t, err, codes.ResourceExhausted, "fault on demand")
	}
	l.plan(`{}`)
	l.a.snapshot("t", id)
}

func TestHangLastsUntilTheClientGivesUp(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	l.plan(`{"DeleteVolume": {"hangSeconds": 0.3}}`)
	ctx, cancel := context.WithTimeout(l.ctx(), 100*time.Millisecond)
	defer cancel()
	_, err := l.a.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	refused(t, err, codes.DeadlineExceeded, "")
	l.a.snapshot("still-there", id)
	started := time.Now()
	_, err = l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	must(t, err)
	if time.Since(started) < 300*time.Millisecond {
		t.Fatal("it did not hang")
	}
}

func TestLostAnswer(t *testing.T) {
	l := newLab(t)
	l.plan(`{"CreateVolume": {"after": true, "times": 1}, "DeleteVolume": {"after": true, "error": "INTERNAL"}}`)
	_, err := l.a.tryCreate("a", mebibyte, nil)
	refused(t, err, codes.Unavailable, "the answer was lost")
	if _, err := l.a.state().existing(volumeID("a")); err != nil {
		t.Fatal(err)
	}
	id := l.a.create("a", mebibyte, nil)
	_, err = l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	refused(t, err, codes.Internal, "fault on demand")
	if _, err := l.a.state().existing(id); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
}

func (n *node) state() *state { return &state{directory: n.lab.state} }

func TestSlowSnapshots(t *testing.T) {
	l := newLab(t)
	id := l.a.create("a", mebibyte, nil)
	ready := func(name string) bool { return l.a.snapshot(name, id).ReadyToUse }
	l.plan(`{"snapshotReadySeconds": 0.3}`)
	if ready("one") {
		t.Fatal("ready at once")
	}
	listed, err := l.b.ListSnapshots(l.ctx(), &csi.ListSnapshotsRequest{SnapshotId: snapshotID("one")})
	must(t, err)
	if listed.Entries[0].Snapshot.ReadyToUse {
		t.Fatal("listed as ready")
	}
	_, err = l.a.tryCreate("b", 0, fromSnapshot(snapshotID("one")))
	refused(t, err, codes.FailedPrecondition, "not ready")
	time.Sleep(310 * time.Millisecond)
	if !ready("one") {
		t.Fatal("never ready")
	}
	l.plan(`{"snapshotReadySeconds": 1000}`)
	if ready("two") || !ready("one") {
		t.Fatal("the delay in force is that of the snapshot's making")
	}
	l.plan(`{}`)
	if !ready("two") {
		t.Fatal("a test cannot end the wait")
	}
}

func TestWrongPlanFailsEveryCall(t *testing.T) {
	l := newLab(t)
	for plan, said := range map[string]string{
		`{"CreateSnapshots": {}}`:                         "not a CSI call",
		`{"CreateVolume": {"time": 1}}`:                   "time",
		`{"CreateVolume": {"error": "OVERLOADED"}}`:       "OVERLOADED",
		`{"CreateVolume": {"afterMessages": 1}}`:          "with a stream",
		`{"CreateVolume": {"metadata": {}}}`:              "with a stream",
		`{"GetMetadataDelta": {"metadata": {"omit": 1}}}`: "omit",
		`{"snapshotReadySeconds": "20"}`:                  "snapshotReadySeconds",
		`{"CreateVolume": `:                               "faults file",
	} {
		l.plan(plan)
		_, err := l.a.NodeGetInfo(l.ctx(), &csi.NodeGetInfoRequest{})
		refused(t, err, codes.Internal, said)
		_, err = l.a.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: "snap-1"})
		refused(t, err, codes.Internal, said)
	}
}
