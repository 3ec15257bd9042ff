package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// checkedRelay is a daemon with content checks, and the next hop behind it.
type checkedRelay struct {
	*daemon
	dir  string
	mail chan string // what the next hop got
}

// takesAll is a next hop that gives what it gets to the test.
type takesAll struct {
	swallow
	mail chan string
}

func (h takesAll) Accept(_ context.Context, _ *queue.Envelope, content io.Reader, _ relay.Session) (queue.ID, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return queue.ID{}, err
	}
	h.mail <- string(b)
	return queue.NewID(time.Now()), nil
}

// startChecked starts a daemon in dir with more of a config.
func startChecked(t *testing.T, dir, more string) *checkedRelay {
	t.Helper()
	file, mail := checkedConfig(t, dir, more)
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return &checkedRelay{daemon: runDaemon(t, config, deps{}), dir: dir, mail: mail}
}

// checkedConfig writes a config with more of it to dir, and starts the next hop that it leads
// to. Its listeners are one for submission without a login, and one for mail to example.org.
func checkedConfig(t *testing.T, dir, more string) (file string, mail chan string) {
	t.Helper()
	hop := takesAll{mail: make(chan string, 10)}
	l, err := inbound.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := inbound.New(inbound.Config{Hostname: "hop.example", Relay: hop})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, inbound.Listener{Kind: inbound.MX, TLS: inbound.NoTLS}) }()
	file = filepath.Join(dir, "tacet.toml")
	text := fmt.Sprintf(`hostname = "relay.example.org"
data_dir = "data"
[auth]
users_file = "users"
[relay]
trusted_networks = ["127.0.0.0/8"]
domains = ["example.org"]
[primary]
hosts = ["[%[1]s]:%[2]d"]
[delivery]
next_hop = "[%[1]s]:%[2]d"
[[listener]]
address = "127.0.0.1:0"
tls = "none"
[[listener]]
address = "127.0.0.2:0"
kind = "mx"
tls = "none"
%[3]s`, addrPort(l.Addr()).Addr(), addrPort(l.Addr()).Port(), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the daemon's end
		ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
		defer cancel()
		_ = server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return file, hop.mail
}

// send gives a message to the i-th listener.
func (r *checkedRelay) send(i int, text string) error {
	return smtp.SendMail(r.address(i).String(), nil, "a@example.org", []string{"b@example.org"}, []byte(text))
}

// delivered is the message as the next hop got it.
func (r *checkedRelay) delivered(t *testing.T) string {
	t.Helper()
	select {
	case m := <-r.mail:
		return m
	case <-time.After(scriptPatience):
		t.Fatal("nothing reached the next hop")
	}
	return ""
}

// lines are the relay log's lines of one event.
func (r *checkedRelay) lines(t *testing.T, event string) (found []map[string]any) {
	t.Helper()
	r.journal.Secure()
	files, err := filepath.Glob(filepath.Join(r.dir, "data", "log", "relay-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var record map[string]any
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			if status, _ := record["status"].(map[string]any); status["event"] == event {
				found = append(found, record)
			}
		}
	}
	return found
}

const plainMail = "From: Ann <a@example.org>\r\nTo: b@example.org\r\nSubject: hello\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\nbody\r\n"

// signingKeys makes keys of example.org. It returns their records, and the config that names them.
func signingKeys(t *testing.T, dir string) (zone map[string][]string, more string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o750); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "generate.toml")
	if err := os.WriteFile(config, []byte("data_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"dkim", "generate", "example.org", "--selector", "s", "--json", "--config", config}, nil, &out, &errs); code != exitOK {
		t.Fatal(errs.String())
	}
	zone = make(map[string][]string)
	for line := range strings.Lines(out.String()) {
		var k struct{ Domain, Selector, Name, Record string }
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			t.Fatal(err)
		}
		zone[k.Name] = []string{k.Record}
		more += fmt.Sprintf("[[dkim]]\ndomain = %q\nselector = %q\n", k.Domain, k.Selector)
	}
	return zone, more
}

// signed checks that a message has the signatures of both keys.
func signed(t *testing.T, zone map[string][]string, text string) {
	t.Helper()
	found, err := dkim.VerifyWithOptions(strings.NewReader(text), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return zone[name], nil }})
	if err != nil || len(found) != 2 || found[0].Err != nil || found[1].Err != nil {
		t.Errorf("%+v, %v", found, err)
	}
}

// Submitted mail of a domain with keys leaves with two signatures that verify as
// the printed records say; other mail leaves as it is.
func TestSigningRelay(t *testing.T) {
	dir := t.TempDir()
	zone, more := signingKeys(t, dir)
	r := startChecked(t, dir, more)
	for _, text := range []string{plainMail, plainMail + strings.Repeat("a long message, which is spooled\r\n", 20000)} {
		if err := r.send(0, text); err != nil {
			t.Fatal(err)
		}
		signed(t, zone, r.delivered(t))
	}
	if err := r.send(1, plainMail); err != nil {
		t.Fatal(err)
	}
	if got := r.delivered(t); strings.Contains(got, "DKIM-Signature") || !strings.HasSuffix(got, plainMail) {
		t.Errorf("incoming mail was changed: %q", got)
	}
	if got := r.lines(t, "accepted"); len(got) != 3 || got[0]["headers"] != nil {
		t.Errorf("log %v", got)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "data", "spool")); err != nil || len(left) != 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// What the relay writes itself is signed: the report on a message that fails, and a TLS report.
