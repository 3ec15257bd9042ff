package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestOperationsJSON(t *testing.T) {
	var out bytes.Buffer
	ops := NewOperations(OperationsOptions{To: &out})
	ops.Log(OpListenerUp, Listener(netip.MustParseAddrPort("127.0.0.1:2587")), Count(3), Duration(1500*time.Millisecond), Version("1.2.3-rc.1"), Until(time.Unix(0, 0)))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(timeLayout, got["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	want := map[string]any{"level": "info", "event": "listener_up", "message": "a listener takes connections", "listener": "127.0.0.1:2587", "count": 3.0,
		"duration": "1.5s", "version": "1.2.3-rc.1", "until": "1970-01-01T00:00:00Z"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
}

func TestOperationsConsole(t *testing.T) {
	var out bytes.Buffer
	NewOperations(OperationsOptions{To: &out, Format: FormatConsole}).Log(OpDiskFull)
	if got := out.String(); !strings.HasSuffix(got, "  ERROR  disk_full  too little free space: new mail is put off\n") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	out.Reset()
	NewOperations(OperationsOptions{To: &out, Format: FormatColour}).Log(OpDiskFull)
	if !strings.Contains(out.String(), "\x1b[31mERROR\x1b[0m") {
		t.Errorf("%q", out.String())
	}
}

func TestNilOperations(t *testing.T) {
	var ops *Operations
	ops.Log(OpStarted)
	var out bytes.Buffer
	NewOperations(OperationsOptions{To: &out}).Log(Op(200))
	if out.Len() != 0 {
		t.Errorf("an unknown event: %s", out.String())
	}
}

// TestErrorsTellTheirClassAlone gives errors that hold a person's address in
// every place there is.
func TestErrorsTellTheirClassAlone(t *testing.T) {
	const secret = "anna@example.org"
	addr := &net.TCPAddr{IP: net.ParseIP("203.0.113.9"), Port: 4711}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "none"},
		{errors.New(secret), "*errors.errorString"},
		{fmt.Errorf("%s: %w", secret, syscall.ENOSPC), "ENOSPC"},
		{&os.PathError{Op: "open", Path: secret, Err: syscall.EACCES}, "EACCES"},
		{&net.OpError{Op: "dial", Addr: addr, Err: syscall.ECONNREFUSED}, "ECONNREFUSED"},
		{&net.DNSError{Name: secret, IsNotFound: true}, "dns_not_found"},
		{&net.DNSError{Name: secret, IsTimeout: true}, "dns_timeout"},
		{fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), "timeout"},
		{errors.Join(errors.New(secret), os.ErrNotExist), "not_exist"},
		{fmt.Errorf("%s: %w", secret, fmt.Errorf("%w", &net.AddrError{Addr: secret})), "*net.AddrError"},
		{syscall.Errno(9999), "errno_9999"},
	} {
		var out bytes.Buffer
		NewOperations(OperationsOptions{To: &out}).Log(OpTaskFailed, Err(c.err))
		var got struct{ Error string }
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Error != c.want {
			t.Errorf("%v: got %q want %q", c.err, got.Error, c.want)
		}
		if strings.Contains(out.String(), "anna") || strings.Contains(out.String(), "203.0") {
			t.Errorf("leaks: %s", out.String())
		}
	}
}

func TestParametersHoldNames(t *testing.T) {
	for _, bad := range []string{"anna@example.org", "203.0.113.9", "2001:db8::1", "a b", "x\x1b[31m", strings.Repeat("x", 100), ""} {
		if p := Version(bad); p.text != "withheld" {
			t.Errorf("%q passed as %s: %q", bad, p.key, p.text)
		}
	}
}

func TestFloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		ops := NewOperations(OperationsOptions{To: &out})
		for range 1000 {
			ops.Log(OpPanicContained)
		}
		ops.Log(OpDiskFull)
		if got := out.events(t); len(got) != floodLines+1 || !slices.Contains(got, "disk_full") {
			t.Errorf("%d lines", len(got))
		}
		time.Sleep(floodPeriod)
		ops.Log(OpPanicContained)
		if got := out.String(); !strings.HasSuffix(got, `"suppressed":980}`+"\n") {
			t.Errorf("%s", got)
		}
	})
}

