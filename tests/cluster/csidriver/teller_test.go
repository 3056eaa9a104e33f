package main

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

func TestCutStreams(t *testing.T) {
	l := newLab(t)
	base, target := l.checkered()
	request := &csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target, MaxResults: 100}
	for plan, wanted := range map[string]struct {
		code     codes.Code
		messages int
	}{
		`{"error": "FAILED_PRECONDITION", "times": 1}`:                         {codes.FailedPrecondition, 0},
		`{"error": "ABORTED", "afterMessages": 2, "times": 1}`:                 {codes.Aborted, 2},
		`{"error": "ABORTED", "afterMessages": 6, "times": 1}`:                 {codes.Aborted, 6},
		`{"error": "ABORTED", "afterMessages": 60, "times": 1}`:                {codes.Aborted, 6},
		`{"after": true, "times": 1}`:                                          {codes.Unavailable, 6},
		`{"error": "INTERNAL", "after": true, "hangSeconds": 0.1, "times": 1}`: {codes.Internal, 6},
	} {
		l.plan(`{"GetMetadataDelta": ` + plan + `}`)
		all, err := l.a.delta(request)
		refused(t, err, wanted.code, "fault on demand")
		if len(all) != wanted.messages {
			t.Fatalf("%s: %d messages", plan, len(all))
		}
		all, err = l.b.delta(request) // all nodes count together
		must(t, err)
		if found := honest(t, all, 8*mebibyte, 0, 100); len(found) != 512 {
			t.Fatalf("%s: %d tuples the second time", plan, len(found))
		}
	}
	l.plan(`{"GetMetadataDelta": {"error": "UNAVAILABLE"}}`)
	for range 4 {
		_, err := l.a.delta(request)
		refused(t, err, codes.Unavailable, "")
	}
	_, err := l.a.allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: target})
	must(t, err)
	l.plan(`{"GetMetadataDelta": {"hangSeconds": 1000, "afterMessages": 2}}`)
	ctx, cancel := context.WithTimeout(l.ctx(), 200*time.Millisecond)
	defer cancel()
	stream, err := l.a.GetMetadataDelta(ctx, request)
	must(t, err)
	all, err := drain(stream.Recv, nil)
	refused(t, err, codes.DeadlineExceeded, "")
	if len(all) != 2 {
		t.Fatalf("%d messages", len(all))
	}
}

func TestLies(t *testing.T) {
	l := newLab(t)
	id, device := l.volumeInUse(2 * mebibyte)
	base := l.a.snapshot("base", id).SnapshotId
	for at := int64(0); at < 4; at++ { // at 0, 10, 20 and 30 blocks, of two blocks each
		write(t, device, random(2*blockSize), at*10*blockSize)
	}
	target := l.a.snapshot("target", id).SnapshotId
	const fixed, variable = csi.BlockMetadataType_FIXED_LENGTH, csi.BlockMetadataType_VARIABLE_LENGTH
	type pairs = [][]piece // tuples of each message, in blocks
	a, b, c, d := piece{0, 2}, piece{10, 2}, piece{20, 2}, piece{30, 2}
	for lie, wanted := range map[string]struct {
		from    int64 // blocks
		tuples  pairs
		kinds   []csi.BlockMetadataType
		greater []int64 // bytes over the capacity
	}{
		`{}`:                               {tuples: pairs{{a, b, c, d}}},
		`{"fixedLength": true}`:            {from: 20, tuples: pairs{{{20, 1}, {21, 1}, {30, 1}, {31, 1}}}, kinds: []csi.BlockMetadataType{fixed}},
		`{"perMessage": 3}`:                {tuples: pairs{{a, b, c}, {d}}},
		`{"rewindBytes": 4096}`:            {from: 21, tuples: pairs{{c, d}}},
		`{"rewindBytes": 40960}`:           {from: 22, tuples: pairs{{d}}},
		`{"emptyFirst": true}`:             {tuples: pairs{{}, {a, b, c, d}}},
		`{"swap": 2}`:                      {tuples: pairs{{a, c, b, d}}},
		`{"swap": 2, "perMessage": 2}`:     {tuples: pairs{{a, c}, {b, d}}},
		`{"swap": 4}`:                      {tuples: pairs{{a, b, c, d}}},
		`{"overlap": 1}`:                   {tuples: pairs{{a, {1, 1}, b, c, d}}},
		`{"growFrom": 2, "perMessage": 2}`: {tuples: pairs{{a, b}, {c, d}}, greater: []int64{0, mebibyte}},
		`{"retypeFrom": 2, "perMessage": 2}`: {
			tuples: pairs{{a, b}, {c, d}}, kinds: []csi.BlockMetadataType{variable, fixed},
		},
		`{"omitEvery": 2}`:                      {tuples: pairs{{a, c}}},
		`{"omitFrom": 86016}`:                   {tuples: pairs{{a, b, {20, 1}}}},
		`{"omitFrom": 0}`:                       {tuples: pairs{}},
		`{"omitFrom": 0, "emptyFirst": true}`:   {tuples: pairs{{}}},
		`{"append": [[2097152, 4096], [0, 0]]}`: {tuples: pairs{{a, b, c, d, {512, 1}, {0, 0}}}},
	} {
		l.plan(`{"GetMetadataDelta": {"metadata": ` + lie + `, "times": 1}, "GetMetadataAllocated": {"metadata": ` + lie + `}}`)
		one, err := l.a.delta(&csi.GetMetadataDeltaRequest{
			BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: wanted.from * blockSize,
		})
		must(t, err)
		two, err := l.b.allocated(&csi.GetMetadataAllocatedRequest{
			SnapshotId: target, StartingOffset: wanted.from * blockSize,
		})
		must(t, err)
		for _, all := range [][]*csi.GetMetadataDeltaResponse{one, two} {
			found := pairs{}
			for i, message := range all {
				tuples := []piece{}
				for _, one := range pieces(all[i : i+1]) {
					tuples = append(tuples, piece{one[0] / blockSize, one[1] / blockSize})
				}
				found = append(found, tuples)
				kind, capacity := variable, 2*mebibyte
				if wanted.kinds != nil {
					kind = wanted.kinds[i]
				}
				if wanted.greater != nil {
					capacity += wanted.greater[i]
				}
				if message.BlockMetadataType != kind || message.VolumeCapacityBytes != capacity {
					t.Errorf("%s: message %d: %s, %d bytes", lie, i, message.BlockMetadataType, message.VolumeCapacityBytes)
				}
			}
			if !reflect.DeepEqual(found, wanted.tuples) {
				t.Errorf("%s: %v, wanted %v", lie, found, wanted.tuples)
			}
		}
		honestly, err := l.a.delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target})
		must(t, err)
		if found := honest(t, honestly, 2*mebibyte, 0, defaultResults); len(found) != 4 {
			t.Errorf("%s: also the second time", lie)
		}
	}
}
