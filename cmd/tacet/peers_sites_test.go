package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// place is where a server runs: a network namespace, the test's own if it has
// no name, and its address there.
type place struct{ netns, addr string }

func (p place) command(name string, args ...string) *exec.Cmd {
	if p.netns == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", p.netns, name}, args...)...)
}

// sites are two sites, each a network namespace, with a wire between them and one
// from each to the test.
type sites struct {
	t                 *testing.T
	net               string // the first three octets of all addresses
	fallback, primary string // namespaces
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// in is what ip needs to act in a namespace.
func in(netns string) []string {
	if netns == "" {
		return nil
	}
	return []string{"-n", netns}
}

// newSites makes number n of such pairs, under names that another run of the tests at the same time has not.
func newSites(t *testing.T, n int) *sites {
	t.Helper()
	for run := 0; ; run++ { // the first that no other run has claimed
		claim, err := net.Listen("unix", fmt.Sprintf("@tacet-sites-%d", n+3*run))
		if err == nil {
			t.Cleanup(func() { claim.Close() })
			n += 3 * run
			break
		}
		if run == 80 {
			t.Fatal(err)
		}
	}
	s := &sites{t: t, net: fmt.Sprintf("10.83.%d", n), fallback: fmt.Sprintf("tacet-f%d", n), primary: fmt.Sprintf("tacet-p%d", n)}
	for _, ns := range []string{s.fallback, s.primary} {
		_ = exec.Command("ip", "netns", "del", ns).Run() // of a run that was cut off
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { ip(t, "netns", "del", ns) })
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	// A pair of ends, the first in the test's own namespace if it has no other.
	wire := func(a, nsA string, hostA int, b, nsB string, hostB int) {
		ip(t, append(in(nsA), "link", "add", a, "type", "veth", "peer", "name", b, "netns", nsB)...)
		for _, end := range []struct {
			dev, ns string
			host    int
		}{{a, nsA, hostA}, {b, nsB, hostB}} {
			ip(t, append(in(end.ns), "addr", "add", fmt.Sprintf("%s.%d/30", s.net, end.host), "dev", end.dev)...)
			ip(t, append(in(end.ns), "link", "set", end.dev, "up")...)
		}
	}
	wire(fmt.Sprintf("tf%d", n), "", 1, "test", s.fallback, 2)
	wire(fmt.Sprintf("tp%d", n), "", 5, "test", s.primary, 6)
	wire("away", s.fallback, 9, "peer", s.primary, 10)
	// The primary has one address, which the test sees too.
	ip(t, "-n", s.fallback, "route", "add", s.net+".6/32", "via", s.net+".10")
	return s
}

// connected plugs the wire between the sites in, or pulls it: packets are lost then
// without a word.
func (s *sites) connected(yes bool) {
	s.t.Helper()
	ip(s.t, "-n", s.primary, "link", "set", "peer", map[bool]string{true: "up", false: "down"}[yes])
}

const siteConfig = `
[[listener]]
address = "%s:25"
kind = "mx"
[relay]
domains = ["example.org", "later.example"]
[delivery]
deny_special_addresses = false
[delivery.timeouts]
connect = "1s"
greeting = "2s"
command = "2s"
data_start = "2s"
data_block = "2s"
data_end = "3s"
[queue]
retry = ["10s"]
`

// fallbackAt starts the fallback, which knows its primary from the DNS alone.
func (p *peers) fallbackAt(t *testing.T, s *sites) *daemon {
	t.Helper()
	resolver := newDNSAt(t, s.net+".1", fmt.Sprintf("example.org. 60 IN MX 10 mail.example.org.\nexample.org. 60 IN MX 20 relay.example.org.\nlater.example. 60 IN MX 10 mail.example.org.\nlater.example. 60 IN MX 20 relay.example.org.\nmail.example.org. 60 IN A %[1]s.6\nrelay.example.org. 60 IN A %[1]s.9\n", s.net))
	d := p.newDaemon(t, fmt.Sprintf(siteConfig, s.net+".2")+fmt.Sprintf("[dns]\nresolvers = [%q]\n[primary]\nprobe = \"1s\"\n", resolver))
	d.place = place{netns: s.fallback}
	d.start()
	return d
}

// primaryRefuses: mail waits for a primary that defers it, and its sender hears of
// one that refuses it.
func (p *peers) primaryRefuses(t *testing.T) {
	primary := newSink(t)
	var later, never = always("RCPT", "450 4.2.0 later"), always("RCPT", "550 5.1.1 no such user")
	at := freePort(t)
	d := p.newDaemon(t, fmt.Sprintf("[[listener]]\naddress = %q\nkind = \"mx\"\n[relay]\ndomains = [\"example.org\"]\n[primary]\nhosts = [%q]\n[delivery]\nnext_hop = %q\n",
		at, primary.addr, hop(primary.addr)))
	d.start()
	primary.answer(later)
	if err := submitOne(at, numbered(1, 3000), "someone@far.example", "b@example.org"); err != nil {
		t.Fatal(err)
	}
	if r := d.outcome("deferred", "b@example.org"); r.Status.Code != 450 || r.Client != "" {
		t.Errorf("deferred: %s", r.line)
	}
	primary.answer(func(string, string) string { return "" })
	d.retryAll()
	d.outcome("delivered", "b@example.org")
	primary.answer(func(verb, line string) string {
		if strings.Contains(line, "nobody@example.org") {
			return never(verb, line)
		}
		return ""
	})
	if err := submitOne(at, numbered(2, 3000), "someone@far.example", "nobody@example.org"); err != nil {
		t.Fatal(err)
	}
	if r := d.outcome("failed", "nobody@example.org"); r.Status.Reason != "user_unknown" {
		t.Errorf("refused: %s", r.line)
	}
	d.outcome("delivered", "someone@far.example") // the report
	d.empties()
}

// bothSites: a trace goes on at the other site, from either ID and from either side, and
// a person is erased at both sites or the erasure fails.
func (p *peers) bothSites(t *testing.T) {
	last := newSink(t)
	site := func(at, next string, rest string) *daemon {
		d := p.newDaemon(t, fmt.Sprintf("[[listener]]\naddress = %q\nkind = \"mx\"\n[relay]\ndomains = [\"example.org\"]\n[primary]\nhosts = [%q]\n%s", at, next, rest))
		d.start()
		return d
	}
	at, fallbackAt := freePort(t), freePort(t)
	primary := site(at, last.addr, "[site]\naddresses = [\"127.0.0.0/8\"]\n")
	fallback := site(fallbackAt, at, fmt.Sprintf("[site]\ncommand = [%q, \"--config\", %q]\n", p.bin, primary.config))
	config, err := os.ReadFile(primary.config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, primary.config, strings.Replace(string(config), "[site]\n", fmt.Sprintf("[site]\ncommand = [%q, \"--config\", %q]\n", p.bin, fallback.config), 1))
	if err := submitOne(fallbackAt, numbered(1, 3000), "someone@far.example", "b@example.org"); err != nil {
		t.Fatal(err)
	}
	here := fallback.outcome("delivered", "b@example.org")
	there := primary.outcome("delivered", "b@example.org")
	if here.Status.RemoteID != there.Status.ID {
		t.Fatalf("the fallback knows it as %s there, the primary as %s", here.Status.RemoteID, there.Status.ID)
	}
	if taken := primary.outcome("accepted", "b@example.org"); taken.Status.RemoteID != here.Status.ID {
		t.Fatalf("the primary knows it as %s there, the fallback as %s", taken.Status.RemoteID, here.Status.ID)
	}
	for _, id := range []string{here.Status.ID, there.Status.ID} {
		for _, d := range []*daemon{fallback, primary} {
			mine, others := here.Status.ID, there.Status.ID
			if d == primary {
				mine, others = others, mine
			}
			told := d.run("log", "trace", id)
			before, after, both := strings.Cut(told, "At the other site:")
			if !both || !strings.Contains(before, mine) || !strings.Contains(after, others) || strings.Contains(after, "other site") {
				t.Errorf("trace %s:\n%s", id, told)
			}
			if alone := d.run("log", "trace", id, "--here"); strings.Contains(alone, "other site") || !strings.Contains(alone, mine) {
				t.Errorf("trace %s --here:\n%s", id, alone)
			}
		}
	}
	about := func(d *daemon) int {
		return strings.Count(d.run("log", "find", "--address", "someone@far.example", "--json"), "someone@far.example")
	}
	if config, err = os.ReadFile(fallback.config); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fallback.config, strings.Replace(string(config), p.bin, "/bin/false", 1))
	if _, said, status := runProgram(t, fallback.command("privacy", "erase", "someone@far.example", "--ticket", "T-1", "--yes")); status != 1 ||
		!strings.Contains(said, "nothing was done here") || about(fallback) == 0 {
		t.Errorf("with the other site away: status %d, %s", status, said)
	}
	writeFile(t, fallback.config, string(config))
	fallback.run("privacy", "erase", "someone@far.example", "--ticket", "T-1", "--yes")
	if a, b := about(fallback), about(primary); a+b > 0 {
		t.Errorf("%d records are left at the fallback, %d at the primary", a, b)
	}
}
