package pebblestore

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/queue/queuetest"
)

// fill puts n messages of the size for many domains.
func fill(t testing.TB, s *Store, n, size int) {
	t.Helper()
	body := make([]byte, size)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := i; j < n; j += 50 {
				e := benchMessage(time.Now())
				e.Recipients[0].Path = queue.ForwardPath(fmt.Sprintf("user%d@domain%d.example", j, j%1000))
				if err := s.Put(t.Context(), e, body, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// diskUsage is what the files under dir take, preallocation too.
func diskUsage(t testing.TB, dir string) (total int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			total += blocks(info)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkBacklog opens a queue of b.N messages.
func BenchmarkBacklog(b *testing.B) {
	for _, n := range []int{30_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			o := Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination}
			s, err := Open(o)
			if err != nil {
				b.Fatal(err)
			}
			size := 200
			if n < 100_000 {
				size = 5400
			}
			begin := time.Now()
			fill(b, s, n, size)
			b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "put/s")
			begin = time.Now()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(begin).Seconds()*1000, "close-ms")
			base := heap()
			for b.Loop() {
				begin := time.Now()
				s, err = Open(o)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(begin).Seconds()*1000, "open-ms")
				<-s.Loaded()
				b.ReportMetric(time.Since(begin).Seconds()*1000, "loaded-ms")
				b.ReportMetric(float64(heap()-base)/float64(n), "B/msg")
				begin = time.Now()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(begin).Seconds()*1000, "close2-ms")
			}
			b.ReportMetric(float64(diskUsage(b, dir))/1e6, "disk-MB")
		})
	}
}

// TestDrainedGivesBack: what a backlog took of the disk is given back soon
// after it has drained.
func TestDrainedGivesBack(t *testing.T) {
	n := 30_000
	if testing.Short() {
		n = 8_000
	}
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination})
	fill(t, s, n, 5400)
	full := diskUsage(t, dir)
	if full < int64(n)*5400 {
		t.Fatalf("%d octets on the disk hold %d messages", full, n)
	}
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	stays := s.ids()[n/2] // one that is not delivered must not keep the rest
	if err := s.Hold(t.Context(), stays); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		left := diskUsage(t, dir)
		if left < 44<<20 {
			c, err := s.Get(t.Context(), stays)
			if err != nil || c.ID != stays {
				t.Fatal(c, err)
			}
			if err := s.Unhold(t.Context(), stays); err != nil {
				t.Fatal(err)
			}
			drain(t, s)
			if st := s.Stats(); st.Messages != 0 || st.Damaged != 0 {
				t.Fatalf("%+v", st)
			}
			t.Logf("%d MB full, %d MB drained", full>>20, left>>20)
			return
		}
		if time.Now().After(deadline) {
			_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
				t.Logf("%s %d", path, blocks(info))
				return err
			})
			t.Fatalf("%d MB are left on the disk", left>>20)
		}
		<-look.C
	}
}

// TestReadBackOnce: a backlog that is read back is read about once, also after
// so much was written that the memtables are at their largest.
func TestReadBackOnce(t *testing.T) {
	const n = 5_000
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination, MemoryBudget: 1})
	fill(t, s, n, 5400)
	before := s.db.Metrics().BlockCache
	for _, id := range s.ids() {
		if _, err := s.Content(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	after := s.db.Metrics().BlockCache
	// Of each content there is a block to read, and of envelopes and what finds them little. What is
	// being compacted is read anew. Without a cache it is seven.
	each := float64(after.Misses-before.Misses) / n
	t.Logf("%.2f blocks of the disk and %.2f of memory for each message", each, float64(after.Hits-before.Hits)/n)
	if each > 4 {
		t.Errorf("%.2f blocks are read for each message, want little more than one", each)
	}
}

// drain delivers everything, by two lanes.
func drain(t testing.TB, s *Store) {
	t.Helper()
	var wg sync.WaitGroup
	for lane := range 2 {
		wg.Go(func() {
			for {
				ready, _ := s.Due(time.Now())
				if len(ready) == 0 {
					return
				}
				for i := lane; i < len(ready); i += 2 {
					for {
						c, err := s.Claim(t.Context(), ready[i], time.Now())
						if err != nil {
							t.Error(err)
							return
						}
						if c == nil {
							break
						}
						if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
							t.Error(err)
							return
						}
					}
				}
				if len(ready) == 1 && lane == 1 {
					return
				}
			}
		})
	}
	wg.Wait()
}
