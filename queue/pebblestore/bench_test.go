package pebblestore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
	"tacet/queue/queuetest"
)

const benchSize = 5 << 10

func benchMessage(now time.Time) *queue.Envelope {
	return &queue.Envelope{
		ID: queue.NewID(now), Arrived: now, Sender: "sender@example.org", Subject: "A subject of usual length",
		Recipients: []queue.Recipient{{Path: "recipient@sink.example"}},
	}
}

func cpuTime() (user, system time.Duration) {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano()), time.Duration(ru.Stime.Nano())
}

// BenchmarkDeliver is a message's whole life: Put, Claim, Settle.
func BenchmarkDeliver(b *testing.B) {
	for _, sessions := range []int{1, 2, 5, 50} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) { benchDeliver(b, sessions, 0) })
	}
	// As if each session took its time between two messages.
	b.Run("sessions=50/think=8ms", func(b *testing.B) { benchDeliver(b, 50, 8*time.Millisecond) })
	b.Run("sessions=3/think=8ms", func(b *testing.B) { benchDeliver(b, 3, 8*time.Millisecond) })
}

func benchDeliver(b *testing.B, sessions int, think time.Duration) {
	dir := b.TempDir()
	fs := &countFS{FS: vfs.Default}
	s := mustOpen(b, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", FS: fs, Destination: queuetest.Destination})
	content := make([]byte, benchSize)
	fs.syncs.Store(0)
	fs.bytes.Store(0)
	var n, latency atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	user, system := cpuTime()
	var wg sync.WaitGroup
	for range sessions {
		wg.Go(func() {
			for n.Add(1) <= int64(b.N) {
				if think > 0 {
					time.Sleep(think)
				}
				begin := time.Now()
				if err := s.Put(b.Context(), benchMessage(begin), content, nil); err != nil {
					b.Error(err)
					return
				}
				latency.Add(int64(time.Since(begin)))
				c, err := s.Claim(b.Context(), "sink.example", begin.Add(time.Hour))
				if err != nil || c == nil {
					b.Error("nothing to claim", err)
					return
				}
				if err := s.Settle(b.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	user2, system2 := cpuTime()
	per := func(v float64, unit string) { b.ReportMetric(v/float64(b.N), unit) }
	per(float64(fs.syncs.Load()), "syncs/msg")
	per(float64(fs.bytes.Load())/benchSize, "written/payload")
	per(float64((user2 - user).Nanoseconds()), "user-ns/msg")
	per(float64((system2 - system).Nanoseconds()), "sys-ns/msg")
	per(float64(latency.Load())/1000, "put-us")
}

// BenchmarkForgetting is what encryption and forgetting alone add to a small
// message that is delivered at once: its key, the sealing of its records, and
// where it outlives its epoch, its slot. Beside the CPU time of a message's
// whole life, which BenchmarkDeliver tells, it is their cost: they add no sync.
func BenchmarkForgetting(b *testing.B) {
	fs := vfs.NewMem()
	k, err := openKeyring(fs, "keys", nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := k.slots.load(); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	e := benchMessage(now)
	content := make([]byte, benchSize)
	plain := appendEnvelope(nil, record{env: e})
	out := make([]byte, 0, benchSize+4096)
	seal := func(b *testing.B, id queue.ID) {
		aead, err := k.current.Load().aead(id)
		if err != nil {
			b.Fatal(err)
		}
		key := recordKey(nil, prefixEnvelope, id)
		nonce := fixedNonce(sealEnvelope)
		aead.Seal(out, nonce[:], plain, associated(key, out[:envelopeHeader]))
		nonce = fixedNonce(sealContent)
		aead.Seal(out, nonce[:], content, key)
	}
	b.Run("delivered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			seal(b, e.ID)
		}
	})
	b.Run("survivor", func(b *testing.B) {
		ids := make([]queue.ID, 1<<10)
		for b.Loop() {
			for i := range ids {
				ids[i] = queue.NewID(now)
				seal(b, ids[i])
			}
			slots, err := k.slots.put(ids, k.current.Load().messageKey)
			if err != nil {
				b.Fatal(err)
			}
			for i, id := range ids {
				if _, err := k.slots.aead(slots[i], id); err != nil {
					b.Fatal(err)
				}
			}
			k.slots.release(slots...)
			if err := k.slots.scrub(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/msg")
	})
}
