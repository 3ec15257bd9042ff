package main_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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
		restarting := b.crashed()
		d.crash()
		close(stop)
		wait()
		for rand.N(3) == 0 { // it does not get far
			restarting()
			restarting = b.crashed()
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

// ambiguous: the relay is killed when the next hop has taken a message and
// the relay does not know, or has not recorded it. Each kill makes one second
// copy at most, the same to the last octet. TACET_AMBIGUOUS says how many.
func (p *peers) ambiguous(t *testing.T) {
	next := newSink(t)
	d := p.newDaemon(t, routedTo(next, nil))
	d.launch()
	d.up()
	trials := dose(t, "TACET_AMBIGUOUS", 10)
	var armed atomic.Bool
	var asked atomic.Int64
	before := 0 // trials in which it is killed before the 250 is sent
	killed := make(chan struct{}, 1)
	next.answer(func(verb, _ string) string {
		if verb != "." {
			return ""
		}
		// The sink asks before it takes the message and again before it answers.
		if asked.Add(1)%2 == 0 && armed.CompareAndSwap(true, false) {
			kill := func() {
				syscall.Kill(-d.proc.cmd.Process.Pid, syscall.SIGKILL)
				killed <- struct{}{}
			}
			if rand.N(2) == 0 {
				before++
				kill()
			} else { // while the 250 is on its way, or just after
				time.AfterFunc(rand.N(4*time.Millisecond), kill)
			}
		}
		return ""
	})
	twice := 0
	for n := range trials {
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
		var copies [][]byte
		for _, m := range next.mail.all() {
			if bytes.Contains(m.content, fmt.Appendf(nil, "\r\nMessage-ID: <%d@client.example>\r\n", n)) {
				copies = append(copies, m.content)
			}
		}
		switch len(copies) {
		case 1:
			checkArrived(t, copies[0], sent, 1)
		case 2:
			twice++
			checkArrived(t, copies[0], sent, 1)
			if !bytes.Equal(copies[0], copies[1]) {
				t.Errorf("trial %d: the two copies differ", n)
			}
		default:
			t.Errorf("trial %d: %d copies", n, len(copies))
		}
	}
	t.Logf("%d kills, %d of them before the 250 was sent: %d second copies", trials, before, twice)
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
		restarting := b.crashed()
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
