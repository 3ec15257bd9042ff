package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"tacet/queue"
	"tacet/relay/auth"
)

// runDaemon starts a daemon that is stopped, in order, when the test ends.
func runDaemon(t *testing.T, config *Config, with deps) *daemon {
	t.Helper()
	d, err := startDaemon(t.Context(), config, with)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
		defer cancel()
		if err := d.stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestMemoryLimit(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, one := range []struct {
		name  string
		files fstest.MapFS
		want  int64
	}{
		{"no control groups", fstest.MapFS{}, 0},
		{"version 2", fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/tacet.service\n"),
			"sys/fs/cgroup/system.slice/tacet.service/memory.max": file("268435456\n"),
		}, 268435456},
		{"version 2, the parent is tighter", fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/tacet.service\n"),
			"sys/fs/cgroup/system.slice/tacet.service/memory.max": file("max\n"),
			"sys/fs/cgroup/system.slice/memory.max":               file("1000000\n"),
		}, 1000000},
		{"version 2, in a container", fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../docker/abc\n"),
			"sys/fs/cgroup/memory.max": file("536870912\n"),
		}, 536870912},
		{"version 1", fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/x\n"),
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": file("134217728\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            file("9223372036854771712\n"),
		}, 134217728},
		{"no limit", fstest.MapFS{
			"proc/self/cgroup":                           file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 0},
		{"nonsense", fstest.MapFS{"proc/self/cgroup": file("nonsense\n0::\n"), "sys/fs/cgroup/memory.max": file("many")}, 0},
	} {
		if got := memoryLimit(one.files); got != one.want {
			t.Errorf("%s: %d, want %d", one.name, got, one.want)
		}
	}
}

