package main

import (
	"bytes"
	"strings"
	"testing"

	"tacet/logging"
)

// Who follows the log is told once that an incident is open, and once that it is no longer.
func TestIncidentBanner(t *testing.T) {
	d, _ := lonely(t)
	var out bytes.Buffer
	c, told := &console{err: &out}, map[string]bool{}
	look := func() string {
		out.Reset()
		c.incidentBanner(t.Context(), d.config, told)
		return out.String()
	}
	target, err := logging.ParseTarget([]string{"recipient=bob@example.net"})
	if err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "" {
		t.Errorf("nothing is open: %q", got)
	}
	in, err := d.incidents.Open(logging.IncidentRequest{Ticket: "T-1", Target: target, By: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	if got := look(); !strings.Contains(got, "INCIDENT "+in.ID+" IS OPEN until ") || !strings.Contains(got, "or the relay's end") || strings.Contains(got, "bob") {
		t.Errorf("it is open: %q", got)
	}
	if got := look(); got != "" {
		t.Errorf("it is still open: %q", got)
	}
	if _, err := d.incidents.Close(in.ID); err != nil {
		t.Fatal(err)
	}
	if got := look(); !strings.Contains(got, "INCIDENT "+in.ID+" HAS ENDED") {
		t.Errorf("it is closed: %q", got)
	}
	if got := look(); got != "" {
		t.Errorf("it is still closed: %q", got)
	}
}
