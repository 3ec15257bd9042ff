package main_test

import (
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fails runs a subcommand that must fail, and wants words of what it says.
func (d *daemon) fails(t *testing.T, words []string, args ...string) {
	t.Helper()
	out, errs, status := runProgram(t, d.command(args...))
	if status != 1 {
		t.Errorf("tacet %s: status %d, want 1", args[0], status)
	}
	for _, word := range words {
		if !strings.Contains(errs, word) {
			t.Errorf("tacet %s: %q is not said", args[0], word)
		}
	}
	if strings.Contains(errs, "goroutine ") {
		t.Errorf("tacet %s: panic", args[0])
	}
	if t.Failed() {
		t.Logf("standard output:\n%s\nstandard error:\n%s", out, errs)
	}
}

// badConfig: each kind of mistake is refused with its line and what is
// allowed, by check and serve alike.
func (p *peers) badConfig(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"unknown key":     {"hostnme = \"relay.example.org\"\n", []string{":1: ", "hostnme", "hostname"}},
		"unknown section": {"\n[delivry]\n", []string{":2: ", "delivry", "delivery"}},
		"wrong section":   {"[relay]\nnext_hop = \"[127.0.0.1]:2626\"\n", []string{":2: ", "next_hop", "[delivery]"}},
		"wrong type":      {"[relay]\nmax_recipients = \"many\"\n", []string{":2: ", "max_recipients", "many"}},
		"wrong word":      {"[delivery]\ntls = \"always\"\n", []string{":2: ", "opportunistic", "require", "verify", "none"}},
		"wrong duration":  {"[queue]\nlifetime = \"5 days\"\n", []string{":2: ", "5 days", "2d"}},
		"too long":        {"[log]\nretention = \"366d\"\n", []string{":2: ", "366d", "365d"}},
		"no TOML":         {"hostname = \"relay.example.org\"\n[[listener]\n", []string{":2:"}},
		"no address":      {"[[listener]]\naddress = \"2587\"\n", []string{":2: ", "2587", "0.0.0.0:25"}},
		"key alone":       {"[tls]\ncert = \"cert.pem\"\n", []string{":2: ", "tls.key"}},
		"two mistakes":    {"[delivery]\nconcurrency = 0\n[relay]\ntrusted_networks = [\"10.0.0.1/33\"]\n", []string{":2: ", "concurrency", ":4: ", "10.0.0.1/33"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := p.newDaemon(t, "")
			writeFile(t, d.config, c.text)
			for _, command := range []string{"check", "serve"} {
				d.fails(t, append([]string{d.config}, c.words...), command)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		d := p.newDaemon(t, "")
		d.config = d.path("other.toml")
		for _, command := range []string{"check", "serve"} {
			d.fails(t, []string{d.config, "--config"}, command)
		}
	})
}

// edit changes the config.
func (d *daemon) edit(old, new string) {
	d.t.Helper()
	content, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(string(content), old) {
		d.t.Fatalf("the config has no %q", old)
	}
	writeFile(d.t, d.config, strings.ReplaceAll(string(content), old, new))
}

// badStart: what is missing or in the way when the relay starts is named.
func (p *peers) badStart(t *testing.T) {
	t.Run("missing certificate", func(t *testing.T) {
		d := p.newDaemon(t, "")
		d.edit(p.cert.cert, "/nonexistent/cert.pem")
		d.fails(t, []string{"/nonexistent/cert.pem", "no such file"}, "serve")
		d.fails(t, []string{"/nonexistent/cert.pem", "no such file"}, "check")
	})
	t.Run("key of another certificate", func(t *testing.T) {
		d := p.newDaemon(t, "")
		d.edit(p.cert.key, newIdentity(t, d.dir).key)
		d.fails(t, []string{"tls", "private key"}, "serve")
	})
	t.Run("taken port", func(t *testing.T) {
		d := p.newDaemon(t, "")
		other, err := net.Listen("tcp", d.implicit)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		d.fails(t, []string{d.implicit, "in use"}, "serve")
	})
	t.Run("data directory below a file", func(t *testing.T) {
		d := p.newDaemon(t, "")
		writeFile(t, d.path("data"), "")
		d.fails(t, []string{d.path("data")}, "serve")
		d.fails(t, []string{d.path("data")}, "check")
	})
	t.Run("data directory of another user", func(t *testing.T) {
		d := p.newDaemon(t, "")
		for _, dir := range []string{"data", "log"} {
			if err := os.Mkdir(d.path(dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range []string{d.config, p.cert.key, p.cert.cert} {
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := d.command("serve")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, errs, status := runProgram(t, cmd)
		if status != 1 || !strings.Contains(errs, "permission denied") || !strings.Contains(errs, d.dir) {
			t.Errorf("status %d:\n%s%s", status, out, errs)
		}
	})
	t.Run("read-only data directory", func(t *testing.T) {
		d := p.newDaemon(t, "")
		mountTmpfs(t, d.path("data"), "ro,size=1m")
		d.fails(t, []string{d.path("data"), "read-only"}, "serve")
	})
}

// mountTmpfs mounts a small file system of its own until the end of the test.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var flags uintptr
	if rest, ok := strings.CutPrefix(options, "ro,"); ok {
		flags, options = syscall.MS_RDONLY, rest
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatalf("mount: %v (this test needs root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fullDisk: on a full disk new mail is put off with 452 while the queue
// drains, and it is taken again when there is room, without a word from anyone.
func (p *peers) fullDisk(t *testing.T) {
	t.Run("queue", func(t *testing.T) { p.fillDisk(t, false, false) })
	t.Run("queue and log", func(t *testing.T) { p.fillDisk(t, true, false) })
	t.Run("before a start", func(t *testing.T) { p.fillDisk(t, false, true) })
}

func (p *peers) fillDisk(t *testing.T, logOnIt, restart bool) {
	next := newSink(t, func(s *sink) { s.digest = true })
	gate := make(chan struct{}) // keeps everything in the queue
	next.answer(func(verb, _ string) string {
		if verb == "MAIL" {
			<-gate
		}
		return ""
	})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	d := p.newDaemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	mountTmpfs(t, d.path("data"), "size=256m")
	if logOnIt {
		if err := os.Mkdir(d.path("data/log"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("data/log", d.path("log")); err != nil {
			t.Fatal(err)
		}
		d.quiet = true // a piece of a line may be seen before it is cut off again
	}
	d.start()
	s, err := dial(d.starttls, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := &ledger{acked: newFeed[int]()}
	submit := func() error {
		l.next++
		err := s.submit(numbered(l.next, sizeOf(l.next)), "anna@example.org", fmt.Sprintf("n%d@example.net", l.next))
		if err == nil {
			l.acked.add(l.next)
		}
		return err
	}
	for range 64 {
		if err := submit(); err != nil {
			t.Fatal(err)
		}
	}
	filler := d.path("data/filler")
	if restart {
		d.log.until(t, "all of it on record", func(all []record) bool { return count(all, "accepted") == 64 })
		d.proc.kill()
	}
	fill(t, filler)
	if restart {
		d.start()
		if s, err = dial(d.starttls, nil); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	for { // what it had reserved before is taken still
		err := submit()
		if err == nil {
			continue
		}
		if reply, ok := errors.AsType[*textproto.Error](err); !ok || reply.Code != 452 || !strings.HasPrefix(reply.Msg, "4.3.1 ") {
			t.Fatalf("on a full disk: %v", err)
		}
		break
	}
	if err := s.say(250, "RSET"); err != nil {
		t.Fatal(err)
	}
	taken := len(l.acked.all())
	open()
	l.arrived(t, next)
	if !logOnIt {
		d.log.until(t, "all deliveries on record", func(all []record) bool {
			return count(all, "delivered") >= taken
		})
	}
	// The same session goes on.
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); submit() != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("there is room again, and it takes no mail:\n%s", lastOf(d.proc.output.all()))
		}
		s.PrintfLine("RSET")
		s.ReadResponse(250)
	}
	l.arrived(t, next)
	d.empties()
	d.terminate()
	if left := d.queued(); len(left) != 0 {
		t.Errorf("in the queue after the end: %v", left)
	}
	// Nothing is missing from the log either, and nothing in it twice.
	all, n := d.written(), len(l.acked.all())
	if accepted, delivered := count(all, "accepted"), count(all, "delivered"); accepted != n || delivered != n {
		t.Errorf("%d messages, and the log has %d accepted, %d delivered", n, accepted, delivered)
	}
}

func count(all []record, event string) (n int) {
	for _, r := range all {
		if r.Status.Event == event {
			n++
		}
	}
	return n
}

// fill appends to a file until its disk has no room at all.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
}

// nextHopDown: mail to a next hop that is down is deferred, an admin looks at
// it, holds, releases and deletes, and it arrives once the next hop is up.
func (p *peers) nextHopDown(t *testing.T) {
	addr := freePort(t)
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(addr)))
	for _, name := range []string{"waits", "held", "deleted"} {
		if err := submitOne(d.starttls, numbered(1, 3000), "anna@example.org", name+"@example.net"); err != nil {
			t.Fatal(err)
		}
		r := d.outcome("deferred", name+"@example.net")
		if r.Status.Reason != "connection_refused" || r.Status.Stage != "connect" {
			t.Errorf("the log says %s", r.line)
		}
	}
	if all := d.queued(); len(all) != 3 {
		t.Fatalf("in the queue: %v", all)
	}
	d.idle()
	held, deleted := d.outcome("deferred", "held@example.net").Status.ID, d.outcome("deferred", "deleted@example.net").Status.ID
	if text := d.run("queue", "show", held); !strings.Contains(text, "held@example.net") || strings.Contains(text, "zzzz") {
		t.Errorf("queue show: %s", text)
	}
	d.run("queue", "hold", held)
	d.outcome("held", "held@example.net")
	d.run("queue", "delete", deleted)
	d.outcome("deleted", "deleted@example.net")
	// Without the daemon the same commands open the queue themselves.
	d.terminate()
	if all := d.queued(); len(all) != 2 {
		t.Fatalf("in the queue: %v", all)
	}
	d.start()
	next := newSink(t, func(s *sink) { s.addr = addr })
	d.retryAll()
	d.outcome("delivered", "waits@example.net")
	d.run("queue", "release", held)
	d.outcome("released", "held@example.net")
	d.outcome("delivered", "held@example.net")
	if n := len(next.mail.all()); n != 2 {
		t.Errorf("%d messages arrived, want 2", n)
	}
	d.empties()
}

// retryUnreachable: an admin's word outweighs what the relay has learned of a
// next hop that it could not reach many times.
func (p *peers) retryUnreachable(t *testing.T) {
	const suspension = 30 * time.Second // what it would wait for otherwise
	var took time.Duration
	for range 3 { // a machine may stand still for a while
		if took = p.retriedUnreachable(t); took < 2*suspension/3 {
			return
		}
	}
	t.Errorf("after queue retry --all it took %v", took)
}

// retriedUnreachable tells how long it is from queue retry --all to the first delivery.
func (p *peers) retriedUnreachable(t *testing.T) time.Duration {
	t.Helper()
	addr := freePort(t)
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(addr)))
	const messages = 20
	for n := range messages {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", fmt.Sprintf("n%d@example.net", n)); err != nil {
			t.Fatal(err)
		}
	}
	d.log.until(t, "some deferrals", func(all []record) bool { return count(all, "deferred") >= 3 })
	newSink(t, func(s *sink) { s.addr = addr })
	begun := time.Now()
	d.retryAll()
	d.log.until(t, "a delivery", func(all []record) bool { return count(all, "delivered") > 0 })
	took := time.Since(begun)
	d.log.until(t, "all deliveries", func(all []record) bool { return count(all, "delivered") == messages })
	return took
}

// noDNS: mail is deferred while no resolver answers, and never fails for it.
func (p *peers) noDNS(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, resolver := range map[string]string{"none": "127.0.0.1:9", "silent": silent.LocalAddr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := p.daemon(t, trustLoopback+fmt.Sprintf("[dns]\nresolvers = [%q]\n", resolver))
			if err := submitOne(d.starttls, numbered(1, 3000), "anna@example.org", "bob@example.net"); err != nil {
				t.Fatal(err)
			}
			r := d.settled("bob@example.net")
			if r.Status.Event != "deferred" || r.Status.Reason != "dns_temporary" || r.Status.Stage != "route" || r.NextHost != "" {
				t.Errorf("the log says %s", r.line)
			}
			d.idle()
			if left := d.queued(); len(left) != 1 {
				t.Errorf("in the queue: %v", left)
			}
		})
	}
}

// secondDaemon: a second daemon on one data directory ends at once, and the
// first does not notice.
func (p *peers) secondDaemon(t *testing.T) {
	next := newSink(t)
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	second := *d
	second.config = d.path("second.toml")
	content, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, second.config, strings.NewReplacer(d.starttls, freePort(t), d.implicit, freePort(t)).Replace(string(content)))
	second.fails(t, []string{filepath.Join(d.dir, "data"), "another"}, "serve")
	if err := submitOne(d.starttls, numbered(1, 3000), "anna@example.org", "bob@example.net"); err != nil {
		t.Fatal(err)
	}
	d.outcome("delivered", "bob@example.net")
	d.empties()
}
