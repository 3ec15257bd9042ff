package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// events collects what a store tells of.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) count(kind EventKind) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// TestLocked: a second store on the same folder is refused at once, and works
// after the first one has closed.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	o := memOptions(nil)
	o.FS, o.Dir, o.KeyDir = vfs.Default, dir+"/queue", dir+"/keys"
	s := mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, queue.ErrLocked) {
		t.Fatalf("a second Open: %v", err)
	}
	if err := s.Put(t.Context(), benchMessage(time.Now()), []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, o)
}

// TestModes: nobody else can look into the folders or the master key.
func TestModes(t *testing.T) {
	dir := t.TempDir()
	o := memOptions(vfs.Default)
	o.Dir, o.KeyDir = dir+"/queue", dir+"/keys"
	if err := os.MkdirAll(o.KeyDir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, o)
	for path, want := range map[string]os.FileMode{
		o.Dir: 0o700, o.KeyDir: 0o700, o.KeyDir + "/" + masterName: 0o600, o.KeyDir + "/" + slotName: 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	if b, err := os.ReadFile(o.KeyDir + "/" + cacheTag); err != nil || !strings.HasPrefix(string(b), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Errorf("%s: %q %v", cacheTag, b, err)
	}
}

// TestWrongKeys: a key folder that does not fit is refused, and left as it is.
func TestWrongKeys(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s, err := Open(memOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), benchMessage(time.Now()), []byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(fs vfs.FS, o *Options) error{
		"another master key": func(_ vfs.FS, o *Options) error {
			o.MasterKey = bytes.Repeat([]byte{7}, keySize)
			return nil
		},
		"a short master key":   func(_ vfs.FS, o *Options) error { o.MasterKey = []byte{7}; return nil },
		"a missing master key": func(fs vfs.FS, _ *Options) error { return fs.Remove("data/keys/" + masterName) },
		"a damaged slot file":  func(fs vfs.FS, _ *Options) error { return flip(fs, "data/keys/"+slotName, 20) },
	} {
		fs := snapshotFS(mem)
		o := memOptions(fs)
		if err := spoil(fs, &o); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := Open(o); !errors.Is(err, ErrKeys) {
				t.Errorf("%s: %v, want ErrKeys", what, err)
			}
		}
	}
	if got := readable(t, snapshotFS(mem)); len(got) != 1 {
		t.Error("the message cannot be read with its own keys")
	}
}

