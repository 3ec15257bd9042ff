package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// A restart greylists nobody anew who was let through, a reload takes the config's word, and
// what is kept shows nobody.
func TestGreylistOutlivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tacet.toml")
	begin := func(edge string) *daemon {
		t.Helper()
		if err := os.WriteFile(path, []byte(fallbackText+edge), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := startDaemon(t.Context(), config, deps{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	end := func(d *daemon) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
		defer cancel()
		if err := d.stop(ctx); err != nil {
			t.Error(err)
		}
	}
	asked := func(d *daemon, to, want string) {
		t.Helper()
		dialogue{"EHLO c.example", "250", "MAIL FROM:<anna@far.example>", "250", "RCPT TO:<" + to + ">", want}.hold(t, d.address(0).String())
	}
	first := begin("[edge]\ngreylist = \"1s\"\n")
	asked(first, "b@example.org", "450 4.7.1")
	began := time.Now()
	soon(t, "the greylist's second to be over", func() bool { return time.Since(began) > 2*time.Second })
	asked(first, "b@example.org", "250")
	end(first)
	kept, err := os.ReadFile(filepath.Join(first.config.DataDir, edgeMemory))
	if err != nil || bytes.Contains(kept, []byte("anna")) || bytes.Contains(kept, []byte("greylist")) {
		t.Errorf("kept: %v\n%q", err, kept)
	}
	second := begin("[edge]\ngreylist = \"1h\"\n")
	defer end(second)
	asked(second, "b@example.org", "250")
	asked(second, "new@example.org", "450 4.7.1")
	for _, c := range []struct{ edge, want string }{{"[edge]\ngreylist = \"30m\"\n", "450 4.7.1"}, {"", "250"}, {"[edge]\nhelo = true\n", "250"}} {
		if err := os.WriteFile(path, []byte(fallbackText+c.edge), 0o600); err != nil {
			t.Fatal(err)
		}
		if restart, err := second.reload(); err != nil || len(restart) > 0 {
			t.Fatalf("%q: %v, %v", c.edge, restart, err)
		}
		asked(second, "new@example.org", c.want)
	}
	dialogue{"EHLO localhost", "250", "MAIL FROM:<anna@far.example>", "550 5.7.1"}.hold(t, second.address(0).String())
}

// Whom a primary is told of follows a reload.
func TestIntroduceFollowsReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tacet.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fallbackText)
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	d := runDaemon(t, config, deps{})
	for _, by := range []string{"", "introduce = \"xclient\"\n", ""} {
		write(fallbackText + by)
		if restart, err := d.reload(); err != nil || len(restart) > 0 {
			t.Fatalf("%v, %v", restart, err)
		}
		incoming("b@example.org").holdFrom(t, "127.0.0.77", d.address(0).String())
		var client, helo string
		for e, err := range d.store.List(t.Context(), queue.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			client, helo = e.Origin.Client.String(), e.Origin.Helo // of the newest
		}
		if want := strings.Contains(by, "xclient"); (client == "127.0.0.77") != want || (helo == "client.example") != want {
			t.Errorf("with %q the envelope has %s, %q", by, client, helo)
		}
	}
}
