package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault is what is to happen to one kind of call.
type fault struct {
	Error         *codes.Code `json:"error"`         // gRPC code by name; nil: no error
	Message       string      `json:"message"`       // of the error
	HangSeconds   float64     `json:"hangSeconds"`   // waits so long, or until the client gives up
	After         bool        `json:"after"`         // the call takes effect, and its answer (a stream's end) is lost
	AfterMessages int         `json:"afterMessages"` // of a stream, or at its end if it has fewer; 0: before the work
	Metadata      *lie        `json:"metadata"`      // of a stream
	Times         int         `json:"times"`         // at most so many calls, over all nodes; 0: all
}

// lie is how a stream of block metadata differs from what it would be. The first three keep to the rules. Tuples and
// messages are counted from 1 within one call; 0 is none.
type lie struct {
	FixedLength bool       `json:"fixedLength"` // one tuple for each block
	PerMessage  int        `json:"perMessage"`  // tuples in a message, at most
	RewindBytes int64      `json:"rewindBytes"` // the first tuple may begin so much before the starting offset
	EmptyFirst  bool       `json:"emptyFirst"`  // the first message has no tuples
	Swap        int        `json:"swap"`        // this tuple and the next change places
	Overlap     int        `json:"overlap"`     // the last block of this tuple is told once more
	GrowFrom    int        `json:"growFrom"`    // from this message on, the capacity is 1 MiB greater
	RetypeFrom  int        `json:"retypeFrom"`  // from this message on, the type is the other one
	OmitEvery   int        `json:"omitEvery"`   // every so many tuples one is left out
	OmitFrom    *int64     `json:"omitFrom"`    // nothing is told from this byte on
	Append      [][2]int64 `json:"append"`      // offset and size of tuples at the end, as they are
}

// plan is the faults file.
type plan struct {
	calls                map[string]fault
	snapshotReadySeconds float64
	version              string // changes with every writing of the file
}

// faults reads the plan anew at every call.
type faults struct {
	file  string
	state *state
}

// calls are the names that a plan may use, and whether the call answers with a stream.
var calls = func() map[string]bool {
	streams := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		csi.Identity_ServiceDesc, csi.Controller_ServiceDesc, csi.Node_ServiceDesc, csi.SnapshotMetadata_ServiceDesc,
	} {
		for _, method := range service.Methods {
			streams[method.MethodName] = false
		}
		for _, method := range service.Streams {
			streams[method.StreamName] = true
		}
	}
	return streams
}()

func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// read returns the plan in force; no file means no faults.
func (f *faults) read() (plan, error) {
	p := plan{calls: map[string]fault{}}
	if f.file == "" {
		return p, nil
	}
	data, err := os.ReadFile(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	info, err := os.Stat(f.file)
	if err != nil {
		return p, err
	}
	p.version = fmt.Sprintf("%d %s", info.ModTime().UnixNano(), data)
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return p, err
	}
	for name, entry := range entries {
		if name == "snapshotReadySeconds" {
			if err := strict(entry, &p.snapshotReadySeconds); err != nil {
				return p, fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		stream, known := calls[name]
		if !known {
			return p, fmt.Errorf("%q is not a CSI call", name)
		}
		var one fault
		if err := strict(entry, &one); err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
		if !stream && (one.AfterMessages != 0 || one.Metadata != nil) {
			return p, fmt.Errorf("%s: afterMessages and metadata are for calls that answer with a stream", name)
		}
		p.calls[name] = one
	}
	return p, nil
}

// current is read, with patience for a file that is being written; a plan that stays wrong fails the call, so
// that a misspelt fault cannot pass for one that did not matter.
func (f *faults) current() (plan, error) {
	var p plan
	var err error
	for range 10 {
		if p, err = f.read(); err == nil {
			return p, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return p, status.Errorf(codes.Internal, "faults file %s: %v", f.file, err)
}

// counted is how often the faults of one version of the plan have struck; all nodes share it.
type counted struct {
	Version string         `json:"version"`
	Times   map[string]int `json:"times"`
}

// due returns the fault that is to happen to a call, which counts; nil if there is none, or none any more.
func (f *faults) due(ctx context.Context, name string) (*fault, error) {
	p, err := f.current()
	if err != nil {
		return nil, err
	}
	one, planned := p.calls[name]
	if !planned {
		return nil, nil
	}
	if one.Times == 0 {
		return &one, nil
	}
	unlock, err := f.state.lock(ctx, "fault-counts")
	if err != nil {
		return nil, err
	}
	defer unlock()
	path := filepath.Join(f.state.directory, "fault-counts.json")
	var c counted
	if err := readJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if c.Version != p.version || c.Times == nil {
		c = counted{Version: p.version, Times: map[string]int{}}
	}
	if c.Times[name] >= one.Times {
		return nil, nil
	}
	c.Times[name]++
	return &one, writeJSON(path, c)
}

// suffer hangs and fails as the fault says.
func (one fault) suffer(ctx context.Context) error {
	if one.HangSeconds > 0 {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-time.After(time.Duration(one.HangSeconds * float64(time.Second))):
		}
	}
	switch {
	case one.Error != nil:
		return status.Error(*one.Error, "fault on demand: "+one.Message)
	case one.After:
		return status.Error(codes.Unavailable, "fault on demand: the answer was lost")
	}
	return nil
}

// around does the work with the fault planned for this call before or after it.
func (f *faults) around(ctx context.Context, name string, work func() (any, error)) (any, error) {
	one, err := f.due(ctx, name)
	if err != nil {
		return nil, err
	}
	if one != nil && !one.After {
		if err := one.suffer(ctx); err != nil {
			return nil, err
		}
	}
	answer, err := work()
	if err == nil && one != nil && one.After {
		err = one.suffer(ctx)
	}
	return answer, err
}
