package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
)

// seal signs everything.
type seal struct{}

func (seal) Check(context.Context, *relay.Message) (relay.Verdict, error) {
	return relay.Verdict{Added: []byte("DKIM-Signature: v=1\r\n")}, nil
}

const tlsLetter = "From: <postmaster@relay.example.org>\r\nTLS-Required: No\r\n\r\nreport\r\n"

// A TLS report goes through the relay's own queue, bothers no one when it fails, and
// is not held to the policy that it tells of.
func TestSubmitReport(t *testing.T) {
	d, _ := lonely(t)
	if d.reports == nil {
		t.Fatal("reports are off by default")
	}
	d.reports.Observe(relay.TLSSession{Domain: "example.net", Host: "mx.example.net"})
	submit := func() error {
		return reportWorld{d, &d.routes, true}.Submit(t.Context(), "reports@example.net", []byte(tlsLetter))
	}
	if err := submit(); !errors.Is(err, relay.ErrUnsigned) || d.relay.Stats.Accepted.Load() != 0 {
		t.Fatalf("without a key: %v, want that it is not sent", err)
	}
	config, err := d.core(d.config)
	if err != nil {
		t.Fatal(err)
	}
	config.Signer = seal{}
	d.relay.Reload(config)
	if err := submit(); err != nil {
		t.Fatal(err)
	}
	found := false
	for e, err := range d.store.List(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Recipients[0].Path == "reports@example.net" {
			found = e.TLSOptional && e.Origin.Local && e.Recipients[0].Notify == queue.NotifyNever && strings.HasPrefix(string(e.Sender), "postmaster@")
		}
	}
	if !found {
		t.Error("the report is not queued as it should be")
	}
}
