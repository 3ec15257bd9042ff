package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
)

// cli runs a command and returns what it printed.
func (w *canaryWorld) cli(args ...string) (int, []byte) { return w.cliOf(w.config, args...) }

// cliOf runs one with another config.
func (w *canaryWorld) cliOf(config string, args ...string) (int, []byte) {
	var out bytes.Buffer
	w.note(args)
	code := run(w.t.Context(), append(args, "--config", config), strings.NewReader(""), &out, &out)
	return code, out.Bytes()
}

// canaryCommand is a command, and what the sink is called that it prints to.
type canaryCommand struct {
	sink string
	args []string
}

// canaryCommands are all that an operator has, but for those of incidents and
// those that serve. The message with the ID is held and released.
func (w *canaryWorld) canaryCommands(id string) []canaryCommand {
	to := w.address("a")
	of := func(sink string, lines ...string) (all []canaryCommand) {
		for _, line := range lines {
			all = append(all, canaryCommand{sink, strings.Fields(line)})
		}
		return all
	}
	var all []canaryCommand
	for _, some := range [][]canaryCommand{
		of("cli:queue-list", "queue list", "queue list --json"),
		of("cli:queue-show", "queue show "+id, "queue show "+id+" --json"),
		of("cli:queue-stats", "queue stats", "queue stats --json", "queue stats --by domain"),
		of("cli:queue-stats-sender", "queue stats --by sender"),
		of("cli:queue-act", "queue hold "+id, "queue release "+id, "queue retry "+id),
		of("cli:log-read", "log tail -n 500", "log tail -n 500 --json", "log find --recipient "+to, "log find --event delivered --json", "log trace "+to, "log trace "+id),
		of("cli:log-find-nothing", "log find --sender "+w.new("query.sender")+"@example.org"),
		of("cli:log-stats", "log stats", "log stats --json"),
		of("cli:log-verify", "log verify --audit", "log verify --json"),
		of("cli:privacy-export", "privacy export "+to+" --ticket T-1", "privacy export "+to+" --ticket T-1 --json"),
		of("cli:quiet", "privacy export "+to+" --ticket T-1 --to "+w.path("export.age")+" --age "+w.reader.Recipient().String()),
		of("cli:privacy-erase", "privacy erase "+to+" --ticket T-2", "privacy erase "+to+" --ticket T-2 --json"),
		of("cli:privacy-policy", "privacy report", "privacy report --json", "privacy statement --lang de", "privacy statement --lang en", "privacy record --lang de"),
		of("cli:privacy-selftest", "privacy selftest", "privacy selftest --json"),
		of("cli:user", "user list", "user list --json", "user show", "user show --json", "user add "+w.new("added.user")+" --generate",
			"user modify "+w.of("added.user")+" --senders "+w.new("user.sender", "%s@example.org")+"@example.org", "user remove "+w.new("added.user")),
		of("cli:quiet", "backup create "+w.path("backup.tar"), "backup verify "+w.path("backup.tar"), "backup create "+w.path("keys.tar")+" --keys-to "+w.reader.Recipient().String()),
		of("cli:quiet", "recipients key "+w.path("keys"), "recipients build --key "+w.path("sign.key")+" --domain own.example --from list:"+w.file("people", w.new("listed.local")+"@own.example\n")+" --out "+w.path("list"),
			"recipients pull", "recipients check "+w.of("mx.rcpt.local")+"@own.example"),
		of("cli:quiet", "dkim generate example.org --algorithm ed25519 --dir "+w.path("keys")),
		of("cli:dkim-check", "dkim check", "dkim check --json"),
		of("cli:route", "route x@"+w.new("looked.up")+".example"),
		of("cli:check", "check", "check --json"),
		of("cli:plain", "version", "unit", "incident list", "man "+w.path("man"), "completion bash", "--help", "log find --help"),
	} {
		all = append(all, some...)
	}
	return all
}

