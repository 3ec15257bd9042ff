package pebblestore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// gapWorld is what a power cut leaves of a queue of n messages in one table, whose keys are
// still those of their epoch.
func gapWorld(t *testing.T, n int) (mem *vfs.MemFS, table string, want map[queue.ID][]byte) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	s := mustOpen(t, memOptions(disk))
	<-s.Loaded()
	want = make(map[queue.ID][]byte)
	for i := range n {
		e, b := benchMessage(time.Now()), crashContent(2000+i)
		if err := s.Put(t.Context(), e, b, nil); err != nil {
			t.Fatal(err)
		}
		want[e.ID] = b
	}
	if err := s.flushTables(); err != nil {
		t.Fatal(err)
	}
	mem = disk.CrashClone(vfs.CrashCloneCfg{})
	names, err := mem.List("data/queue")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			table = "data/queue/" + name
		}
	}
	if table == "" {
		t.Fatal("there is no table")
	}
	return mem, table, want
}

// TestGapsKeepWhatTheyHide: messages that stand beside damage are not known before the next
// start reads around it. Until then their keys and their records stay, although this start
// ends what epochs it finds, and gives space back.
func TestGapsKeepWhatTheyHide(t *testing.T) {
	mem, table, want := gapWorld(t, 100)
	info, err := mem.Stat(table)
	if err != nil {
		t.Fatal(err)
	}
	gaps, headers := 0, 0
	for at := info.Size() / 200; at < info.Size()-2000; at += info.Size() / 100 {
		fs := snapshotFS(mem)
		if err := flip(fs, table, at); err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("at %d of %d", at, info.Size())
		s := mustOpen(t, memOptions(fs))
		<-s.Loaded()
		if s.Stats().Messages == len(want) {
			continue // in a content: all are known
		}
		gaps++
		s.trimRecords(make(chan struct{}))
		if err := s.Close(); err != nil { // it ends epochs as a rotation does
			t.Fatal(err)
		}
		s = mustOpen(t, memOptions(fs))
		<-s.Loaded()
		lost := len(want) - len(deliverAll(t, s))
		if damaged := s.Stats().Damaged; lost > blockMost || damaged != lost {
			t.Errorf("%s: after a restart %d messages are missing, %d are counted as damaged", what, lost, damaged)
		}
		if lost > 1 {
			headers++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List("data/keys")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, epochPrefix) {
				t.Errorf("%s: the key of an epoch stays for good", what)
			}
		}
	}
	if gaps == 0 || headers > gaps/2 {
		t.Errorf("of %d gaps %d cost more than one message", gaps, headers)
	}
}
