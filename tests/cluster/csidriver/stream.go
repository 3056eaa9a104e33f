package main

import (
	"context"

	"google.golang.org/grpc"
)

// watched is a stream of answers with the fault of its call.
type watched struct {
	grpc.ServerStream
	fault   *fault // nil: none
	struck  bool
	sent    int    // messages
	subject string // for the log
}

// lieKey is where a stream's context has its lie.
type lieKey struct{}

// lieOf returns the lie wanted of a call.
func lieOf(ctx context.Context) lie {
	if found, ok := ctx.Value(lieKey{}).(*lie); ok && found != nil {
		return *found
	}
	return lie{}
}

// Context carries the lie to the handler.
func (w *watched) Context() context.Context {
	ctx := w.ServerStream.Context()
	if w.fault == nil {
		return ctx
	}
	return context.WithValue(ctx, lieKey{}, w.fault.Metadata)
}

// RecvMsg notes what the request is about.
func (w *watched) RecvMsg(m any) error {
	err := w.ServerStream.RecvMsg(m)
	if err == nil {
		w.subject = subject(m)
	}
	return err
}

// SendMsg fails or hangs when so many messages have gone out as the fault says.
func (w *watched) SendMsg(m any) error {
	if w.fault != nil && w.fault.AfterMessages > 0 && w.sent == w.fault.AfterMessages {
		if err := w.strike(); err != nil {
			return err
		}
	}
	err := w.ServerStream.SendMsg(m)
	if err == nil {
		w.sent++
	}
	return err
}

// strike makes the fault happen, once in a call.
func (w *watched) strike() error {
	if w.fault == nil || w.struck {
		return nil
	}
	w.struck = true
	return w.fault.suffer(w.ServerStream.Context())
}

// aroundStream is around for calls that answer with a stream: the fault strikes before it, after so many messages, or
// in the place of its end.
func (f *faults) aroundStream(name string, w *watched, work func() error) error {
	var err error
	if w.fault, err = f.due(w.ServerStream.Context(), name); err != nil {
		return err
	}
	if w.fault != nil && !w.fault.After && w.fault.AfterMessages == 0 {
		if err := w.strike(); err != nil {
			return err
		}
	}
	if err := work(); err != nil {
		return err
	}
	return w.strike()
}
