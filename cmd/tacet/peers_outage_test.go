package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// outage is how long, and how, a primary is away.
type outage struct {
	away  time.Duration // at first
	flap  time.Duration // then it is there for so long, and away again
	flaps int
	pause time.Duration // of each of four clients between two messages
	large int           // each so-many-th message is of several megabytes
	wait  time.Duration // for what was taken in to arrive
}

// outageFor is a short one, or one as long as TACET_OUTAGE says, such as "10m".
func outageFor(t *testing.T) outage {
	if long := os.Getenv("TACET_OUTAGE"); long != "" {
		away, err := time.ParseDuration(long)
		if err != nil {
			t.Fatal(err)
		}
		return outage{away: away, flap: 5 * time.Second, flaps: 12, pause: 400 * time.Millisecond, large: 100, wait: 10 * time.Minute}
	}
	return outage{away: 1500 * time.Millisecond, flap: 1100 * time.Millisecond, flaps: 4, pause: 200 * time.Millisecond, large: 20, wait: patience}
}

// sitePrimary is the primary of two sites.
type sitePrimary struct {
	relent func()        // it takes from now on what it has deferred
	left   func() string // what is in its queue, once it has tried all of it again
	spool  string        // where that is
	relay  *daemon       // if it is one
}

// twoSites: while the primary is away, comes and goes, defers and refuses, or the wire is cut in
// the middle of a message, the fallback takes all mail and hands all of it on.
func (p *peers) twoSites(t *testing.T) {
	out, err := exec.Command("../../.ci/mtas").Output()
	if err != nil {
		t.Fatalf(".ci/mtas: %v", err)
	}
	folder := strings.TrimSpace(string(out))
	for n, c := range []struct {
		name  string
		start func(t *testing.T, at place, next string) sitePrimary
	}{
		{"tacet", p.tacetPrimary}, {"postfix", p.postfixPrimary},
		{"exim", func(t *testing.T, at place, next string) sitePrimary { return p.eximPrimary(t, at, folder, next) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := outageFor(t)
			s := newSites(t, n+1)
			last := newSink(t, func(k *sink) { k.addr, k.digest = s.net+".5:2525", true })
			fallback := p.fallbackAt(t, s)
			s.connected(false)
			l := &incomingMail{t: t, to: s.net + ".2:25", outage: o}
			l.bring(o.away)
			began := time.Now()
			primary := c.start(t, place{s.primary, s.net + ".6:25"}, last.addr)
			s.disturb(l)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("left at the primary: %s", primary.left())
				}
			})
			l.settle(fallback, primary, last)
			t.Logf("%s: %d messages, all there %v after the primary was started", c.name, len(l.acked), time.Since(began).Round(time.Second))
			s.cutInContent(l, fallback, last)
			l.refusals(fallback, primary)
			l.settle(fallback, primary, last)
			l.until("the primary's queue to be empty", func() bool { return primary.left() == "" })
			nothingReadable(t, fallback.path("data"))
			nothingReadable(t, primary.spool)
		})
	}
}

