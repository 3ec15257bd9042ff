package pebblestore

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestDamaged: each flipped bit of a table is found, and what damages the log;
// nothing where nothing is damaged. Nothing is changed.
func TestDamaged(t *testing.T) {
	mem, _ := salvageWorld(t)
	look := func(fs vfs.FS) []string {
		t.Helper()
		found, err := Damaged(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := look(vfs.NewMem()); found != nil {
		t.Errorf("where there is no queue: %q", found)
	}
	if found := look(mem); found != nil {
		t.Errorf("nothing is damaged: %q", found)
	}
	flips := 0
	for _, file := range engineFiles(t, mem) {
		if !strings.HasSuffix(file, ".sst") {
			continue
		}
		for at := 0.05; at < 0.95; at += 0.05 {
			flips++
			fs := snapshotFS(mem)
			rewrite(t, fs, "data/queue/"+file, func(b []byte) []byte {
				b[int(at*float64(len(b)))] ^= 4
				return b
			})
			if found := look(fs); !slices.Contains(found, file) {
				t.Errorf("%s flipped at %.2f: found %q", file, at, found)
			}
		}
	}
	if flips < 10 {
		t.Errorf("%d flips are not enough to say anything", flips)
	}
	damaged := damagedWorld(t)
	before := engineFiles(t, damaged)
	if found := look(damaged); len(found) == 0 {
		t.Error("found nothing of a damaged world")
	}
	if after := engineFiles(t, damaged); !slices.Equal(before, after) {
		t.Errorf("it has changed %v to %v", before, after)
	}
	broken := errors.New("the disk is broken")
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileRead && strings.HasSuffix(op.Path, ".sst") {
			return broken
		}
		return nil
	}))
	if found, err := Damaged(memOptions(fs)); !errors.Is(err, broken) {
		t.Errorf("of a disk that does not answer: %q, %v", found, err)
	}
}

// TestSalvageNews: whoever waits for the open hears all the while that it goes on.
func TestSalvageNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := errorfs.Wrap(damagedWorld(t), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpOpen && (strings.HasSuffix(op.Path, ".sst") || strings.HasSuffix(op.Path, ".log")) {
				time.Sleep(salvageNews + time.Second)
			}
			return nil
		}))
		var heard []time.Time
		o := memOptions(slow)
		o.Events = func(e Event) {
			if e.Kind == EventSalvaging || e.Kind == EventSalvaged {
				heard = append(heard, time.Now())
			}
		}
		s := mustOpen(t, o)
		if len(heard) < 4 { // the beginning and the end, and between
			t.Errorf("%d times it was heard of", len(heard))
		}
		for i := 1; i < len(heard); i++ {
			if pause := heard[i].Sub(heard[i-1]); pause > 2*salvageNews+2*time.Second {
				t.Errorf("nothing was heard of it for %v", pause)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
