package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	testUser     = "anna@example.org"
	testPassword = "correct-horse:battery/staple"
)

// daemon is a running `tacet serve` with a config and a data directory of its own.
type daemon struct {
	t                  *testing.T
	bin, dir, config   string
	starttls, implicit string // addresses of its listeners
	env                []string
	quiet              bool // no one follows its log
	place              place
	proc               *process
	log                *feed[record]
}

// newDaemon writes a config without starting anything. rest is TOML for the
// sections beside the listeners, [tls], [auth], [limits] and [log].
func (p *peers) newDaemon(t *testing.T, rest string) *daemon {
	t.Helper()
	dir := workDir(t)
	d := &daemon{t: t, bin: p.bin, dir: dir, config: filepath.Join(dir, "tacet.toml"), starttls: freePort(t), implicit: freePort(t)}
	writeFile(t, d.config, fmt.Sprintf(`hostname = "relay.example.org"
data_dir = %q
postmaster = "postmaster@example.org"

[[listener]]
address = %q
tls = "starttls"

[[listener]]
address = %q
tls = "implicit"

[tls]
cert = %q
key = %q

[auth]
users_file = %q

[limits]
connections_per_client = 0

[log]
dir = %q

`, d.path("data"), d.starttls, d.implicit, p.cert.cert, p.cert.key, d.path("users"), d.path("log"))+rest)
	return d
}

// daemon starts a relay with a user and waits until it listens.
func (p *peers) daemon(t *testing.T, rest string) *daemon {
	t.Helper()
	d := p.newDaemon(t, rest)
	d.addUser()
	d.start()
	return d
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemon) addUser() {
	d.t.Helper()
	cmd := d.command("user", "add", testUser, "--senders", testUser+",анна@example.org")
	cmd.Stdin = strings.NewReader(testPassword + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("tacet user add: %v\n%s", err, out)
	}
}

// command is a subcommand of the binary with this daemon's config.
func (d *daemon) command(args ...string) *exec.Cmd {
	return d.place.command(d.bin, append(args, "--config", d.config)...)
}

// run runs a subcommand that must succeed and returns its standard output.
func (d *daemon) run(args ...string) string {
	d.t.Helper()
	out, errs, status := runProgram(d.t, d.command(args...))
	if status != 0 {
		d.t.Fatalf("tacet %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// start runs the daemon and waits until it says that it is ready, as systemd would.
func (d *daemon) start() {
	d.t.Helper()
	socket := d.path("notify")
	os.Remove(socket)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		d.t.Fatal(err)
	}
	defer notify.Close()
	cmd := d.command("serve")
	cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+socket), d.env...)
	proc := start(d.t, cmd)
	d.proc = proc
	go func() { // a daemon that ends will not get ready
		<-proc.exited
		notify.SetReadDeadline(time.Now())
	}()
	notify.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for ready := false; !ready; {
		n, err := notify.Read(buf)
		if err != nil {
			d.t.Fatalf("the daemon does not get ready: %v\n%s", err, lastOf(d.proc.output.all()))
		}
		ready = bytes.Contains(buf[:n], []byte("READY=1"))
	}
	if d.log == nil && !d.quiet {
		d.log = d.follow()
	}
}

