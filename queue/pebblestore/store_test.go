package pebblestore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue/queuetest"
)

// testEngine is a store in the suite.
type testEngine struct {
	*Store
	opts Options
}

func (e testEngine) Reopen(t testing.TB) queuetest.Engine {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return openEngine(t, e.opts)
}

func openEngine(t testing.TB, o Options) testEngine {
	t.Helper()
	s := mustOpen(t, o)
	<-s.Loaded()
	return testEngine{s, o}
}

// mustOpen opens a store that is closed when the test ends.
func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func memOptions(fs vfs.FS) Options {
	return Options{Dir: "data/queue", KeyDir: "data/keys", FS: fs, Destination: queuetest.Destination}
}

func TestConformanceInMemory(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Engine { return openEngine(t, memOptions(vfs.NewMem())) })
}

func TestConformanceOnDisk(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Engine {
		dir := t.TempDir()
		return openEngine(t, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination})
	})
}

// Without a memory of recent messages everything is read from the disk.
func TestConformanceWithoutMemory(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Engine {
		o := memOptions(vfs.NewMem())
		o.MemoryBudget = 1
		return openEngine(t, o)
	})
}
