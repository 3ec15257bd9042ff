package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
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

// A fresh file is whole after a crash at any step of a save, and once a save has
// returned no copy of what was there before is to be opened.
func TestFreshFile(t *testing.T) {
	config := &Config{DataDir: t.TempDir()}
	if err := os.Mkdir(config.keyDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	f := config.usage()
	read := func(step string, want ...string) {
		t.Helper()
		if got, err := f.Load(); err != nil || !slices.Contains(want, string(got)) {
			t.Errorf("%s: %q, %v; want one of %q", step, got, err, want)
		}
	}
	read("nothing yet", "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.Save([]byte("first")))
	copied, err := os.ReadFile(f.path)
	must(err)
	oldKey, err := os.ReadFile(f.key)
	must(err)
	must(f.Save([]byte("second")))
	read("saved twice", "second")
	newest, err := os.ReadFile(f.path)
	must(err)
	newKey, err := os.ReadFile(f.key)
	must(err)
	if bytes.Equal(oldKey, newKey) {
		t.Error("the key is the same")
	}
	// A copy of before, put back: it is not to be read.
	must(os.WriteFile(f.path, copied, 0o600))
	if got, err := f.Load(); err == nil {
		t.Errorf("an old copy was read: %q", got)
	}
	for step, files := range map[string]map[string][]byte{
		"the next key is there":           {f.path: copied, f.key: oldKey, f.next(): newKey},
		"a part of the next key":          {f.path: copied, f.key: oldKey, f.next() + ".new": newKey[:7]},
		"a part of the content":           {f.path: copied, f.key: oldKey, f.next(): newKey, f.path + ".new": newest[:9]},
		"the content is there":            {f.path: newest, f.key: oldKey, f.next(): newKey},
		"the old key is overwritten":      {f.path: newest, f.key: make([]byte, len(oldKey)), f.next(): newKey},
		"the old key is half overwritten": {f.path: newest, f.key: append(make([]byte, 16), oldKey[16:]...), f.next(): newKey},
		"the old key is gone":             {f.path: newest, f.next(): newKey},
		"an old next key, overwritten":    {f.path: copied, f.key: oldKey, f.next(): make([]byte, len(newKey))},
	} {
		for _, path := range []string{f.path, f.key, f.next(), f.path + ".new", f.next() + ".new"} {
			must(destroyFile(path))
		}
		for path, content := range files {
			must(os.WriteFile(path, content, 0o600))
		}
		read(step, map[bool]string{true: "first", false: "second"}[bytes.Equal(files[f.path], copied)])
		must(f.Save([]byte("third")))
		read(step+", and the next save", "third")
		if left, err := filepath.Glob(filepath.Join(config.keyDir(), "usage*")); err != nil || len(left) != 1 {
			t.Errorf("%s: %v is left, %v", step, left, err)
		}
	}
}
