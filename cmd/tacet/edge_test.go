package main

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the edge refuses is answered so, and each refusal is a record with its reason.
func TestEdge(t *testing.T) {
	d := startFallback(t, fallbackText+"[edge]\nhelo = true\ngreylist = \"5m\"\nmessages_per_minute = 3\nconnections_per_minute = 4\n")
	mx := d.address(0).String()
	dialogue{"EHLO mx2.example.org", "250", "MAIL FROM:<a@far.example>", "550 5.7.1", "EHLO localhost", "250", "MAIL FROM:<a@far.example>", "550 5.7.1"}.hold(t, mx)
	greeted := dialogue{"EHLO c.example", "250", "MAIL FROM:<a@far.example>", "250", "RCPT TO:<b@example.org>", "450 4.7.1", "RCPT TO:<b@far.example>", "550 5.7.1"}
	greeted.hold(t, mx)
	greeted.hold(t, mx)
	dialogue{"EHLO c.example", "250", "MAIL FROM:<a@far.example>", "250", "RSET", "250", "MAIL FROM:<a@far.example>", "450 4.7.0"}.hold(t, mx)
	if said := talk(t, mx, ""); !strings.HasPrefix(said, "421 4.7.0 Too many connections from your network") {
		t.Errorf("the fifth connection reads %q", said)
	}
	d.journal.Secure()
	found, err := os.ReadFile(newestLog(t, d))
	if err != nil {
		t.Fatal(err)
	}
	for reason, want := range map[string]int{"helo_rejected": 2, "greylisted": 2, "relay_denied": 2, "rate_limited": 2} {
		if n := strings.Count(string(found), `"reason":"`+reason+`"`); n != want {
			t.Errorf("%d records of %s, want %d:\n%s", n, reason, want, found)
		}
	}
}

// talk says something at once, and returns the first line that it reads.
func talk(t *testing.T, address, say string) string {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(scriptPatience))
	if _, err := raw.Write([]byte(say)); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(raw).ReadString('\n') // the prefix is compared
	return line
}

// Who talks before the greeting is turned away; who waits is greeted. A reload is enough for either.
func TestEarlyTalker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tacet.toml")
	write := func(edge string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(fallbackText+edge), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	d := runDaemon(t, config, deps{})
	mx := d.address(0).String()
	pause := func(edge string) {
		t.Helper()
		write(edge)
		if restart, err := d.reload(); err != nil || len(restart) > 0 {
			t.Fatalf("%v, %v", restart, err)
		}
	}
	pause("[edge]\ngreet_pause = \"30s\"\n")
	if said := talk(t, mx, "EHLO client.example\r\n"); !strings.HasPrefix(said, "554 5.5.1 Wait for the greeting") {
		t.Errorf("an early talker reads %q", said)
	}
	pause("[edge]\ngreet_pause = \"10ms\"\n")
	incoming("b@example.org").hold(t, mx)
	if n := d.server.Stats().Early.Load(); n != 1 {
		t.Errorf("%d early talkers are counted", n)
	}
	pause("")
	if said := talk(t, mx, "EHLO client.example\r\n"); !strings.HasPrefix(said, "220 ") {
		t.Errorf("without a pause an early talker reads %q", said)
	}
}
