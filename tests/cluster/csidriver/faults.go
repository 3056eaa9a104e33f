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
	Error       *codes.Code `json:"error"`       // gRPC code by name; nil: no error
	Message     string      `json:"message"`     // of the error
	HangSeconds float64     `json:"hangSeconds"` // waits so long, or until the client gives up
	After       bool        `json:"after"`       // the call takes effect, and its answer is lost
	Times       int         `json:"times"`       // at most so many calls, over all nodes; 0: all
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

// calls are the names that a plan may use.
var calls = func() map[string]bool {
	names := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		csi.Identity_ServiceDesc, csi.Controller_ServiceDesc, csi.Node_ServiceDesc,
	} {
		for _, method := range service.Methods {
			names[method.MethodName] = true
		}
	}
	return names
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
		if !calls[name] {
			return p, fmt.Errorf("%q is not a CSI call", name)
		}
		var one fault
		if err := strict(entry, &one); err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
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

// strikes says whether a fault with a limit of calls is still due, and counts it.
func (f *faults) strikes(ctx context.Context, p plan, name string) (bool, error) {
	limit := p.calls[name].Times
	if limit == 0 {
		return true, nil
	}
	unlock, err := f.state.lock(ctx, "fault-counts")
	if err != nil {
		return false, err
	}
	defer unlock()
	path := filepath.Join(f.state.directory, "fault-counts.json")
	var c counted
	if err := readJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if c.Version != p.version || c.Times == nil {
		c = counted{Version: p.version, Times: map[string]int{}}
	}
	if c.Times[name] >= limit {
		return false, nil
	}
	c.Times[name]++
	return true, writeJSON(path, c)
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
	p, err := f.current()
	if err != nil {
		return nil, err
	}
	one, planned := p.calls[name]
	if planned {
		if planned, err = f.strikes(ctx, p, name); err != nil {
			return nil, err
		}
	}
	if planned && !one.After {
		if err := one.suffer(ctx); err != nil {
			return nil, err
		}
	}
	answer, err := work()
	if err == nil && planned && one.After {
		err = one.suffer(ctx)
	}
	return answer, err
}
