package pebblestore

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tacet/queue"
)

// TestShortage: a message that cannot be read because the system is short of
// descriptors or memory is not taken for damaged; it is delivered when that is over.
func TestShortage(t *testing.T) {
	for what, c := range map[string]struct {
		short   error
		content io.Reader
		fails   func(errorfs.Op) bool
	}{
		"its content": {syscall.EMFILE, strings.NewReader("large"), func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpOpen && strings.Contains(op.Path, contentDir+"/")
		}},
		"its key": {syscall.ENOMEM, nil, func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, slotName)
		}},
	} {
		t.Run(what, func(t *testing.T) {
			var short atomic.Bool
			o := memOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if short.Load() && c.fails(op) {
					return c.short
				}
				return nil
			})))
			s := mustOpen(t, o)
			<-s.Loaded()
			if err := s.Put(t.Context(), benchMessage(time.Now()), nil, c.content); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil { // so that the key moves to a slot
				t.Fatal(err)
			}
			s = mustOpen(t, o)
			<-s.Loaded()
			short.Store(true)
			claim, err := s.Claim(t.Context(), "sink.example", time.Now())
			if err == nil {
				_, err = claim.Content.Reader()
				s.Release(claim)
			}
			if !errors.Is(err, c.short) || errors.Is(err, queue.ErrDamaged) {
				t.Errorf("read with %v", err)
			}
			short.Store(false)
			if st := s.Stats(); st.Damaged != 0 || st.Active != 0 {
				t.Errorf("afterwards: %+v", st)
			}
			if got := deliverAll(t, s); len(got) != 1 {
				t.Errorf("%d messages were delivered", len(got))
			}
		})
	}
}
