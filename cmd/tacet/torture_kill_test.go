package main_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// kills: SIGKILL at random moments under load, and again while the relay
// recovers. TACET_KILLS says how many.
func (p *peers) kills(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	d.launch()
	for range dose(t, "TACET_KILLS", 20) {
		d.up()
		stop := make(chan struct{})
		wait := b.load(d.starttls, 12, stop)
		pause(600 * time.Millisecond)
		restarting := b.crashed(false)
		d.crash()
		close(stop)
		wait()
		for rand.N(3) == 0 { // it does not get far
			restarting()
			restarting = b.crashed(false)
			d.launch()
			pause(200 * time.Millisecond)
			d.crash()
		}
		restarting()
		d.launch()
	}
	d.up()
	b.settle(d, 0)
}

// The moments of a kill around the next hop's final reply.
const (
	beforeReply = iota // it is not sent
	unread             // it has reached the relay's machine, and the relay has not read it
	aroundIt           // on its way, or just after: the relay may have recorded it
	moments
)

// ambiguous: the relay is killed when the next hop has taken a message and
// the relay does not know, or has not recorded it. Each kill makes one second
// copy at most, the same to the last octet. TACET_AMBIGUOUS says how many.
func (p *peers) ambiguous(t *testing.T) {
	next := newSink(t)
	d := p.newDaemon(t, routedTo(next, nil))
	d.launch()
	d.up()
	trials := dose(t, "TACET_AMBIGUOUS", 9)
	var armed atomic.Bool
	var asked, moment atomic.Int64
	killed := make(chan struct{}, 1)
	next.answer(func(verb, _ string) string {
		// The sink asks before it takes the message and again before it answers.
		if verb == "." && asked.Add(1)%2 == 0 && armed.CompareAndSwap(true, false) {
			d.killAt(int(moment.Load()), killed)
		}
		return ""
	})
	var twice [moments]int
	for n := range trials {
		now := n % moments
		moment.Store(int64(now))
		armed.Store(true)
		size := 5_000
		if n%5 == 0 {
			size = 300_000
		}
		sent := numbered(n, size)
		if err := submitOne(d.starttls, sent, "anna@example.org", fmt.Sprintf("n%d@example.net", n)); err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("trial %d: %v", n, err)
		}
		select {
		case <-killed:
		case <-time.After(patience):
			t.Fatalf("trial %d: message not delivered", n)
		}
		<-d.proc.exited
		asked.Store(0)
		d.launch()
		d.up()
		if damaged := d.drained(); damaged > 0 {
			t.Fatalf("trial %d: %d messages are set aside", n, damaged)
		}
		copies := copiesOf(next, n)
		if len(copies) == 0 || len(copies) > 2 || len(copies) == 1 && now != aroundIt {
			t.Errorf("trial %d: %d copies", n, len(copies))
			continue
		}
		checkArrived(t, copies[0], sent, 1)
		if len(copies) == 2 {
			twice[now]++
			if !bytes.Equal(copies[0], copies[1]) {
				t.Errorf("trial %d: the two copies differ", n)
			}
		}
	}
	t.Logf("%d kills; second copies: %d of kills before the reply was sent, %d before it was read, %d around that", trials, twice[beforeReply], twice[unread], twice[aroundIt])
}

// killAt kills the daemon at a moment around the reply that is about to be sent.
func (d *daemon) killAt(moment int, killed chan<- struct{}) {
	pid := d.proc.cmd.Process.Pid
	kill := func() {
		syscall.Kill(-pid, syscall.SIGKILL)
		killed <- struct{}{}
	}
	switch moment {
	case beforeReply:
		kill()
	case unread: // it reads nothing any more while the reply is sent
		d.freeze()
		time.AfterFunc(20*time.Millisecond, kill)
	default:
		time.AfterFunc(rand.N(4*time.Millisecond), kill)
	}
}

// freeze lets the daemon stand still.
func (d *daemon) freeze() {
	pid := d.proc.cmd.Process.Pid
	syscall.Kill(-pid, syscall.SIGSTOP)
	for range time.Tick(time.Millisecond) {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(status, []byte(") T ")) {
			return
		}
	}
}

// copiesOf are the copies of the n-th message that a sink took.
func copiesOf(s *sink, n int) (copies [][]byte) {
	for _, m := range s.mail.all() {
		if bytes.Contains(m.content, fmt.Appendf(nil, "\r\nMessage-ID: <%d@client.example>\r\n", n)) {
			copies = append(copies, m.content)
		}
	}
	return copies
}

// powerCuts: the disk loses what was not synced, at random moments under
// load. TACET_CUTS says how many.
func (p *peers) powerCuts(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	k := newDisk(t, d.path("disk.img"), d.path("data"), 1<<30)
	d.launch()
	for range dose(t, "TACET_CUTS", 5) {
		d.up()
		stop := make(chan struct{})
		wait := b.load(d.starttls, 12, stop)
		pause(1500 * time.Millisecond)
		b.lights(false)
		restarting := b.crashed(true)
		k.cut()
		// For a moment the relay lives on, on a disk that is gone.
		pause(30 * time.Millisecond)
		d.crash()
		close(stop)
		wait()
		k.unmount()
		k.mount()
		b.lights(true)
		restarting()
		d.launch()
	}
	d.up()
	b.settle(d, 0)
}