// follow reads the relay log as an admin would, with tail -F.
func (d *daemon) follow() *feed[record] {
	d.t.Helper()
	now := time.Now().UTC()
	args := []string{"-q", "-n", "+1", "-F"}
	for _, day := range []time.Time{now, now.AddDate(0, 0, 1)} {
		args = append(args, filepath.Join(d.path("log"), "relay-"+day.Format(time.DateOnly)+".jsonl"))
	}
	cmd := exec.Command("tail", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	records := newFeed[record]()
	read := make(chan struct{})
	go func() {
		defer close(read)
		records.lines(pipe, func(line string) record { return parseRecord(d.t, line) })
	}()
	d.t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	return records
}

// terminate sends SIGTERM and waits for an orderly end.
func (d *daemon) terminate() {
	d.t.Helper()
	d.proc.cmd.Process.Signal(syscall.SIGTERM)
	if status := d.proc.wait(); status != 0 {
		d.t.Errorf("after SIGTERM: status %d\n%s", status, lastOf(d.proc.output.all()))
	}
}

// record is one line of the relay log.
type record struct {
	Time      time.Time
	NextHost  string `json:"next_host"`
	User      string
	Client    string
	TLS       struct{ In, Out *tlsState }
	Sender    string
	Recipient string
	Subject   string
	Status    struct {
		Event, ID, Enhanced, Reason, Stage string
		Code, Attempt                      int
		NextAttempt                        time.Time `json:"next_attempt"`
		RemoteID                           string    `json:"remote_id"`
	}
	line string
}

type tlsState struct{ Version, Cipher, Verified, None, Wanted string }

func (r record) String() string { return r.line }

// parseRecord reads a line and holds it to the contract: these keys, in this order.
func parseRecord(t *testing.T, line string) record {
	r := record{line: line}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Errorf("a line of the log is no JSON: %v\n%s", err, line)
		return r
	}
	order := []string{"time", "next_host", "user", "client", "tls", "sender", "recipient", "subject", "status", "headers"}
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.Token()
	for last := -1; decoder.More(); {
		key, _ := decoder.Token()
		at := slices.Index(order, fmt.Sprint(key))
		if at <= last {
			t.Errorf("key %q of the log is out of place or unknown:\n%s", key, line)
		}
		last = at
		var value json.RawMessage
		decoder.Decode(&value)
	}
	return r
}

// written reads the whole relay log as it is on disk.
func (d *daemon) written() []record {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.path("log"), "relay-*.jsonl"))
	if err != nil || len(files) == 0 {
		d.t.Fatalf("no relay log: %v", err)
	}
	var all []record
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			all = append(all, parseRecord(d.t, line))
		}
	}
	return all
}

// outcome waits for the record of an event for a recipient.
func (d *daemon) outcome(event, recipient string) record {
	d.t.Helper()
	return d.log.find(d.t, event+" for "+recipient, func(r record) bool {
		return r.Status.Event == event && r.Recipient == recipient
	})
}

// settled waits for the first record of what an attempt came to for a recipient.
func (d *daemon) settled(recipient string) record {
	d.t.Helper()
	return d.log.find(d.t, "an outcome for "+recipient, func(r record) bool {
		return r.Status.Event != "accepted" && r.Recipient == recipient
	})
}

// attempted waits for the first attempt for a recipient that was not given up for
// a time-out before a stage: on a busy machine any next hop may be too slow.
func (d *daemon) attempted(recipient, stage string) (r record) {
	d.t.Helper()
	for passed := 0; ; passed++ {
		nth := 0
		r = d.log.find(d.t, "an attempt for "+recipient, func(r record) bool {
			if r.Status.Event == "accepted" || r.Recipient != recipient {
				return false
			}
			nth++
			return nth > passed
		})
		if r.Status.Reason != "timeout" || r.Status.Stage == stage {
			return r
		}
		d.t.Logf("%s: tried again after a time-out at %s", recipient, r.Status.Stage)
		eventually(d.t, r.Status.ID+" to be due again", func() bool {
			_, _, status := runProgram(d.t, d.command("queue", "retry", r.Status.ID))
			return status == 0
		})
	}
}

// idle waits until no attempt is under way: the log has an outcome before the queue has it.
func (d *daemon) idle() {
	d.t.Helper()
	eventually(d.t, "the attempts to end", func() bool { return d.stats().Active == 0 })
}

// retryAll makes all that waits due, also what was put off this moment.
func (d *daemon) retryAll() {
	d.t.Helper()
	d.idle()
	d.run("queue", "retry", "--all")
}

// empties waits until nothing is queued any more.
func (d *daemon) empties() {
	d.t.Helper()
	var left []map[string]any
	defer func() {
		if len(left) > 0 {
			d.t.Logf("left in the queue: %v", left)
		}
	}()
	eventually(d.t, "an empty queue", func() bool {
		left = d.queued()
		return len(left) == 0
	})
}

// queued lists what is in the queue, one object for each message.
func (d *daemon) queued() []map[string]any {
	d.t.Helper()
	var list []map[string]any
	decoder := json.NewDecoder(strings.NewReader(d.run("queue", "list", "--json")))
	for decoder.More() {
		var entry map[string]any
		if err := decoder.Decode(&entry); err != nil {
			d.t.Fatalf("queue list --json: %v", err)
		}
		list = append(list, entry)
	}
	return list
}
