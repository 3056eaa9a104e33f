package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// piece is offset and size of a tuple, in bytes.
type piece [2]int64

// drain takes all messages of a stream; what came before an error is returned with it.
func drain[M any](recv func() (M, error), err error) ([]M, error) {
	var all []M
	for err == nil {
		var one M
		if one, err = recv(); err == nil {
			all = append(all, one)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// allocated returns the messages of a call in the shape of a delta's, which is the same.
func (n *node) allocated(r *csi.GetMetadataAllocatedRequest) ([]*csi.GetMetadataDeltaResponse, error) {
	stream, err := n.GetMetadataAllocated(n.lab.ctx(), r)
	must(n.lab.t, err)
	found, err := drain(stream.Recv, nil)
	var all []*csi.GetMetadataDeltaResponse
	for _, one := range found {
		all = append(all, &csi.GetMetadataDeltaResponse{
			BlockMetadataType: one.BlockMetadataType, VolumeCapacityBytes: one.VolumeCapacityBytes,
			BlockMetadata: one.BlockMetadata,
		})
	}
	return all, err
}

func (n *node) delta(r *csi.GetMetadataDeltaRequest) ([]*csi.GetMetadataDeltaResponse, error) {
	stream, err := n.GetMetadataDelta(n.lab.ctx(), r)
	must(n.lab.t, err)
	return drain(stream.Recv, nil)
}

func pieces(all []*csi.GetMetadataDeltaResponse) []piece {
	var found []piece
	for _, message := range all {
		for _, one := range message.BlockMetadata {
			found = append(found, piece{one.ByteOffset, one.SizeBytes})
		}
	}
	return found
}

// honest returns the tuples of a stream that keeps every rule of the CSI specification.
func honest(t *testing.T, all []*csi.GetMetadataDeltaResponse, capacity, from int64, most int) []piece {
	t.Helper()
	for _, message := range all {
		if message.VolumeCapacityBytes != capacity || message.BlockMetadataType != all[0].BlockMetadataType ||
			len(message.BlockMetadata) > most || len(message.BlockMetadata) == 0 {
			t.Fatalf("wanted %d bytes and 1 to %d tuples: %v", capacity, most, message)
		}
	}
	found := pieces(all)
	end := int64(0)
	for i, one := range found {
		if one[0] < end || one[1] <= 0 || one[0]+one[1] > capacity || i == 0 && one[0]+one[1] <= from {
			t.Fatalf("tuple %d after %d, from %d of %d: %v", i, end, from, capacity, one)
		}
		end = one[0] + one[1]
	}
	return found
}

// differing is what the delta of two contents is, found the slow way.
func differing(a, b []byte) []piece {
	var found []piece
	a = append(slices.Clone(a), make([]byte, max(0, len(b)-len(a)))...)
	for at := int64(0); at < int64(len(b)); at += blockSize {
		if bytes.Equal(a[at:at+blockSize], b[at:at+blockSize]) {
			continue
		}
		if last := len(found) - 1; last >= 0 && found[last][0]+found[last][1] == at {
			found[last][1] += blockSize
		} else {
			found = append(found, piece{at, blockSize})
		}
	}
	return found
}

func equal(t *testing.T, found, wanted []piece) {
	t.Helper()
	if !slices.Equal(found, wanted) {
		t.Fatalf("%d: %v\nwanted %d: %v", len(found), found, len(wanted), wanted)
	}
}

// volumeInUse is a new volume, and its device opened.
func (l *lab) volumeInUse(size int64) (string, *os.File) {
	l.t.Helper()
	id := l.a.create("volume", size, nil)
	device, err := os.OpenFile(l.a.use(id, block()), os.O_RDWR, 0)
	must(l.t, err)
	l.t.Cleanup(func() { device.Close() })
	return id, device
}

func (l *lab) content(snapshot string) []byte {
	l.t.Helper()
	content, err := os.ReadFile(filepath.Join(l.state, "snapshots", snapshot, "data"))
	must(l.t, err)
	return content
}

func TestTheServiceIsAnnounced(t *testing.T) {
	l := newLab(t)
	answer, err := l.a.GetPluginCapabilities(l.ctx(), &csi.GetPluginCapabilitiesRequest{})
	must(t, err)
	if !slices.ContainsFunc(answer.Capabilities, func(c *csi.PluginCapability) bool {
		return c.GetService().GetType() == csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE
	}) {
		t.Fatal(answer)
	}
}

func TestAllocatedIsWhatIsNotAHole(t *testing.T) {
	l := newLab(t)
	id, device := l.volumeInUse(8 * mebibyte)
	none := l.a.snapshot("none", id).SnapshotId
	write(t, device, random(512), 3*mebibyte+512) // a block is told whole
	write(t, device, random(3*blockSize), 5*mebibyte)
	write(t, device, make([]byte, blockSize), 6*mebibyte) // zeros are allocated too
	write(t, device, random(blockSize), 8*mebibyte-blockSize)
	some := l.a.snapshot("some", id).SnapshotId
	must(t, unix.Fallocate(int(device.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5*mebibyte, blockSize))
	must(t, device.Sync())
	fewer := l.a.snapshot("fewer", id).SnapshotId
	last := piece{8*mebibyte - blockSize, blockSize}
	for snapshot, wanted := range map[string][]piece{
		none:  nil,
		some:  {{3 * mebibyte, blockSize}, {5 * mebibyte, 3 * blockSize}, {6 * mebibyte, blockSize}, last},
		fewer: {{3 * mebibyte, blockSize}, {5*mebibyte + blockSize, 2 * blockSize}, {6 * mebibyte, blockSize}, last},
	} {
		all, err := l.b.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: snapshot})
		must(t, err)
		equal(t, honest(t, all, 8*mebibyte, 0, defaultResults), wanted)
	}
}

// Rewritten with the same bytes, discarded, zeroed, written by sectors: what is told is what differs, both ways and
// over several steps, whatever came of the volume.
func TestDeltaIsWhatDiffers(t *testing.T) {
	l := newLab(t)
	const size = 16 * mebibyte
	id, device := l.volumeInUse(size)
	random1 := rand.New(rand.NewPCG(1, 2))
	var shots []string
	for round := range 6 {
		for range 25 {
			at := random1.Int64N(size/512) * 512
			length := min(random1.Int64N(64)*512+512, size-at)
			switch random1.IntN(5) {
			case 0: // the same bytes, in another place of the file system
				write(t, device, read(t, device.Name(), at, length), at)
			case 1:
				const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
				must(t, unix.Fallocate(int(device.Fd()), punch, floor(at), min(16*blockSize, size-floor(at))))
			case 2:
				write(t, device, make([]byte, length), at)
			default:
				write(t, device, random(length), at)
			}
		}
		shots = append(shots, l.a.snapshot(fmt.Sprint(round), id).SnapshotId)
	}
	must(t, device.Close())
	l.a.leave(id)
	_, err := l.a.DeleteVolume(l.ctx(), &csi.DeleteVolumeRequest{VolumeId: id})
	must(t, err)
	for i, base := range shots {
		for j, target := range shots {
			all, err := l.b.delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target})
			must(t, err)
			found := honest(t, all, size, 0, defaultResults)
			equal(t, found, differing(l.content(base), l.content(target)))
			if (len(found) == 0) != (i == j) || i == j && len(all) > 0 {
				t.Fatalf("%d to %d: %d messages, %v", i, j, len(all), found)
			}
		}
	}
}