// flip changes one bit of a file.
func flip(fs vfs.FS, path string, at int64) error {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return errors.Join(err, f.Close())
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// TestGivenMasterKey: the key may come from elsewhere; then it is not in the folder.
func TestGivenMasterKey(t *testing.T) {
	mem := vfs.NewMem()
	o := memOptions(mem)
	o.MasterKey = bytes.Repeat([]byte{1}, keySize)
	s := openEngine(t, o)
	if err := s.Put(t.Context(), benchMessage(time.Now()), []byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen(t).(testEngine)
	if c, err := s.Claim(t.Context(), "sink.example", time.Now()); err != nil || c == nil {
		t.Fatal("nothing to claim", err)
	}
	if _, err := mem.Stat("data/keys/" + masterName); err == nil {
		t.Error("the master key is in the key folder")
	}
}

// usageFS says how much space is left.
type usageFS struct {
	vfs.FS
	free, total atomic.Uint64
}

func (fs *usageFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: fs.free.Load(), TotalBytes: fs.total.Load()}, nil
}

// TestFull: below the floor mail is refused and deliveries go on; with room
// again mail is taken, without a restart.
func TestFull(t *testing.T) {
	fs := &usageFS{FS: vfs.NewMem()}
	fs.free.Store(1 << 30)
	fs.total.Store(2 << 30)
	var ev events
	o := memOptions(fs)
	o.Events = ev.add
	s := mustOpen(t, o)
	ballast := func() bool {
		_, err := fs.Stat("data/queue/" + ballastName)
		return err == nil
	}
	if !ballast() {
		t.Error("there is no ballast")
	}
	put := func(rest io.Reader) error { return s.Put(t.Context(), benchMessage(time.Now()), []byte("text"), rest) }
	expire := func() { s.space.looked.Store(0) }
	if err := put(nil); err != nil {
		t.Fatal(err)
	}
	fs.free.Store(defaultMinFree - 1)
	expire()
	if err := put(nil); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("Put on a full disk: %v", err)
	}
	if err := put(strings.NewReader("more")); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("Put on a full disk: %v", err)
	}
	if err := s.Ready(); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("Ready on a full disk: %v", err)
	}
	if !ballast() {
		t.Error("the ballast was given up too early")
	}
	fs.free.Store(defaultMinFree / 4)
	expire()
	if err := put(nil); !errors.Is(err, queue.ErrFull) || ballast() {
		t.Errorf("far below the floor: %v, ballast %v", err, ballast())
	}
	c, err := s.Claim(t.Context(), "sink.example", time.Now())
	if err != nil || c == nil {
		t.Fatal("nothing to claim", err)
	}
	if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
		t.Fatalf("Settle on a full disk: %v", err)
	}
	fs.free.Store(1 << 30)
	expire()
	if err := put(nil); err != nil {
		t.Fatalf("Put with room again: %v", err)
	}
	if err := put(strings.NewReader("more")); err != nil {
		t.Fatalf("Put with room again: %v", err)
	}
	if !ballast() {
		t.Error("the ballast was not taken back")
	}
	if ev.count(EventDiskFull) != 1 || ev.count(EventDiskRoom) != 1 {
		t.Errorf("events: %v", ev.list)
	}
}

// TestStreamFills: the disk that runs full under a large message is an
// ordinary refusal, and nothing of the message stays.
func TestStreamFills(t *testing.T) {
	for _, fault := range []struct {
		kind string
		err  error
		want error
	}{
		{"create", syscall.ENOSPC, queue.ErrFull},
		{"write", syscall.ENOSPC, queue.ErrFull},
		{"write", syscall.EDQUOT, queue.ErrFull},
		{"sync", syscall.ENOSPC, queue.ErrFull},
		{"create", syscall.EROFS, queue.ErrUnavailable},
		{"write", syscall.EIO, queue.ErrUnavailable},
		{"sync", syscall.EIO, queue.ErrUnavailable},
	} {
		t.Run(fmt.Sprint(fault.kind, fault.err), func(t *testing.T) {
			var on atomic.Bool
			mem := vfs.NewMem()
			fs := &opFS{FS: mem, before: func(o op) error {
				if on.Load() && o.kind == fault.kind && strings.Contains(o.name, "/content/") {
					return fault.err
				}
				return nil
			}}
			s := mustOpen(t, memOptions(fs))
			put := func() error {
				return s.Put(t.Context(), benchMessage(time.Now()), []byte("x"), bytes.NewReader(make([]byte, 200<<10)))
			}
			on.Store(true)
			if err := put(); !errors.Is(err, fault.want) {
				t.Fatalf("Put: %v, want %v", err, fault.want)
			}
			if names, err := mem.List("data/queue/content"); err != nil || len(names) != 0 {
				t.Fatalf("left behind: %v %v", names, err)
			}
			if st := s.Stats(); st.Messages != 0 {
				t.Fatalf("%+v", st)
			}
			on.Store(false)
			if err := put(); err != nil {
				t.Fatalf("Put with room again: %v", err)
			}
		})
	}
}

