package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestSealedFile checks that what is kept comes back, is not readable without its
// key, and that damage and a power cut are noticed or do no harm.
func TestSealedFile(t *testing.T) {
	config := &Config{DataDir: t.TempDir()}
	if err := os.Mkdir(config.keyDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	s := config.sealed("policies")
	if content, err := s.Load(); err != nil || content != nil {
		t.Errorf("without a file: %q, %v", content, err)
	}
	for _, want := range []string{"first: example.net", "second: example.net"} {
		if err := s.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	box, err := os.ReadFile(s.path)
	if err != nil || bytes.Contains(box, []byte("example")) {
		t.Errorf("%q, %v", box, err)
	}
	// A power cut leaves a part of the new content beside the old.
	if err := os.WriteFile(s.path+".new", box[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); err != nil || string(got) != "second: example.net" {
		t.Errorf("after a power cut: %q, %v", got, err)
	}
	if err := s.Save([]byte("third")); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
	for _, path := range []string{s.path, s.key} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for _, damaged := range [][]byte{nil, box[:3], append(bytes.Clone(box[:len(box)-1]), box[len(box)-1]^1)} {
		if err := os.WriteFile(s.path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(); err == nil {
			t.Errorf("%q was read from %q", got, damaged)
		}
	}
	if err := os.Remove(s.key); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); err == nil {
		t.Errorf("%q was read without the key", got)
	}
	if err := s.Save([]byte("fourth")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); err != nil || string(got) != "fourth" {
		t.Errorf("under a new key: %q, %v", got, err)
	}
	if files, err := filepath.Glob(filepath.Join(config.DataDir, "*.new")); err != nil || len(files) != 0 {
		t.Errorf("%v is left, %v", files, err)
	}
}
