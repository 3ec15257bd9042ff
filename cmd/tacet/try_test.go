package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
)

// startPlayground runs a playground as try does, with the built-in next hop.
func startPlayground(t *testing.T) (*playground, *daemon) {
	t.Helper()
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	p := &playground{dir: t.TempDir(), user: "try", password: "swordfish"}
	config, err := p.prepare(s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the daemon's end
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	d := runDaemon(t, config, deps{})
	p.starttls, p.implicit = d.address(0), d.address(1)
	return p, d
}

// The commands to paste name nothing but what the playground has.
func TestPasteCommandsAreFilled(t *testing.T) {
	p := &playground{
		user: "try", password: "swordfish", cert: "/tmp/cert.pem",
		starttls: netip.MustParseAddrPort("127.0.0.1:2587"), implicit: netip.MustParseAddrPort("127.0.0.1:2465"),
	}
	for _, h := range p.commands() {
		for _, left := range []string{"HOST", "PORT", "SMTPS", "CERT", "USER", "PASSWORD", "SENDER", "RECIPIENT"} {
			if strings.Contains(h.command, left) {
				t.Errorf("%s: %s is not filled in:\n%s", h.name, left, h.command)
			}
		}
		if !strings.Contains(h.command, "swordfish") || !strings.Contains(h.command, trySender) {
			t.Errorf("%s lacks password or sender:\n%s", h.name, h.command)
		}
	}
}

// Where the usual ports are taken, others serve.
func TestTryFindsPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := freeAddress(addrPort(l.Addr()).Port()); got != "127.0.0.1:0" {
		t.Errorf("for a taken port: %s", got)
	}
}

// A playground that is ended before its first delivery ends without an error
// and leaves nothing.
func TestTryInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	out := &watchedBuffer{until: "submit at", then: cancel}
	c := &console{out: out, err: out}
	if err := c.try(ctx, false); err != nil {
		t.Errorf("%v\n%s", err, out.text.String())
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// watchedBuffer does something once it has been written a certain text.
type watchedBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	until string
	then  func()
}

func (w *watchedBuffer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(b)
	if strings.Contains(w.text.String(), w.until) {
		w.then()
	}
	return n, err
}
