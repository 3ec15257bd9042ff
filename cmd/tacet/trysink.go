package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// sink is the built-in next hop of a playground: it offers STARTTLS, takes
// all mail and forgets it.
type sink struct {
	address netip.AddrPort
	server  *inbound.Server
	done    chan error
}

// startSink listens on loopback at a free port.
func startSink() (*sink, error) {
	const hostname = "next-hop.localhost"
	content, err := selfSign(hostname, time.Now())
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		return nil, fmt.Errorf("reading the next hop's certificate: %w", err)
	}
	l, err := inbound.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the next hop: %w", err)
	}
	s := &sink{address: addrPort(l.Addr()), done: make(chan error, 1)}
	s.server = inbound.New(inbound.Config{
		Hostname: hostname, Relay: swallow{},
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
	})
	go func() { s.done <- s.server.Serve(l, inbound.Listener{Kind: inbound.MX, TLS: inbound.StartTLS}) }()
	return s, nil
}

// stop ends the next hop: whoever is still connected is cut off.
func (s *sink) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// It has nothing to lose: being cut off is no error here.
	_ = s.server.Shutdown(ctx)
	return <-s.done
}

// swallow takes every message and keeps none.
type swallow struct{}

// AdmitSender implements inbound.Relay.
func (swallow) AdmitSender(bool, *queue.Origin, queue.ReversePath) error { return nil }

// Admit implements inbound.Relay.
func (swallow) Admit(bool, *queue.Origin, queue.ReversePath, queue.ForwardPath) error { return nil }

// Ready implements inbound.Relay.
func (swallow) Ready() error { return nil }

// Accept implements inbound.Relay.
func (swallow) Accept(_ context.Context, _ *queue.Envelope, content io.Reader, _ relay.Session) (queue.ID, error) {
	if _, err := io.Copy(io.Discard, content); err != nil {
		return queue.ID{}, err
	}
	return queue.NewID(time.Now()), nil
}

// Refuse implements inbound.Relay.
func (swallow) Refuse(relay.Refusal) {}
