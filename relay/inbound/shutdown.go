package inbound

import (
	"context"
	"errors"
	"net"
	"time"
)

// unwind is how long cut-off sessions have to return from what they wait for.
const unwind = 2 * time.Second

// Shutdown closes the listeners and answers every client 421 once it has no
// transaction open: idle ones at once. When ctx ends, the rest is cut off, the context of
// the relay's work ends too, and Shutdown returns ctx's error. It is called once.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	select {
	case <-s.empty:
	case <-ctx.Done():
		err = ctx.Err()
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			c.Abort()
		}
		s.mu.Unlock()
		select {
		case <-s.empty:
		case <-time.After(unwind):
			// Something does not return: go-smtp is left to it.
			return err
		}
	}
	s.cancel()
	// No session is left. go-smtp's own loop ends, or ends as soon as it begins.
	_ = s.attach.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unwind)
	defer cancel()
	return errors.Join(err, s.smtp.Shutdown(ctx))
}

// stop closes the listeners and asks every session to end.
func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return net.ErrClosed
	}
	s.stopping = true
	close(s.stopped)
	var err error
	for _, ln := range s.listeners {
		if e := ln.Close(); !errors.Is(e, net.ErrClosed) { // one that failed is closed already
			err = errors.Join(err, e)
		}
	}
	for c := range s.conns {
		c.Stop()
	}
	if len(s.conns) == 0 {
		close(s.empty)
	}
	return err
}