func TestSigningReports(t *testing.T) {
	dir := t.TempDir()
	zone, more := signingKeys(t, dir)
	r := startChecked(t, dir, more)
	if err := smtp.SendMail(r.address(0).String(), nil, "a@example.org", []string{"b@example.net"}, []byte(plainMail+strings.Repeat("long", 300)+"\r\n")); err != nil {
		t.Fatal(err)
	}
	report := r.delivered(t)
	if !strings.Contains(report, "From: MAILER-DAEMON <postmaster@relay.example.org>") || !strings.Contains(report, "Status: 5.6.0") {
		t.Errorf("not the report:\n%s", report)
	}
	signed(t, zone, report)
	if err := (reportWorld{r.daemon, &r.routes, true}).Submit(t.Context(), "tls@example.net", []byte(tlsLetter)); err != nil {
		t.Fatal(err)
	}
	signed(t, zone, r.delivered(t))
	if n := r.relay.Stats.Unchecked.Load(); n != 0 {
		t.Errorf("%d were not signed", n)
	}
}

const programMail = "From: a@example.org\r\nSubject: a game\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
	"Content-Type: application/pdf; name=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAA=\r\n--b--\r\n"

// A rule refuses in the session, with header fields in the log; one in test mode counts
// and lets pass, until the config says otherwise.
func TestRulesOfRelay(t *testing.T) {
	dir := t.TempDir()
	rule := "[[rule]]\nname = \"no-programs\"\nkinds = [\"program\"]\naction = %q\n"
	r := startChecked(t, dir, fmt.Sprintf(rule, "test"))
	if err := r.send(0, programMail); err != nil {
		t.Fatal(err)
	}
	if got := r.delivered(t); !strings.HasSuffix(got, programMail[strings.Index(programMail, "Subject"):]) {
		t.Errorf("test mode changed the message: %q", got)
	}
	families, err := prometheusText(t, r.daemon)
	if err != nil || !strings.Contains(families, `tacet_rule_matches_total{rule="no-programs"} 1`) {
		t.Errorf("metrics: %v, %s", err, families)
	}
	file := filepath.Join(dir, "tacet.toml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(config), `"test"`, `"reject"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.reload(); err != nil {
		t.Fatal(err)
	}
	if err := r.send(0, programMail); err == nil || !strings.Contains(err.Error(), "5.7.1 The message has an attachment") {
		t.Errorf("the client read %v", err)
	}
	lines := r.lines(t, "content_rejected")
	if len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["headers"]), "a game") || !strings.Contains(fmt.Sprint(lines[0]["status"]), "attachment_blocked") {
		t.Errorf("log %v", lines)
	}
	if n := r.store.Stats().Messages; n != 0 {
		t.Errorf("%d messages are queued", n)
	}
}

// prometheusText is what Prometheus would read.
func prometheusText(t *testing.T, d *daemon) (string, error) {
	t.Helper()
	answer := httptest.NewRecorder()
	d.metricsHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	b, err := io.ReadAll(answer.Body)
	return string(b), err
}

// Incoming mail is marked with what vouches for it; where no resolver answers, that is said, and
// nothing is refused that is only to be marked.
func TestVerifyOfRelay(t *testing.T) {
	r := startChecked(t, t.TempDir(), "[dns]\nresolvers = [\"127.0.0.1:9\"]\n[verify]\nscope = \"incoming\"\n")
	for i, marked := range []bool{false, true} {
		if err := r.send(i, "Authentication-Results: relay.example.org; dkim=pass\r\n"+plainMail); err != nil {
			t.Fatal(err)
		}
		got := r.delivered(t)
		if strings.Contains(got, "Authentication-Results: relay.example.org;\r\n\tspf=temperror") != marked || strings.Contains(got, "dkim=pass") == marked {
			t.Errorf("listener %d: %q", i, got)
		}
	}
}

// What a rule holds is accepted, waits through a look at the queue, and goes on when an
// operator releases it, in the large as in the small.
func TestRuleHoldsOfRelay(t *testing.T) {
	r := startChecked(t, t.TempDir(), "[[rule]]\nname = \"later\"\nfield = \"Subject\"\npattern = \"hello\"\naction = \"hold\"\n")
	for i, text := range []string{plainMail, plainMail + strings.Repeat("a long message, which is spooled\r\n", 20000)} {
		if err := r.send(0, text); err != nil {
			t.Fatal(err)
		}
		held := r.lines(t, "held")
		if len(held) != i+1 || r.store.Stats().Held != 1 {
			t.Fatalf("log %v, %d held", held, r.store.Stats().Held)
		}
		status, _ := held[i]["status"].(map[string]any)
		id, err := queue.ParseID(fmt.Sprint(status["id"]))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.relay.Release(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got := r.delivered(t); !strings.HasSuffix(got, text) {
			t.Errorf("got %d octets, want %d", len(got), len(text))
		}
	}
}