func TestCaptureStd(t *testing.T) {
	var out, before lockedBuffer
	to, flags := log.Writer(), log.Flags()
	log.SetOutput(&before)
	defer log.SetOutput(to)
	ops := NewOperations(OperationsOptions{To: &out})
	restore := CaptureStd(ops)
	log.Printf("session of %s", "anna@example.org")
	slog.Error("session", "user", "anna@example.org")
	Withheld(ops).Print("anna@example.org")
	restore()
	if got := out.events(t); !slices.Equal(got, []string{"library_message", "library_message", "library_message"}) {
		t.Errorf("%v", got)
	}
	if strings.Contains(out.String(), "anna") || before.String() != "" {
		t.Errorf("leaks: %s%s", out.String(), before.String())
	}
	if log.Flags() != flags || log.Writer() != &before {
		t.Error("not restored")
	}
}

func TestClockJump(t *testing.T) {
	var out lockedBuffer
	c := newClock(NewOperations(OperationsOptions{To: &out}))
	c.tick()
	if out.String() != "" {
		t.Errorf("%s", out.String())
	}
	c.wall = c.wall.Add(-time.Hour)
	c.tick()
	if got := out.events(t); !slices.Equal(got, []string{"clock_jump"}) || !strings.Contains(out.String(), `"duration":"1h0m`) {
		t.Errorf("%s", out.String())
	}
	c.tick()
	if got := out.events(t); len(got) != 1 {
		t.Errorf("told twice: %v", got)
	}
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	a := NewAudit(dir)
	want := []Action{
		{Time: time.Date(2026, 4, 30, 23, 59, 59, 0, time.UTC), UID: 1000, User: "jo", What: VerbQueueRetry, Scope: []Scope{ScopeAll}, Ticket: "T-17", Matched: 5, Changed: 4},
		{Time: time.Date(2026, 4, 30, 23, 59, 59, 0, time.UTC), UID: 0, What: VerbLogRead, Scope: []Scope{ScopeRecipient, ScopeTime}, Matched: 12},
		{Time: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), UID: 1000, User: "jo\x1b[31m", What: VerbQueueDelete, Scope: []Scope{ScopeID}, ID: "K3V9", Ticket: "not a ticket", Failed: true},
	}
	for _, act := range want {
		if err := a.Write(act); err != nil {
			t.Fatal(err)
		}
	}
	want[2].User, want[2].Ticket = `jo\x1b[31m`, ""
	i := 0
	for got, err := range ReadAudit(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if (got.Prev == "") != (i == 0) {
			t.Errorf("record %d has the predecessor %q", i, got.Prev)
		}
		got.Prev = ""
		if fmt.Sprint(got) != fmt.Sprint(want[i]) {
			t.Errorf("\n got %v\nwant %v", got, want[i])
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d records", i)
	}
	info, err := os.Stat(filepath.Join(dir, "audit-2026-05.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestAuditFindsTampering(t *testing.T) {
	for name, tamper := range map[string]func(string) string{
		"changed": func(s string) string { return strings.Replace(s, `"uid":1`, `"uid":9`, 1) },
		"removed": func(s string) string {
			lines := strings.SplitAfter(s, "\n")
			return lines[0] + strings.Join(lines[2:], "")
		},
		"inserted": func(s string) string { lines := strings.SplitAfter(s, "\n"); return lines[0] + s },
	} {
		dir := t.TempDir()
		a := NewAudit(dir)
		for i := range 4 {
			if err := a.Write(Action{Time: time.Unix(int64(i), 0), UID: i, What: VerbReload}); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "audit-1970-01.jsonl")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(tamper(string(raw))), 0o600); err != nil {
			t.Fatal(err)
		}
		broken := false
		for _, err := range ReadAudit(dir) {
			broken = broken || errors.Is(err, ErrChain)
		}
		if !broken {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestAuditThatCannotBeWritten(t *testing.T) {
	if err := NewAudit(filepath.Join(t.TempDir(), "none")).Write(Action{What: VerbReload}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
