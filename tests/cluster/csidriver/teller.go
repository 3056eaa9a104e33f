package main

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// defaultResults is how many tuples a message has at most if the client does not say.
const defaultResults = 256

// message is what both calls of the service send.
type message struct {
	kind     csi.BlockMetadataType
	capacity int64 // bytes
	tuples   []*csi.BlockMetadata
}

// teller makes a stream of messages from what it is told to be allocated or changed, in ascending order; and lies
// as the fault of the call wants it.
type teller struct {
	send     func(message) error
	capacity int64 // bytes
	from     int64 // the starting offset
	most     int   // tuples in a message
	lie      lie
	growing  *csi.BlockMetadata   // what the next stretch may still be a part of
	swapped  *csi.BlockMetadata   // waits for the next tuple to go before it
	tuples   []*csi.BlockMetadata // of the next message
	told     int                  // tuples so far, without the lies
	sent     int                  // messages so far
}

// newTeller checks the arguments that both calls have; `capacity` in bytes is that of the snapshot that is told of.
func newTeller(ctx context.Context, capacity, from int64, most int32) (*teller, error) {
	if most < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_results is %d", most)
	}
	if from < 0 || from > capacity {
		return nil, status.Errorf(codes.OutOfRange, "starting_offset is %d: the volume has %d bytes", from, capacity)
	}
	t := &teller{capacity: capacity, from: from, most: int(most), lie: lieOf(ctx)}
	if t.most == 0 {
		t.most = defaultResults
	}
	if t.lie.PerMessage > 0 {
		t.most = min(t.most, t.lie.PerMessage)
	}
	return t, nil
}

// start is where to begin, in bytes.
func (t *teller) start() int64 { return max(0, floor(t.from-t.lie.RewindBytes)) }

// found takes a stretch of whole blocks; it does not begin before the end of the one before.
func (t *teller) found(offset, length int64) error {
	if g := t.growing; g != nil && !t.lie.FixedLength && g.ByteOffset+g.SizeBytes == offset {
		g.SizeBytes += length
		return nil
	}
	if t.lie.FixedLength {
		for ; length > blockSize; offset, length = offset+blockSize, length-blockSize {
			if err := t.grow(offset, blockSize); err != nil {
				return err
			}
		}
	}
	return t.grow(offset, length)
}

// grow begins a new tuple.
func (t *teller) grow(offset, length int64) error {
	if err := t.finish(); err != nil {
		return err
	}
	t.growing = &csi.BlockMetadata{ByteOffset: offset, SizeBytes: length}
	return nil
}

// finish tells the tuple that does not grow any more.
func (t *teller) finish() error {
	one := t.growing
	t.growing = nil
	if one == nil || one.ByteOffset+one.SizeBytes <= t.from {
		return nil
	}
	t.told++
	if from := t.lie.OmitFrom; from != nil {
		one.SizeBytes = min(one.SizeBytes, *from-one.ByteOffset)
	}
	if one.SizeBytes <= 0 || t.lie.OmitEvery > 0 && t.told%t.lie.OmitEvery == 0 {
		return nil
	}
	if t.told == t.lie.Swap {
		t.swapped = one
		return nil
	}
	if err := t.tell(one); err != nil {
		return err
	}
	if t.told == t.lie.Overlap {
		last := one.ByteOffset + one.SizeBytes - blockSize
		if err := t.tell(&csi.BlockMetadata{ByteOffset: last, SizeBytes: blockSize}); err != nil {
			return err
		}
	}
	if late := t.swapped; late != nil {
		t.swapped = nil
		return t.tell(late)
	}
	return nil
}

// tell adds a tuple to the message.
func (t *teller) tell(one *csi.BlockMetadata) error {
	if t.lie.EmptyFirst && t.sent == 0 {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.tuples = append(t.tuples, one)
	if len(t.tuples) < t.most {
		return nil
	}
	return t.flush()
}

func (t *teller) flush() error {
	t.sent++
	m := message{kind: csi.BlockMetadataType_VARIABLE_LENGTH, capacity: t.capacity, tuples: t.tuples}
	if t.lie.FixedLength != (t.lie.RetypeFrom > 0 && t.sent >= t.lie.RetypeFrom) {
		m.kind = csi.BlockMetadataType_FIXED_LENGTH
	}
	if t.lie.GrowFrom > 0 && t.sent >= t.lie.GrowFrom {
		m.capacity += mebibyte
	}
	t.tuples = nil
	return t.send(m)
}

// end sends the rest. Where there is nothing to tell, nothing is sent at all, as with the drivers of Ceph and
// hostpath: a client does not learn the capacity then.
func (t *teller) end() error {
	if err := t.finish(); err != nil {
		return err
	}
	if late := t.swapped; late != nil {
		if err := t.tell(late); err != nil {
			return err
		}
	}
	for _, pair := range t.lie.Append {
		if err := t.tell(&csi.BlockMetadata{ByteOffset: pair[0], SizeBytes: pair[1]}); err != nil {
			return err
		}
	}
	if len(t.tuples) == 0 && !(t.lie.EmptyFirst && t.sent == 0) {
		return nil
	}
	return t.flush()
}
