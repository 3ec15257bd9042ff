package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacet/relay"
	"tacet/relay/content"
)

// DMARC is counted only if the config says so, and what is counted can't be read on the disk.
func TestDMARCReportsOfRelay(t *testing.T) {
	if d, _ := lonely(t); d.dmarc != nil {
		t.Error("domains are counted by default")
	}
	dir := t.TempDir()
	t.Run("on", func(t *testing.T) { countOne(t, dir) })
	kept, err := os.ReadFile(filepath.Join(dir, "data", "dmarcreports"))
	if err != nil || strings.Contains(string(kept), "canary") || strings.Contains(string(kept), "198.51") {
		t.Errorf("%q, %v", kept, err)
	}
}

// countOne runs a relay that counts one message.
func countOne(t *testing.T, dir string) {
	r := startChecked(t, dir, "[verify]\nscope = \"incoming\"\ndmarc_reports = true\n")
	config, err := r.core(r.config)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := config.Checks[0].Check.(*content.Verifier); !ok || v.Observer != r.dmarc || r.dmarc == nil {
		t.Errorf("the check is %+v", config.Checks[0].Check)
	}
	r.dmarc.Observe(relay.DMARCOutcome{Policy: relay.DMARCPolicy{Domain: "canary.example"}, From: "canary.example", Client: netip.MustParseAddr("198.51.100.77")})
}