// after is what of some pieces is left from the block of a position on.
func after(all []piece, from int64) []piece {
	var found []piece
	for _, one := range all {
		if end := one[0] + one[1]; end > from {
			start := max(one[0], floor(from))
			found = append(found, piece{start, end - start})
		}
	}
	return found
}

func TestAVolumeThatGrew(t *testing.T) {
	l := newLab(t)
	id, device := l.volumeInUse(2 * mebibyte)
	write(t, device, random(2*mebibyte), 0)
	small := l.a.snapshot("small", id).SnapshotId
	must(t, device.Close())
	l.a.leave(id)
	_, err := l.a.ControllerExpandVolume(l.ctx(), &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 4 * mebibyte}, VolumeCapability: block(),
	})
	must(t, err)
	device, err = os.OpenFile(l.a.use(id, block()), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	write(t, device, random(blockSize), 3*mebibyte)
	large := l.a.snapshot("large", id).SnapshotId
	for _, one := range []struct {
		base, target string
		capacity     int64
		wanted       []piece
	}{
		{small, large, 4 * mebibyte, []piece{{3 * mebibyte, blockSize}}},
		{large, small, 2 * mebibyte, nil},
	} {
		all, err := l.a.delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: one.base, TargetSnapshotId: one.target})
		must(t, err)
		equal(t, honest(t, all, one.capacity, 0, defaultResults), one.wanted)
	}
}

// checkered is a volume of 8 MiB, two of whose snapshots differ in every second block of its first 4 MiB.
func (l *lab) checkered() (base, target string) {
	l.t.Helper()
	id, device := l.volumeInUse(8 * mebibyte)
	base = l.a.snapshot("base", id).SnapshotId
	for at := int64(0); at < 4*mebibyte; at += 2 * blockSize {
		_, err := device.WriteAt(random(blockSize), at)
		must(l.t, err)
	}
	must(l.t, device.Sync())
	return base, l.a.snapshot("target", id).SnapshotId
}

