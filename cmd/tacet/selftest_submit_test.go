package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tacet/relay/auth"
)

// The login of a self-test holds once, with its own password, and only while the test runs.
func TestOneLogin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	hash := auth.NewHash([]byte("swordfish"), auth.Params{Memory: 64, Time: 1, Threads: 1})
	if err := os.WriteFile(path, []byte("anna:"+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := auth.Open(path, auth.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	var own atomic.Pointer[oneLogin]
	l := logins{users, &own}
	try := func(user, password string, want bool) {
		t.Helper()
		if _, err := l.Authenticate(t.Context(), user, password); (err == nil) != want {
			t.Errorf("%s with %q: %v, want success %v", user, password, err, want)
		}
	}
	try("", "", false)
	own.Store(&oneLogin{user: "canary", password: "secret"})
	try("canary", "", false)
	try("canary", "swordfish", false)
	try("anna", "secret", false)
	try("anna", "swordfish", true)
	try("canary", "secret", true)
	try("canary", "secret", false)
	if !l.MaySend("canary", "whoever@example.org") {
		t.Error("the self-test may not send")
	}
	if !l.Exists("canary") || !l.Exists("anna") || l.Exists("bob") {
		t.Error("who exists while it runs")
	}
	own.Store(nil)
	try("canary", "secret", false)
	if l.MaySend("canary", "whoever@example.org") || l.Exists("canary") || !l.Exists("anna") {
		t.Error("who exists afterwards")
	}
}

// A relay for incoming mail alone, without TLS and users, is tested through a listener that
// is there for the time of the test.
func TestSelftestOfAFallback(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tacet.toml")
	if err := os.WriteFile(file, []byte("hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nkind = \"mx\"\ntls = \"none\"\n[relay]\ndomains = [\"own.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := runDaemon(t, config, deps{}); d.users != nil {
		t.Error("a fallback holds passwords")
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"privacy", "selftest", "--config", file}, strings.NewReader(""), &out, &out); code != exitOK {
		t.Errorf("%d: %s", code, out.String())
	}
	if !strings.Contains(out.String(), "records of the relay log") || strings.Contains(out.String(), "FAILED") {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	if code := run(t.Context(), []string{"privacy", "selftest", "--address", config.Listeners[0].Address, "--config", file}, strings.NewReader(""), &out, &out); code != exitFailure || !strings.Contains(out.String(), "no submission listener with TLS") {
		t.Errorf("of a listener for incoming mail: %d: %s", code, out.String())
	}
}
