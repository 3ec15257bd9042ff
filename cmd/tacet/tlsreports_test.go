package main

import (
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
)

// A TLS report goes through the relay's own queue, bothers no one when it fails, and
// is not held to the policy that it tells of.
func TestSubmitReport(t *testing.T) {
	d, _ := lonely(t)
	if d.reports == nil {
		t.Fatal("reports are off by default")
	}
	d.reports.Observe(relay.TLSSession{Domain: "example.net", Host: "mx.example.net"})
	letter := "From: <postmaster@relay.example.org>\r\nTLS-Required: No\r\n\r\nreport\r\n"
	if err := (reportWorld{d, &d.routes}).Submit(t.Context(), "reports@example.net", []byte(letter)); err != nil {
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