// Edits at the same time all count, and a reader never meets half a file.
func TestUsersFileEditsAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	hash := auth.NewHash([]byte("x"), auth.Params{Memory: 8, Time: 1, Threads: 1})
	names := []string{"anna", "bob", "carl", "dora", "eve", "fred", "gina", "hans"}
	edits := make(chan error)
	for _, name := range names {
		go func() {
			users, err := editUsers(path)
			if err != nil {
				edits <- err
				return
			}
			defer users.Close()
			_, _, err = users.set(name, hash, func(*auth.Rules) {})
			edits <- err
		}()
	}
	for range names {
		if err := <-edits; err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := auth.CheckFile(content); err != nil {
			t.Error(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := auth.CheckFile(content)
	if err != nil || !slices.EqualFunc(got, names, func(u auth.User, name string) bool { return u.Name == name }) {
		t.Errorf("got %v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What a person has written into the file stays, and so does its mode.
func TestUsersFileKeepsTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	before := "# staff\nanna:$old:senders=a@example.org\n\n  # guests\nbob:$old"
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	users, err := editUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	if _, added, err := users.set("anna", "$new", func(*auth.Rules) {}); added || err != nil {
		t.Errorf("added %v, %v", added, err)
	}
	if found, err := users.remove("bob"); !found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if found, err := users.remove("carl"); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	content, err := os.ReadFile(path)
	if want := "# staff\nanna:$new:senders=a@example.org\n\n  # guests\n"; err != nil || string(content) != want {
		t.Errorf("got %q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestTakeOver(t *testing.T) {
	var inherited []net.Listener
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		inherited = append(inherited, l)
	}
	loopback := inherited[0].Addr().String()
	_, everywhere, _ := net.SplitHostPort(inherited[1].Addr().String())
	for address, want := range map[string]net.Listener{
		loopback:                inherited[0],
		":" + everywhere:        inherited[1],
		"0.0.0.0:" + everywhere: inherited[1],
		"[::]:" + everywhere:    inherited[1],
		"127.0.0.1:1":           nil,
		"127.0.0.2" + strings.TrimPrefix(loopback, "127.0.0.1"): nil,
	} {
		if got := takeOver(inherited, address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestReloadKeepsWhatCannotChange(t *testing.T) {
	parse := func(text string) *Config {
		c, err := ParseConfig("/etc/tacet/tacet.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := parse("hostname = \"a.example\"\n[delivery]\nconcurrency = 5\n")
	next := parse("hostname = \"b.example\"\n[delivery]\nconcurrency = 7\n[[listener]]\naddress = \"127.0.0.1:1587\"\n[log]\nretention = \"7d\"\n")
	changed := old.keepFixed(next)
	if want := []string{"hostname", "listener", "log"}; !slices.Equal(changed, want) {
		t.Errorf("changed: %q, want %q", changed, want)
	}
	if next.Hostname != "a.example" || !reflect.DeepEqual(next.Listeners[0], newListener()) || next.Delivery.Concurrency != 7 {
		t.Errorf("in effect: %+v", next)
	}
}

func TestOwnCertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "self-signed.pem")
	first, err := ownCertificate(path, "relay.example.org")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"relay.example.org", "localhost", "127.0.0.1", "::1"} {
		if err := first.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := ownCertificate(path, "relay.example.org")
	if err != nil || !again.Leaf.Equal(first.Leaf) {
		t.Errorf("the second time it is another one, %v", err)
	}
	other, err := ownCertificate(path, "other.example.org")
	if err != nil || other.Leaf.Equal(first.Leaf) {
		t.Errorf("for another name it is the same one, %v", err)
	}

	// One that ends soon is replaced.
	old, err := selfSign("relay.example.org", time.Now().Add(-380*day))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	renewed, err := ownCertificate(path, "relay.example.org")
	if err != nil || time.Until(renewed.Leaf.NotAfter) < 300*day {
		t.Errorf("ends %v, %v", renewed.Leaf.NotAfter, err)
	}
}

// A reload with a pair that does not match changes nothing, not even the users.
func TestReloadMismatchedPair(t *testing.T) {
	p, d := startPlayground(t)
	other, err := selfSign("localhost", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before := d.certs.current.Load()
	if err := os.WriteFile(filepath.Join(p.dir, "key.pem"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "users"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.reload(); err == nil || !strings.Contains(err.Error(), "tls.cert") {
		t.Errorf("got %v", err)
	}
	if d.certs.current.Load() != before || !d.users.Exists(p.user) {
		t.Error("a failed reload has changed something")
	}

	// With both halves it is taken over, without a restart.
	if err := os.WriteFile(p.cert, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.reload(); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", p.implicit.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if shown := conn.ConnectionState().PeerCertificates[0]; shown.Equal(before.Leaf) {
		t.Error("the old certificate is still shown")
	}
}

// A user who is removed sends nothing more, not over an open session either.
func TestRemovedUserIsOut(t *testing.T) {
	p, d := startPlayground(t)
	o := &queue.Origin{Submission: true, User: p.user}
	g := gate{d.relay, d.users}
	if err := g.AdmitSender(false, o, trySender); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "users"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.reloadUsers(); err != nil {
		t.Fatal(err)
	}
	if err := g.AdmitSender(false, o, trySender); err == nil {
		t.Error("a removed user may send")
	}
}

func TestHealth(t *testing.T) {
	_, d := startPlayground(t)
	if h := d.health(); !h.OK || len(h.Faults) != 0 {
		t.Errorf("at first: %+v", h)
	}
	d.fail(errors.New("first"))
	d.fail(errors.New("second"))
	if h := d.health(); h.OK || !slices.Equal(h.Faults, []string{"failed"}) {
		t.Errorf("after a failure: %+v", h)
	}
	if err := <-d.failed; err.Error() != "first" {
		t.Errorf("the failure is %v", err)
	}
	content, err := selfSign("localhost", time.Now().Add(-400*day))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		t.Fatal(err)
	}
	d.certs.use(&pair)
	if h := d.health(); h.OK || !slices.Equal(h.Faults, []string{"certificate_expired"}) {
		t.Errorf("with an old certificate: %+v", h)
	}
}

// A start that fails ends all that was begun, so that the next one succeeds.
func TestFailedStartLeavesNothingOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "tacet.toml")
	config := func(address string) *Config {
		text := "hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"" + address + "\"\n"
		c, err := ParseConfig(file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := startDaemon(t.Context(), config(taken.Addr().String()), deps{}); err == nil {
		t.Fatal("it started on a taken port")
	}
	d, err := startDaemon(t.Context(), config("127.0.0.1:0"), deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
	defer cancel()
	if err := d.stop(ctx); err != nil {
		t.Error(err)
	}
}
