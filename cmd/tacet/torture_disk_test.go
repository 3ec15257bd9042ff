package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullExt4: on a full disk the relay answers 452 and delivers what it has, and
// takes mail again by itself when there is room. All of it under load.
func (p *peers) fullExt4(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	newDisk(t, d.path("disk.img"), d.path("data"), 128<<20)
	b.next.answer(putOff)
	d.launch()
	d.up()
	stop := make(chan struct{})
	wait := b.load(d.starttls, 8, stop)
	refusals := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.refused)
	}
	eventually(t, "refusals", func() bool { return refusals() > 20 })
	// Room comes and goes while the queue drains, so that each is asked until it is seen.
	eventually(t, "health to tell of a full disk", func() bool {
		status, health, err := d.ask("/v1/health")
		return err == nil && status == http.StatusServiceUnavailable && strings.Contains(string(health), "disk_full")
	})
	s, err := dial(d.starttls, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "MAIL to be answered 452", func() bool {
		err := s.say(250, "MAIL FROM:<anna@example.org>")
		if err == nil {
			err = s.say(250, "RSET")
		}
		reply, ok := errors.AsType[*textproto.Error](err)
		return ok && reply.Code == 452
	})
	filler := d.path("data/filler")
	fill(t, filler) // what was kept in reserve too
	before := len(b.next.mail.all())
	b.next.answer(b.verdict) // an operator's retry would want room for its audit record
	b.next.mail.until(t, "deliveries from a full disk", func(all []message) bool { return len(all) > before+20 })
	acked := len(b.changed.all())
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	b.changed.until(t, "mail to be taken again", func(all []int) bool { return len(all) > acked })
	t.Logf("full after %d messages, taking mail again after %v", acked, time.Since(begun).Round(time.Millisecond))
	close(stop)
	wait()
	// The load may have filled it once more.
	eventually(t, "health to be well with room again", func() bool {
		status, _, err := d.ask("/v1/health")
		return err == nil && status == http.StatusOK
	})
	b.settle(d, 0)
}

// refusesCleanly waits for the end of a relay whose disk is gone: at once,
// with an exit status, without a panic.
func (d *daemon) refusesCleanly() {
	d.t.Helper()
	if status := d.proc.wait(); status != 1 {
		d.t.Errorf("the relay ended with status %d, want 1", status)
	}
	for _, line := range d.proc.output.all() {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "goroutine ") {
			d.t.Errorf("the relay panicked:\n%s", lastOf(d.proc.output.all()))
			return
		}
	}
}

// readOnlyDisk: the kernel makes the file system read-only under load, as it
// does after an error. Nothing is acknowledged from then on, the relay ends,
// does not start before the disk is mended, and then has everything.
func (p *peers) readOnlyDisk(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	k := newDisk(t, d.path("disk.img"), d.path("data"), 512<<20)
	for range 3 {
		d.launch()
		d.up()
		stop := make(chan struct{})
		wait := b.load(d.starttls, 8, stop)
		acked := len(b.changed.all())
		b.changed.until(t, "some load", func(all []int) bool { return len(all) > acked+100 })
		restarting := b.crashed(true)
		k.breakFS()
		wait()
		close(stop)
		d.refusesCleanly()
		for range 2 {
			d.launch()
			d.refusesCleanly()
			d.said("that the disk is read-only", func(line string) bool { return strings.Contains(line, "read-only") })
		}
		k.unmount()
		k.check()
		k.mount()
		restarting()
	}
	d.launch()
	d.up()
	b.doubtful = 8 * len(b.crashes)
	b.settle(d, 0)
}

// breakFS tells the kernel that the file system has an error.
func (k *disk) breakFS() {
	k.t.Helper()
	var dir unix.Stat_t
	if err := unix.Stat(k.dir, &dir); err != nil {
		k.t.Fatal(err)
	}
	dev, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dir.Dev), unix.Minor(dir.Dev)))
	if err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(dev), "trigger_fs_error"), []byte("1"), 0); err != nil {
		k.t.Fatal(err)
	}
}

// check mends the file system as the boot does: replay of the journal, and
// what can be mended without asking.
func (k *disk) check() {
	k.t.Helper()
	shell(k.t, "sh", "-c", `e2fsck -p "$1"; test $? -le 1`, "sh", k.image)
}

// lostWrites: below the file system there is less room than it believes, so
// that writing back fails, then fsync fails, and then succeeds again.
func (p *peers) lostWrites(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	below := d.path("below")
	mountTmpfs(t, below, "size=48m")
	k := newDisk(t, filepath.Join(below, "disk.img"), d.path("data"), 256<<20)
	b.next.answer(putOff)
	d.launch()
	d.up()
	wait := b.load(d.starttls, 8, nil)
	wait() // until the relay refuses to go on
	d.refusesCleanly()
	acked := len(b.changed.all())
	restarting := b.crashed(true)
	if acked < 100 {
		t.Errorf("only %d messages were acknowledged", acked)
	}
	k.unmount()
	if err := unix.Mount("tmpfs", below, "tmpfs", unix.MS_REMOUNT, "size=512m"); err != nil {
		t.Fatal(err)
	}
	k.check()
	k.mount()
	b.next.answer(b.verdict)
	b.doubtful = 8
	restarting()
	d.launch()
	d.up()
	b.settle(d, 0)
}

// failedSync: one fsync fails and all later ones succeed. It is never
// trusted again.
func (p *peers) failedSync(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	for n := range dose(t, "TACET_SYNCS", 4) {
		// The n-th call of each thread fails, of the log or of a content file.
		d.launch("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,sync_file_range",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", 20+7*n))
		if d.greets() == nil {
			wait := b.load(d.starttls, 4, nil)
			wait()
		}
		restarting := b.crashed(true)
		if status := d.proc.wait(); status != 1 {
			t.Errorf("the relay ended with status %d", status)
		}
		restarting()
	}
	d.launch()
	d.up()
	b.doubtful = 4 * len(b.crashes)
	b.settle(d, 0)
}
