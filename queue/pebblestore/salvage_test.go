package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// salvageWorld is a queue that has lived three times, the last time not closed:
// messages in tables, in the log, in slots and in epochs, with and without
// states, some of them streamed, and some settled. want is what is queued.
func salvageWorld(t *testing.T) (mem *vfs.MemFS, want map[queue.ID][]byte) {
	t.Helper()
	mem = vfs.NewCrashableMem()
	want = make(map[queue.ID][]byte)
	for life := range 3 {
		s := mustOpen(t, memOptions(mem))
		<-s.Loaded()
		for i := range 60 {
			e := benchMessage(time.Now())
			b := crashContent(700 + 60*life + i)
			var err error
			if i%20 == 19 {
				err = s.Put(t.Context(), e, b[:100], bytes.NewReader(b[100:]))
			} else {
				err = s.Put(t.Context(), e, b, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			want[e.ID] = b
		}
		for i := range 30 {
			c, err := s.Claim(t.Context(), "sink.example", time.Now())
			if err != nil || c == nil {
				t.Fatal("nothing to claim", err)
			}
			o := queue.Outcome{State: queue.Waiting, Next: time.Now().Add(time.Minute), Reply: queue.Reply{Code: 450, Text: strings.Repeat("x", 100)}}
			if i%2 == 0 {
				o = queue.Outcome{State: queue.Delivered}
				delete(want, c.Envelope.ID)
			}
			if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{o}}); err != nil {
				t.Fatal(err)
			}
		}
		err := s.flush()
		if err == nil && life == 1 {
			err = s.flushTables()
		}
		if err == nil && life < 2 {
			err = s.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return snapshotFS(mem), want
}

// engineFiles lists what the engine keeps, and is not empty.
func engineFiles(t *testing.T, fs vfs.FS) (files []string) {
	t.Helper()
	names, err := fs.List("data/queue")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fs.Stat("data/queue/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if engineFile(name) && info.Size() > 0 {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files
}

// rewrite replaces what a file holds.
func rewrite(t *testing.T, fs vfs.FS, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := readFile(fs, path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := fs.Create(path, writeCategory)
	if err == nil {
		_, err = out.Write(f(b))
	}
	if err == nil {
		err = errors.Join(out.Sync(), out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damagedWorld is a queue whose newest log and only table are damaged.
func damagedWorld(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem, _ := salvageWorld(t)
	files := engineFiles(t, mem)
	for i, file := range files {
		last := i == len(files)-1 || !strings.HasSuffix(files[i+1], ".log")
		if at := 0.3; strings.HasSuffix(file, ".sst") || strings.HasSuffix(file, ".log") && last {
			rewrite(t, mem, "data/queue/"+file, func(b []byte) []byte {
				b[int(at*float64(len(b)))] ^= 1
				b[len(b)-1] ^= 1
				return b
			})
		}
	}
	dir, err := mem.OpenDir("data/queue")
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

// TestSalvageInterrupted cuts the power before and after each call that
// changes the file system while damaged files are read around, and lets each
// fail once. The next open makes the same of it, and nothing stays behind.
func TestSalvageInterrupted(t *testing.T) {
	damaged := damagedWorld(t)
	want := readable(t, snapshotFS(damaged))
	if len(want) < 100 {
		t.Fatalf("only %d messages are readable", len(want))
	}
	check := func(what string, fs vfs.FS) {
		t.Helper()
		if got := readable(t, fs); !maps.Equal(got, want) {
			t.Errorf("%s: %d messages are readable, want %d", what, len(got), len(want))
		}
		names, err := fs.List("data/queue")
		if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, salvageDir) || n == damagedName }) {
			t.Errorf("%s: left behind: %v %v", what, names, err)
		}
	}
	step := int64(8)
	if testing.Short() {
		step = 20
	}
	calls := int64(0)
	mem := snapshotFS(damaged)
	cut := func(o op, when string) {
		if calls++; calls%step == 0 {
			lost := []int{0, 40, 100}[calls/step%3]
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - lost, RNG: testRNG()})
			check(fmt.Sprintf("%s call %d (%s %s), %d%% lost", when, calls, o.kind, o.name, lost), clone)
		}
	}
	var mu sync.Mutex
	locked := func(o op, when string) {
		mu.Lock()
		defer mu.Unlock()
		cut(o, when)
	}
	s, err := Open(memOptions(&opFS{FS: mem, before: func(o op) error { locked(o, "before"); return nil }, after: func(o op) { locked(o, "after") }}))
	if err != nil {
		t.Fatal(err)
	}
	<-s.Loaded()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if calls < 50 {
		t.Fatalf("%d calls are not enough to say anything", calls)
	}
	for n := int64(0); n < calls/2; n += step {
		mem := snapshotFS(damaged)
		var count atomic.Int64
		fs := &opFS{FS: mem, before: func(op) error {
			if count.Add(1) == n+1 {
				return syscall.ENOSPC
			}
			return nil
		}}
		if s, err := Open(memOptions(fs)); err == nil {
			<-s.Loaded()
			_ = s.Close()
		}
		check(fmt.Sprintf("call %d failed", n), snapshotFS(mem))
	}
}

// TestSalvage damages each file of the engine in many ways. The queue opens,
// nothing altered is delivered and nothing that was settled, and every message
// is delivered or counted.
func TestSalvage(t *testing.T) {
	mem, want := salvageWorld(t)
	files := engineFiles(t, mem)
	if len(files) < 4 {
		t.Fatalf("only %v", files)
	}
	newestLog := slices.MaxFunc(files, func(a, b string) int {
		n, _ := fileNumber(a, ".log")
		m, _ := fileNumber(b, ".log")
		return int(n) - int(m)
	})
	steps := 8
	if testing.Short() {
		steps = 4
	}
	newestManifest := ""
	for _, file := range files {
		if strings.HasPrefix(file, "MANIFEST-") {
			newestManifest = max(newestManifest, file)
		}
	}
	for _, file := range files {
		steps := steps
		if !strings.HasSuffix(file, ".sst") && file != newestLog && file != newestManifest {
			steps = 2 // it is not in use any more, or says little
		}
		for i := range steps {
			at := float64(i) / float64(steps-1)
			flipped := snapshotFS(mem)
			rewrite(t, flipped, "data/queue/"+file, func(b []byte) []byte {
				b[int(at*float64(len(b)-1))] ^= 0x10
				return b
			})
			cut := snapshotFS(mem)
			rewrite(t, cut, "data/queue/"+file, func(b []byte) []byte { return b[:int(at*float64(len(b)-1))] })
			checkSalvaged(t, fmt.Sprintf("%s flipped at %.2f", file, at), flipped, want, file == newestLog)
			checkSalvaged(t, fmt.Sprintf("%s cut at %.2f", file, at), cut, want, file == newestLog)
		}
	}
}

func checkSalvaged(t *testing.T, what string, fs vfs.FS, want map[queue.ID][]byte, tail bool) {
	t.Helper()
	var ev events
	o := memOptions(fs)
	o.Events = ev.add
	s, err := Open(o)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	<-s.Loaded()
	if err := s.LoadError(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	got := deliverAll(t, s)
	for id, b := range got {
		if want[id] == nil {
			t.Errorf("%s: a message was delivered that had been settled", what)
		} else if !bytes.Equal(b, want[id]) {
			t.Errorf("%s: an altered content was delivered", what)
		}
	}
	lost := len(want) - len(got)
	if damaged := s.Stats().Damaged; damaged < lost {
		t.Errorf("%s: %d of %d messages are missing, %d are counted as damaged", what, lost, len(want), damaged)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What was found damaged while the queue was in use is read around now: what
	// stands beside it comes. What is missing in the log is known by the number of
	// its operations alone.
	s = mustOpen(t, o)
	<-s.Loaded()
	for id, b := range deliverAll(t, s) {
		if got[id] != nil {
			t.Errorf("%s: after a restart a message was delivered once more", what)
		} else if !bytes.Equal(b, want[id]) {
			t.Errorf("%s: after a restart an altered or settled message was delivered", what)
		}
		lost--
	}
	damaged := s.Stats().Damaged
	if damaged < lost || damaged > lost && !tail {
		t.Errorf("%s: after a restart %d of %d messages are missing, %d are counted as damaged", what, lost, len(want), damaged)
	}
	if lost > blockMost && strings.Contains(what, "flipped") { // or a commit of many sessions, in the log
		t.Errorf("%s: %d messages are lost", what, lost)
	}
	if n := ev.count(EventSalvaged); n > 1 || n == 0 && lost > 0 {
		t.Errorf("%s: %d salvages for %d lost messages", what, n, lost)
	}
}
