package pebblestore

import (
	"bytes"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log grows ahead of lone messages and not of groups, and what the engine
// wrote stands in it as if it had not.
func TestLogGrowsAhead(t *testing.T) {
	fs := vfs.NewMem()
	guarded := guardFS{fs, &Store{}}
	f, err := guarded.Create("000001.log", writeCategory)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	write := func(size int) {
		t.Helper()
		p := bytes.Repeat([]byte{byte(want.Len()%255 + 1)}, size)
		want.Write(p)
		if n, err := f.Write(p); n != size || err != nil {
			t.Fatalf("write of %d octets: %d, %v", size, n, err)
		}
	}
	size := func() int64 {
		t.Helper()
		info, err := fs.Stat("000001.log")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}

	write(5000)
	if got := size(); got != 5000+fillStep {
		t.Errorf("after a lone message the log has %d octets, want %d", got, 5000+fillStep)
	}
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
	grown := size()
	for range 40 {
		write(6000)
		if err := f.SyncData(); err != nil {
			t.Fatal(err)
		}
	}
	if got := size(); got != grown {
		t.Errorf("lone messages made a log grow from %d to %d octets that had room for them", grown, got)
	}
	for range 20 { // a group, in the engine's blocks
		write(fillBelow)
	}
	if got := size(); got != int64(want.Len()) {
		t.Errorf("after a group the log has %d octets, want the %d that were written", got, want.Len())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	back, err := fs.Open("000001.log")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	got, err := io.ReadAll(back)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the log reads as %d octets that differ (%v), want %d", len(got), err, want.Len())
	}
}