// tacetPrimary knows who exists by a list, and nothing of later.example yet.
func (p *peers) tacetPrimary(t *testing.T, at place, next string) sitePrimary {
	host, _, _ := strings.Cut(at.addr, ":")
	dir := workDir(t)
	d := p.newDaemon(t, fmt.Sprintf(siteConfig, host)+fmt.Sprintf("[primary]\nhosts = [%q]\n[recipients]\nunknown = \"defer\"\nkey = %q\nsource = \"file:%s\"\n",
		next, filepath.Join(dir, "recipients-verify.key"), filepath.Join(dir, "list")))
	d.place = at
	var people strings.Builder
	for n := range 100_000 {
		fmt.Fprintf(&people, "b%d@example.org\n", n)
	}
	d.run("recipients", "key", dir)
	d.run("recipients", "build", "--key", filepath.Join(dir, "recipients-sign.key"), "--domain", "example.org",
		"--from", "list:"+writeFile(t, filepath.Join(dir, "people"), people.String()), "--out", filepath.Join(dir, "list"))
	if err := os.Mkdir(d.path("data"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.run("recipients", "pull")
	d.start()
	return sitePrimary{
		relent: func() {
			config, err := os.ReadFile(d.config)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, d.config, strings.Replace(string(config), `"defer"`, `"accept"`, 1))
			if err := d.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		},
		left: func() string {
			d.run("queue", "retry", "--all")
			return d.run("queue", "list", "--json")
		},
		spool: d.path("data"),
		relay: d,
	}
}

func (p *peers) postfixPrimary(t *testing.T, at place, next string) sitePrimary {
	host, port, _ := strings.Cut(next, ":")
	access := filepath.Join(workDir(t), "access")
	refuse := func(text string) { // Postfix sees by itself that a table of this kind has changed
		writeFile(t, access, text)
		if out, err := exec.Command("postmap", "hash:"+access).CombinedOutput(); err != nil {
			t.Errorf("postmap: %v: %s", err, out)
		}
	}
	const never = "nobody@example.org 550 5.1.1 no such person\n"
	refuse(never + "later@later.example 450 4.2.0 later\n")
	server := p.newPostfixAt(t, at, "mail.example.org", "["+host+"]:"+port, "inet_interfaces = all", "mynetworks = 127.0.0.0/8, 10.83.0.0/16", "smtpd_timeout = 5s",
		"smtpd_recipient_restrictions = check_recipient_access hash:"+access+", permit_mynetworks, reject")
	return sitePrimary{
		relent: func() { refuse(never) },
		left: func() string {
			out, said, status := runProgram(t, at.command("postqueue", "-c", server.config, "-j"))
			if status != 0 {
				t.Errorf("postqueue: status %d: %s", status, said)
			}
			return out
		},
		spool: filepath.Join(filepath.Dir(server.config), "spool"),
	}
}

func (p *peers) eximPrimary(t *testing.T, at place, folder, next string) sitePrimary {
	strict := filepath.Join(workDir(t), "strict")
	writeFile(t, strict, "")
	m := mailServers()[0]
	plain := m.config
	m.config = func(dir, addr, next string) string {
		return "smtp_receive_timeout = 5s\n" + strings.Replace(plain(dir, addr, next), "rcpt:\n", "rcpt:\n  defer local_parts = later\n        condition = ${if exists{"+strict+"}}\n", 1)
	}
	proc := p.newMailServerAt(t, at, m, folder, next)
	spool := fmt.Sprintf("/proc/%d/root/var/spool/exim4", proc.cmd.Process.Pid) // in its mount namespace
	return sitePrimary{
		relent: func() {
			if err := os.Remove(strict); err != nil {
				t.Error(err)
			}
		},
		left: func() string { // content, envelopes and message logs
			out, said, _ := runProgram(t, exec.Command("grep", "-ra", "", filepath.Join(spool, "input"), filepath.Join(spool, "msglog")))
			return out + said
		},
		spool: spool,
	}
}

// disturb plugs the wire in and out while mail comes.
func (s *sites) disturb(l *incomingMail) {
	var bringing sync.WaitGroup
	bringing.Go(func() { l.bring(2 * time.Duration(l.outage.flaps) * l.outage.flap) })
	for range l.outage.flaps {
		s.connected(true)
		<-time.After(l.outage.flap) // a probe, and some of the mail
		s.connected(false)
		<-time.After(l.outage.flap)
	}
	bringing.Wait()
	s.connected(true)
}

// cutInContent has the wire swallow all that is sent once half of a message has gone over it.
func (s *sites) cutInContent(l *incomingMail, fallback *daemon, last *sink) {
	s.t.Helper()
	before := len(last.mail.all())
	nft := func(rules string) {
		if out, err := exec.Command("ip", "netns", "exec", s.fallback, "nft", rules).CombinedOutput(); err != nil {
			s.t.Fatalf("nft: %v: %s", err, out)
		}
	}
	nft("add table inet cut; add chain inet cut out { type filter hook output priority 0; }; add rule inet cut out tcp dport 25 quota over 2000000 bytes drop")
	number := l.bringOne(16 << 20) // more than the system holds back for a connection
	to := fmt.Sprintf("b%d@example.org", number)
	// A machine may be too slow before half of it is over.
	r := fallback.log.find(s.t, "a cut in the middle of "+to, func(r record) bool {
		return r.Recipient == to && r.Status.Event == "deferred" && (r.Status.Stage == "content" || r.Status.Reason != "timeout")
	})
	if r.Status.Reason == "ambiguous" || r.Status.Stage != "content" {
		s.t.Errorf("cut in its middle: %s", r.line)
	}
	if n := len(last.mail.all()); n != before {
		s.t.Errorf("%d messages came while half of one had gone over the wire", n-before)
	}
	nft("delete table inet cut")
}

// refusals: what the primary defers waits until it is taken, and what it refuses is told to the
// sender.
func (l *incomingMail) refusals(fallback *daemon, primary sitePrimary) {
	l.t.Helper()
	for _, to := range []string{"later@later.example", "nobody@example.org"} {
		if err := submitOne(l.to, numbered(900_000, 3000), "someone@far.example", to); err != nil {
			l.t.Fatal(err)
		}
	}
	of := func(event, stage, recipient string) bool {
		return slices.ContainsFunc(fallback.log.all(), func(r record) bool {
			return r.Status.Event == event && r.Recipient == recipient && (stage == "" || r.Status.Stage == stage && r.Status.Code/100 == 4)
		})
	}
	l.until("it to be deferred by the primary's word", func() bool {
		fallback.run("queue", "retry", "--all")
		return of("deferred", "rcpt", "later@later.example")
	})
	if r := fallback.outcome("failed", "nobody@example.org"); r.Status.Code != 550 {
		l.t.Errorf("refused: %s", r.line)
	}
	fallback.outcome("failed", "someone@far.example") // the report: there is no such domain
	primary.relent()
	l.until("what was deferred to be taken", func() bool {
		fallback.run("queue", "retry", "--all")
		return of("delivered", "", "later@later.example")
	})
}

// incomingMail is what clients outside bring, and were told 250 for.
type incomingMail struct {
	t      *testing.T
	to     string
	outage outage
	mu     sync.Mutex
	next   int
	acked  []int
}

// bring sends messages for a while, so many whatever the machine can do.
func (l *incomingMail) bring(during time.Duration) {
	var clients sync.WaitGroup
	for range during / l.outage.pause {
		for range 4 {
			clients.Go(func() { l.bringOne(0) })
		}
		<-time.After(l.outage.pause)
	}
	clients.Wait()
}

// bringOne sends one, of a usual size if none is given.
func (l *incomingMail) bringOne(size int) (number int) {
	l.mu.Lock()
	l.next++
	number = l.next
	l.mu.Unlock()
	if size == 0 {
		size = 3000
		if number%l.outage.large == 0 {
			size = 4 << 20
		}
	}
	if err := submitOne(l.to, numbered(number, size), "someone@far.example", fmt.Sprintf("b%d@example.org", number)); err != nil {
		l.t.Errorf("message %d: %v", number, err)
		return number
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, number)
	return number
}

// until waits as long as the outage says.
func (l *incomingMail) until(what string, so func() bool) {
	l.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(l.outage.wait); !so(); <-tick.C {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited %v for %s", l.outage.wait, what)
		}
	}
}

