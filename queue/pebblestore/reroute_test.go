package pebblestore

import (
	"bytes"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
	"tacet/queue/queuetest"
)

// TestReroute: after a reload of the configuration every recipient waits
// where the new one says, and what was under delivery follows.
func TestReroute(t *testing.T) {
	woken := make(chan struct{}, 100)
	o := memOptions(vfs.NewMem())
	o.Wake = func() { woken <- struct{}{} }
	s := mustOpen(t, o)
	at := time.Now().Add(time.Second)
	two := &queue.Envelope{ID: queue.NewID(at), Recipients: []queue.Recipient{{Path: "a@one.example"}, {Path: "b@two.example"}}}
	busy := &queue.Envelope{ID: queue.NewID(at), Recipients: []queue.Recipient{{Path: "c@three.example"}, {Path: "d@one.example"}}}
	for _, e := range []*queue.Envelope{two, busy} {
		if err := s.Put(t.Context(), e, []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
	}
	under, err := s.Claim(t.Context(), "three.example", at)
	if err != nil || under == nil {
		t.Fatal("nothing to claim", err)
	}
	<-s.Loaded()
	for len(woken) > 0 {
		<-woken
	}
	hub := func(queue.ForwardPath) queue.Destination { return "hub" }
	if err := s.Reroute(t.Context(), hub); err != nil {
		t.Fatal(err)
	}
	<-woken
	if ready, _ := s.Due(at); len(ready) != 1 || ready[0] != "hub" {
		t.Fatalf("due at %v, want the hub alone", ready)
	}
	got := make(map[queue.ID]int)
	for range 2 {
		c, err := s.Claim(t.Context(), "hub", at)
		if err != nil || c == nil {
			t.Fatal("nothing to claim", err)
		}
		got[c.Envelope.ID] = len(c.Recipients)
		defer s.Release(c)
	}
	if got[two.ID] != 2 || got[busy.ID] != 1 {
		t.Fatalf("claimed %v", got)
	}
	wait := queue.Outcome{Recipient: 0, State: queue.Waiting}
	if err := s.Settle(t.Context(), under, queue.Settlement{Outcomes: []queue.Outcome{wait}}); err != nil {
		t.Fatal(err)
	}
	c, err := s.Claim(t.Context(), "hub", at)
	if err != nil || c == nil || c.Envelope.ID != busy.ID || len(c.Recipients) != 1 || c.Recipients[0] != 0 {
		t.Fatalf("what was under delivery did not follow: %+v %v", c, err)
	}
	s.Release(c)
}

// TestOutcomeIsDurableSoon: an outcome that nothing rides with is durable
// within five milliseconds.
func TestOutcomeIsDurableSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s, err := Open(memOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := benchMessage(time.Now())
		if err := s.Put(t.Context(), e, []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
		c, err := s.Claim(t.Context(), "sink.example", time.Now())
		if err != nil || c == nil {
			t.Fatal("nothing to claim", err)
		}
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if got := readable(t, mem.CrashClone(vfs.CrashCloneCfg{})); got[e.ID] {
			t.Error("the message is back after a power cut")
		}
	})
}

// slowReader gives zeros, and waits once on the way until all are there.
type slowReader struct {
	left  int
	pause func()
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.pause != nil && r.left < 1<<20 {
		r.pause()
		r.pause = nil
	}
	n := min(len(p), r.left)
	clear(p[:n])
	r.left -= n
	return n, nil
}

// TestLargeMessagesInBoundedMemory has 200 large messages on the way at once:
// each takes a chunk of memory and no more.
func TestLargeMessagesInBoundedMemory(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination})
	const messages, size = 200, 2 << 20
	base := heap()
	var arrived, done sync.WaitGroup
	arrived.Add(messages)
	measured := make(chan struct{})
	for range messages {
		done.Go(func() {
			r := &slowReader{left: size, pause: func() { arrived.Done(); <-measured }}
			if err := s.Put(t.Context(), benchMessage(time.Now()), bytes.Repeat([]byte{1}, 1000), r); err != nil {
				t.Error(err)
			}
		})
	}
	arrived.Wait()
	used := heap() - base
	close(measured)
	done.Wait()
	if perMessage := used / messages; perMessage > 100<<10 {
		t.Errorf("each message on the way takes %d octets of memory", perMessage)
	}
	runtime.KeepAlive(s)
}
