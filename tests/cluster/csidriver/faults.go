package main

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault is what happens to calls of one method. Times 0 means every call while the file says so.
type fault struct {
	Error       string  `json:"error"`
	Message     string  `json:"message"`
	Times       int     `json:"times"`
	HangSeconds float64 `json:"hangSeconds"`
	After       bool    `json:"after"` // the call takes effect, its answer is lost
}

// faults on demand, from a file that is read at every call.
type faults struct {
	file  string
	mutex sync.Mutex
	raw   map[string]string
	used  map[string]int
}

func (f *faults) read() map[string]json.RawMessage {
	content, err := os.ReadFile(f.file)
	if f.file == "" || err != nil {
		return nil
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(content, &all) != nil {
		return nil // somebody is writing it: the next call sees it whole
	}
	return all
}

// take returns the fault for this call, if there is one left. Another text for a method counts from zero.
func (f *faults) take(method string) *fault {
	raw, found := f.read()[method]
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.raw == nil {
		f.raw, f.used = map[string]string{}, map[string]int{}
	}
	if f.raw[method] != string(raw) {
		f.raw[method], f.used[method] = string(raw), 0
	}
	var one fault
	if !found || json.Unmarshal(raw, &one) != nil {
		return nil
	}
	if one.Times > 0 && f.used[method] >= one.Times {
		return nil
	}
	f.used[method]++
	return &one
}

// snapshotReady is how long a snapshot takes to be ready.
func (f *faults) snapshotReady() time.Duration {
	var seconds float64
	if raw, found := f.read()["snapshotReadySeconds"]; found {
		_ = json.Unmarshal(raw, &seconds) // zero when it is no number
	}
	return time.Duration(seconds * float64(time.Second))
}

func (f *faults) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (answer any, err error) {
	start := time.Now()
	defer func() { logged(info.FullMethod, start, err) }()
	one := f.take(path.Base(info.FullMethod))
	if one == nil {
		return handler(ctx, request)
	}
	if one.After {
		_, _ = handler(ctx, request) // its answer is what gets lost
	}
	if one.HangSeconds > 0 {
		select {
		case <-time.After(time.Duration(one.HangSeconds * float64(time.Second))):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if one.Error != "" {
		return nil, status.Error(codeOf(one.Error), "fault on demand: "+one.Message)
	}
	if one.After {
		return nil, status.Error(codes.Unavailable, "fault on demand: the answer was lost")
	}
	return handler(ctx, request)
}

// codeOf is the code of a name such as UNAVAILABLE, INTERNAL for one that is not known.
func codeOf(name string) codes.Code {
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + strings.ToUpper(name) + `"`)); err != nil {
		return codes.Internal
	}
	return code
}