// TestFailedSync: a write or sync of the log that failed is never trusted
// again, though the next one would succeed. What was acknowledged before is
// there after a restart, and what was not may be.
func TestFailedSync(t *testing.T) {
	for _, kind := range []string{"write", "sync"} {
		t.Run(kind, func(t *testing.T) {
			var on atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := &opFS{FS: mem, before: func(o op) error {
				if o.kind == kind && strings.HasSuffix(o.name, ".log") && on.Swap(false) {
					return syscall.EIO
				}
				return nil
			}}
			var ev events
			o := memOptions(fs)
			o.Events = ev.add
			fatal := make(chan struct{})
			o.Fatal = func() { close(fatal) }
			s := mustOpen(t, o)
			<-s.Loaded()
			acked := benchMessage(time.Now())
			if err := s.Put(t.Context(), acked, []byte("text"), nil); err != nil {
				t.Fatal(err)
			}
			c, err := s.Claim(t.Context(), "sink.example", time.Now())
			if err != nil || c == nil {
				t.Fatal("nothing to claim", err)
			}
			on.Store(true)
			for range 3 {
				if err := s.Put(t.Context(), benchMessage(time.Now()), []byte("text"), nil); !errors.Is(err, queue.ErrUnavailable) {
					t.Fatalf("Put: %v, want ErrUnavailable", err)
				}
			}
			<-fatal
			if _, err := s.Claim(t.Context(), "sink.example", time.Now()); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Claim: %v: what cannot be recorded must not be delivered", err)
			}
			if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Settle: %v", err)
			}
			if err := s.Ready(); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Ready: %v", err)
			}
			if ev.count(EventFailed) != 1 {
				t.Errorf("events: %v", ev.list)
			}
			if got := readable(t, mem.CrashClone(vfs.CrashCloneCfg{})); !got[acked.ID] {
				t.Error("the acknowledged message is lost")
			}
		})
	}
}

// TestEveryWriteFails lets each call that changes the file system fail once,
// in turn, under some work. Whatever becomes of the work, nothing that was
// acknowledged is lost, the store does not hang, and a restart finds it whole.
func TestEveryWriteFails(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := int64(0); ; n++ {
			if testing.Short() && n%7 != 0 {
				continue
			}
			mem := vfs.NewCrashableMem()
			var calls atomic.Int64
			fs := &opFS{FS: mem, before: func(op) error {
				if calls.Add(1) == n+1 {
					return fault
				}
				return nil
			}}
			l := &ledger{messages: make(map[queue.ID]promise)}
			faultyWork(t, fs, l)
			if err := checkRecovered(mem.CrashClone(vfs.CrashCloneCfg{}), l.copy()); err != nil {
				t.Fatalf("call %d failed with %v: %v", n, fault, err)
			}
			if calls.Load() < n {
				t.Logf("%d calls", calls.Load())
				break
			}
		}
	}
}

// faultyWork does some of everything, and takes each refusal for what it is.
func faultyWork(t *testing.T, fs vfs.FS, l *ledger) {
	t.Helper()
	s, err := Open(memOptions(fs))
	if err != nil {
		return
	}
	defer s.Close()
	<-s.Loaded()
	for i := range 4 {
		e := benchMessage(time.Now())
		size := 500 + i
		l.update(e.ID, func(p *promise) { p.size = size })
		var rest io.Reader
		if i == 2 {
			rest = bytes.NewReader(crashContent(size)[100:])
			err = s.Put(t.Context(), e, crashContent(size)[:100], rest)
		} else {
			err = s.Put(t.Context(), e, crashContent(size), nil)
		}
		if err == nil {
			l.update(e.ID, func(p *promise) { p.acked = true })
		}
		if i == 1 {
			_ = s.rotate()
		}
	}
	_ = s.flushTables()
	for i := range 3 {
		c, err := s.Claim(t.Context(), "sink.example", time.Now().Add(time.Second))
		if err != nil || c == nil {
			return
		}
		o := queue.Outcome{State: queue.Delivered}
		if i == 0 {
			o = queue.Outcome{State: queue.Waiting}
		}
		l.update(c.Envelope.ID, func(p *promise) {
			p.attempts[1]++
			p.settling = p.settling || i > 0
		})
		if s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{o}}) == nil && s.flush() == nil {
			l.update(c.Envelope.ID, func(p *promise) { p.gone, p.attempts[0] = p.settling, p.attempts[1] })
		}
	}
	_ = s.rotate()
	_ = s.keys.slots.scrub()
}
