// The tests of torture_*_test.go kill the built binary, cut its disk's power,
// break its disk and its files, and hold it to its two promises: what it
// acknowledged is delivered, reported or set aside, and what it delivered
// cannot be read again. They run only if TACET_PEERS is 1 and need root, loop
// devices and ext4; what is missing then is a failure.
package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacet/queue"
)

// dose is how many times a test does its worst: few, or as many as the
// environment asks for.
func dose(t *testing.T, variable string, few int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTorture(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount", "losetup", "strace", "e2fsck"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed", program)
		}
	}
	p := newPeers(t)
	for _, test := range []struct {
		name string
		run  func(*peers, *testing.T)
	}{
		{"kills", (*peers).kills},
		{"ambiguous", (*peers).ambiguous},
		{"powercuts", (*peers).powerCuts},
		{"fulldisk", (*peers).fullExt4},
		{"readonly", (*peers).readOnlyDisk},
		{"lostwrites", (*peers).lostWrites},
		{"failedsync", (*peers).failedSync},
		{"bitrot", (*peers).bitRot},
		{"forgets", (*peers).forgets},
		{"backlog", (*peers).backlog},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(p, t) })
	}
}

// launch starts the daemon, under another program if wrap names one, and does
// not wait for it. It is ended with the test, or before by crash.
func (d *daemon) launch(wrap ...string) {
	d.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	serve := d.command("serve")
	args := append(wrap, serve.Args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Env = append(os.Environ(), d.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	w.Close()
	p := &process{t: d.t, cmd: cmd, output: newFeed[string](), exited: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() {
		p.output.lines(r, func(s string) string { return s })
		r.Close()
	})
	go func() {
		reading.Wait()
		cmd.Wait()
		close(p.exited)
	}()
	if d.proc == nil {
		d.t.Cleanup(func() { d.crash() })
	}
	d.proc = p
}

// crash kills the daemon unless it has ended.
func (d *daemon) crash() {
	select {
	case <-d.proc.exited:
	default:
		syscall.Kill(-d.proc.cmd.Process.Pid, syscall.SIGKILL)
		<-d.proc.exited
	}
}

// up waits until the daemon greets.
func (d *daemon) up() {
	d.t.Helper()
	if err := d.greets(); err != nil {
		d.t.Fatalf("the daemon does not greet: %v\n%s", err, lastOf(d.proc.output.all()))
	}
}

func (d *daemon) greets() error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		conn, err := net.Dial("tcp", d.starttls)
		if err == nil {
			conn.SetDeadline(time.Now().Add(patience))
			var banner [4]byte
			_, err = io.ReadFull(conn, banner[:])
			conn.Close()
			if err == nil && string(banner[:]) == "220 " {
				return nil
			}
		}
		select {
		case <-d.proc.exited:
			return errors.New("it has ended")
		case <-deadline.C:
			return err
		case <-tick.C:
		}
	}
}

// ask asks the control socket.
func (d *daemon) ask(path string) (status int, answer []byte, err error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.path("data/control.sock"))
		},
	}}
	res, err := client.Get("http://tacet" + path)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// stats is what the daemon counts in its queue.
func (d *daemon) stats() (s queue.Stats) {
	d.t.Helper()
	_, answer, err := d.ask("/v1/stats")
	if err == nil {
		err = json.Unmarshal(answer, &s)
	}
	if err != nil {
		d.t.Fatalf("stats: %v\n%s", err, lastOf(d.proc.output.all()))
	}
	return s
}

// eventually asks again and again until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// loaded waits until the daemon has read its queue: it lists nothing before,
// and of what is a month old there is nothing to list.
func (d *daemon) loaded() {
	d.t.Helper()
	if status, answer, err := d.ask("/v1/queue?older=720h"); err != nil || status != http.StatusOK || len(answer) > 0 {
		d.t.Fatalf("list: %d %v\n%s\n%s", status, err, answer, lastOf(d.proc.output.all()))
	}
}

// drained waits until nothing is queued but what is damaged, and returns how
// many of those there are.
func (d *daemon) drained() int {
	d.t.Helper()
	d.loaded()
	var s queue.Stats
	defer func() {
		if d.t.Failed() {
			d.t.Logf("the queue: %+v", s)
		}
	}()
	eventually(d.t, "an empty queue", func() bool {
		s = d.stats()
		return s.Messages == s.Damaged
	})
	return s.Damaged
}

// disk is a file system in a file.
type disk struct {
	t          *testing.T
	image, dir string
}

// newDisk mounts an empty ext4 at dir until the end of the test.
func newDisk(t *testing.T, image, dir string, size int64) *disk {
	t.Helper()
	k := &disk{t: t, image: image, dir: dir}
	f, err := os.OpenFile(image, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close(), os.MkdirAll(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	shell(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image)
	k.mount()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return k
}

func shell(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (k *disk) mount() {
	k.t.Helper()
	shell(k.t, "mount", "-o", "loop,errors=remount-ro", k.image, k.dir)
}

// unmount waits until the last process has let go of the disk.
func (k *disk) unmount() {
	k.t.Helper()
	eventually(k.t, "the disk to be unmounted", func() bool { return unix.Unmount(k.dir, 0) == nil })
	// What was written is in the image once the loop device has let go of it, which takes its time.
	eventually(k.t, "the image to be let go", func() bool {
		out, err := exec.Command("losetup", "-j", k.image).Output()
		return err == nil && len(out) == 0
	})
}

// FS_IOC_SHUTDOWN without a flush of the journal: what was not synced is gone.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// cut takes the power away.
func (k *disk) cut() {
	k.t.Helper()
	fd, err := unix.Open(k.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.IoctlSetPointerInt(fd, ioctlShutdown, noLogFlush), unix.Close(fd))
	}
	if err != nil {
		k.t.Fatalf("FS_IOC_SHUTDOWN: %v", err)
	}
}

// said tells whether the daemon has said something.
func (d *daemon) said(what string, match func(line string) bool) {
	d.t.Helper()
	d.proc.output.find(d.t, what, match)
}

// routedTo is the config of deliveries: a next hop, and others for some domains.
func routedTo(next *sink, others map[string]*sink) string {
	var text strings.Builder
	text.WriteString(trustLoopback + "[queue]\nretry = [\"10s\", \"20s\"]\n[delivery]\n")
	fmt.Fprintf(&text, "next_hop = %q\n", hop(next.addr))
	for domain, s := range others {
		fmt.Fprintf(&text, "[[delivery.route]]\ndomain = %q\nnext_hop = %q\n", domain, hop(s.addr))
	}
	return text.String()
}