// settle waits until all has come, and checks that nothing came twice but what one of
// the two was in doubt about.
func (l *incomingMail) settle(fallback *daemon, primary sitePrimary, last *sink) {
	l.t.Helper()
	count := func() map[int]int {
		came := make(map[int]int)
		for _, m := range last.mail.all() {
			if number, err := strconv.Atoi(m.ledger); err == nil {
				came[number]++
			}
		}
		return came
	}
	l.until("the fallback's queue to be empty", func() bool {
		if len(fallback.queued()) == 0 {
			return true
		}
		fallback.run("queue", "retry", "--all")
		return false
	})
	l.until("all that was taken", func() bool {
		came := count()
		return !slices.ContainsFunc(l.acked, func(number int) bool { return came[number] == 0 })
	})
	doubt := make(map[string]bool)
	for _, d := range []*daemon{fallback, primary.relay} {
		if d == nil {
			continue
		}
		for line := range strings.Lines(d.run("log", "find", "--reason", "ambiguous", "--json")) {
			doubt[parseRecord(l.t, line).Recipient] = true
		}
	}
	if given := fallback.run("log", "find", "--recipient", "b", "--event", "failed,expired", "--json"); strings.Contains(given, `"b`) {
		l.t.Errorf("the fallback gave up:\n%s", given)
	}
	for number, times := range count() {
		if times > 1 && !doubt[fmt.Sprintf("b%d@example.org", number)] && number < 900_000 {
			l.t.Errorf("message %d came %d times without a doubt on record", number, times)
		}
	}
	if len(l.acked) < 80 {
		l.t.Errorf("only %d messages were taken", len(l.acked))
	}
}

// nothingReadable looks through all files of a folder for content, senders and recipients.
func nothingReadable(t *testing.T, folder string) {
	t.Helper()
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}
	// A file that goes away meanwhile is as good as one without them, so that the status says nothing.
	if found, _, _ := runProgram(t, exec.Command("grep", "-rlaF", "-e", strings.Repeat("z", 67), "-e", "someone@far.example", "-e", "@example.org", "-e", "@later.example", folder)); found != "" {
		t.Errorf("content or addresses can be read in\n%s", found)
	}
}