// commands runs the commands that an operator has, and asks the control socket.
func (w *canaryWorld) commands(t *testing.T, saw sightings, run func(...string) (int, []byte), id string) {
	t.Helper()
	for _, folder := range []string{"man", "keys"} {
		if err := os.MkdirAll(w.path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range w.canaryCommands(id) {
		want := 0
		if w.leaky && c.sink == "cli:privacy-selftest" || c.sink == "cli:route" || c.sink == "cli:dkim-check" {
			want = 1 // it bites too; there is no such domain; and one key is not the one in the DNS
		}
		code, out := run(c.args...)
		if code != want {
			t.Errorf("%v ended with %d, want %d: %s", c.args, code, want, out)
		}
		saw.look(w.canarySet, c.sink, out)
	}
	backup, err := os.ReadFile(w.path("backup.tar"))
	if err != nil {
		t.Fatal(err)
	}
	saw.look(w.canarySet, "backup", backup)
	w.exported(t, saw)
	for sink, path := range map[string]string{
		"control:list": "/v1/queue", "control:show": "/v1/queue/" + id, "stats": "/v1/stats", "health": "/v1/health", "metrics": "/metrics",
		"config": "/v1/config", "incidents": "/v1/incidents/open",
	} {
		saw.look(w.canarySet, sink, w.ask(t, path))
	}
	// A fault of the asker's is his own business, and goes nowhere else.
	w.ask(t, "/v1/queue?older="+w.new("query"))
}

// exported looks at what left encrypted, and at what is in it.
func (w *canaryWorld) exported(t *testing.T, saw sightings) {
	t.Helper()
	for sink, name := range map[string]string{"export": "export.age", "backup": "keys.tar"} {
		content, err := os.ReadFile(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		saw.look(w.canarySet, sink, content)
	}
	f, err := os.Open(w.path("export.age"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := age.Decrypt(f, w.reader)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	saw.look(w.canarySet, "cli:privacy-export", content)
}

// ask asks the control socket.
func (w *canaryWorld) ask(t *testing.T, path string) []byte {
	t.Helper()
	client := &http.Client{Timeout: canaryPatience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.path("data/control.sock"))
	}}}
	res, err := client.Get("http://tacet" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// incidents records a submission under an incident of a recipient, one with
// content of a sender and one that nothing matches, and looks at what they show,
// at their files and at what is left of them.
func (w *canaryWorld) incidents(t *testing.T, saw sightings, run func(...string) (int, []byte)) {
	t.Helper()
	must := func(args ...string) []byte {
		t.Helper()
		code, out := run(args...)
		if code != 0 {
			t.Errorf("%v ended with %d: %s", args, code, out)
		}
		return out
	}
	open := map[string]string{}
	for sink, scope := range map[string]string{"incident:recipient": "recipient=" + w.address("a"), "incident:content": "sender=" + w.sender(), "incident:other": "user=" + w.new("elsewhere")} {
		args := []string{"incident", "open", "--ticket", "T-3", "--scope", scope, "--json"}
		if sink == "incident:content" {
			args = append(args, "--with-content")
		}
		var opened struct{ ID string }
		if err := json.Unmarshal(must(args...), &opened); err != nil {
			t.Fatal(err)
		}
		open[sink] = opened.ID
	}
	before := w.count("delivered")
	w.submit("starttls", "a", "b", "c", "d")
	w.until("delivered", before+2) // by a, and the report
	w.look(saw)
	saw.look(w.canarySet, "cli:incident-list", must("incident", "list"))
	saw.look(w.canarySet, "incidents", w.ask(t, "/v1/incidents/open"))
	_, tail := run("log", "tail", "-n", "1")
	saw.look(w.canarySet, "cli:log-read", tail)
	for sink, id := range open {
		saw.look(w.canarySet, sink, contentsOf(t, must("incident", "show", id, "--json")))
		saw.look(w.canarySet, sink, must("incident", "show", id))
		must("incident", "export", id, "--to", w.path(id))
		exported, err := os.ReadFile(w.path(id))
		if err != nil {
			t.Fatal(err)
		}
		saw.look(w.canarySet, sink, contentsOf(t, exported))
		if err := os.Remove(w.path(id)); err != nil {
			t.Fatal(err)
		}
		saw.look(w.canarySet, "cli:incident-close", must("incident", "close", id))
	}
	if left, err := os.ReadDir(w.path("data/incidents")); err != nil || len(left) > 0 {
		t.Errorf("of closed incidents there is left: %v, %v", left, err)
	}
}

// contentsOf joins the pieces of content in a dialogue, behind the rest of it.
func contentsOf(t *testing.T, dialogue []byte) []byte {
	t.Helper()
	out := bytes.Clone(dialogue)
	for line := range bytes.Lines(dialogue) {
		var e struct{ Content []byte }
		if err := json.Unmarshal(line, &e); err == nil {
			out = append(out, e.Content...)
		}
	}
	return out
}