func TestMessagesHaveAtMostSoManyTuples(t *testing.T) {
	l := newLab(t)
	base, target := l.checkered()
	for most, messages := range map[int32]int{0: 2, 1: 512, 200: 3, 1000: 1} {
		limit := int(most)
		if most == 0 {
			limit = 256
		}
		one, err := l.a.delta(&csi.GetMetadataDeltaRequest{
			BaseSnapshotId: base, TargetSnapshotId: target, MaxResults: most,
		})
		must(t, err)
		two, err := l.a.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: target, MaxResults: most})
		must(t, err)
		for _, all := range [][]*csi.GetMetadataDeltaResponse{one, two} {
			if found := honest(t, all, 8*mebibyte, 0, limit); len(found) != 512 || len(all) != messages {
				t.Fatalf("at most %d: %d tuples in %d messages", most, len(found), len(all))
			}
		}
	}
}

func TestAnyOffsetContinues(t *testing.T) {
	l := newLab(t)
	id, device := l.volumeInUse(8 * mebibyte)
	base := l.a.snapshot("base", id).SnapshotId
	write(t, device, random(blockSize), 0)
	write(t, device, random(100*blockSize), mebibyte)
	write(t, device, random(blockSize), 8*mebibyte-blockSize)
	target := l.a.snapshot("target", id).SnapshotId
	whole := []piece{{0, blockSize}, {mebibyte, 100 * blockSize}, {8*mebibyte - blockSize, blockSize}}
	calls := map[string]func(from int64) ([]*csi.GetMetadataDeltaResponse, error){
		"allocated": func(from int64) ([]*csi.GetMetadataDeltaResponse, error) {
			return l.a.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: target, StartingOffset: from})
		},
		"delta": func(from int64) ([]*csi.GetMetadataDeltaResponse, error) {
			return l.a.delta(&csi.GetMetadataDeltaRequest{
				BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: from,
			})
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			for _, from := range []int64{
				0, 1, 4095, 4096, 4097, mebibyte - 1, mebibyte, mebibyte + 1, mebibyte + 50*blockSize + 7,
				mebibyte + 100*blockSize - 1, mebibyte + 100*blockSize, 8*mebibyte - 1, 8 * mebibyte,
			} {
				all, err := call(from)
				must(t, err)
				equal(t, honest(t, all, 8*mebibyte, from, defaultResults), after(whole, from))
			}
			for _, from := range []int64{-1, 8*mebibyte + 1} {
				_, err := call(from)
				refused(t, err, codes.OutOfRange, "starting_offset")
			}
		})
	}
}

func TestWrongRequestsForMetadata(t *testing.T) {
	l := newLab(t)
	a, b := l.a.create("a", mebibyte, nil), l.a.create("b", mebibyte, nil)
	one, other := l.a.snapshot("one", a).SnapshotId, l.a.snapshot("other", b).SnapshotId
	for _, row := range []struct {
		base, target string
		most         int32
		code         codes.Code
		said         string
	}{
		{"", one, 0, codes.InvalidArgument, "no snapshot id"},
		{one, "", 0, codes.InvalidArgument, "no snapshot id"},
		{"snap-1", one, 0, codes.NotFound, "snap-1"},
		{one, "../volumes/" + a, 0, codes.NotFound, "does not exist"},
		{one, other, 0, codes.InvalidArgument, "different volumes"},
		{one, one, -1, codes.InvalidArgument, "max_results"},
	} {
		_, err := l.a.delta(&csi.GetMetadataDeltaRequest{
			BaseSnapshotId: row.base, TargetSnapshotId: row.target, MaxResults: row.most,
		})
		refused(t, err, row.code, row.said)
		if row.base == one && row.target != other {
			_, err = l.a.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: row.target, MaxResults: row.most})
			refused(t, err, row.code, row.said)
		}
	}
	l.plan(`{"snapshotReadySeconds": 1000}`)
	slow := l.a.snapshot("slow", a).SnapshotId
	_, err := l.a.delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: one, TargetSnapshotId: slow})
	refused(t, err, codes.Unavailable, "not ready")
}

func TestSnapshotsCanBeDeletedWhileTheyAreTold(t *testing.T) {
	l := newLab(t)
	base, target := l.checkered()
	l.plan(`{"GetMetadataDelta": {"hangSeconds": 0.5, "afterMessages": 1}}`)
	stream, err := l.a.GetMetadataDelta(l.ctx(), &csi.GetMetadataDeltaRequest{
		BaseSnapshotId: base, TargetSnapshotId: target, MaxResults: 10,
	})
	must(t, err)
	first, err := stream.Recv()
	must(t, err)
	started := time.Now()
	for _, id := range []string{base, target} {
		_, err := l.b.DeleteSnapshot(l.ctx(), &csi.DeleteSnapshotRequest{SnapshotId: id})
		must(t, err)
	}
	if time.Since(started) > 400*time.Millisecond {
		t.Fatal("the deletion waited for the stream")
	}
	rest, err := drain(stream.Recv, nil)
	must(t, err)
	if found := honest(t, append([]*csi.GetMetadataDeltaResponse{first}, rest...), 8*mebibyte, 0, 10); len(found) != 512 {
		t.Fatalf("%d tuples", len(found))
	}
	_, err = l.a.delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target})
	refused(t, err, codes.NotFound, base)
}
