package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"tacet/relay/inbound"
)

// selftestDoor opens a submission listener on loopback for the time of a self-test, of a relay
// that has none: a fallback MX. What comes in by it goes the relay's own way, and
// nobody but the self-test has a login.
func (d *daemon) selftestDoor(ctx context.Context) (p port, end func(), err error) {
	c := d.settings()
	content, err := selfSign(c.Hostname, time.Now())
	if err != nil {
		return p, nil, err
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		return p, nil, fmt.Errorf("reading the self-test's certificate: %w", err)
	}
	l, err := inbound.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return p, nil, fmt.Errorf("opening a listener for the self-test: %w", err)
	}
	who := selftestLogin{&d.selftest}
	config := c.inbound(d)
	config.Relay, config.Auth = gate{d.relay, who}, who
	config.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server := inbound.New(config)
	p = port{l, inbound.Listener{Kind: inbound.Submission, TLS: inbound.ImplicitTLS}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, p.kind) }()
	return p, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // being cut off is no error here
		<-served
	}, nil
}

// errNoLogin is of whoever else comes to that listener.
var errNoLogin = errors.New("nobody but the self-test logs in here")

// selftestLogin is the login of a self-test where there are no users.
type selftestLogin struct{ selftest *atomic.Pointer[oneLogin] }

// Authenticate implements inbound.Authenticator.
func (l selftestLogin) Authenticate(_ context.Context, user, password string) (known bool, err error) {
	if l.selftest.Load().takes(user, password) {
		return true, nil
	}
	return false, errNoLogin
}

// Exists implements inbound.Authenticator.
func (l selftestLogin) Exists(user string) bool {
	own := l.selftest.Load()
	return own != nil && user == own.user
}
