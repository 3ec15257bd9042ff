package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// newTestArchive makes an archive of a few files.
func newTestArchive(t *testing.T, path string) {
	t.Helper()
	w, err := newArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	w.manifest = manifest{Format: archiveFormat, Created: time.Now().UTC(), Messages: 2}
	for name, text := range map[string]string{"queue/MANIFEST": "abc", "queue/content/x": strings.Repeat("noise", 1000), "config/tacet.toml": ""} {
		if err := w.add(name, int64(len(text)), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
}

// Whatever is wrong with an archive is found.
func TestDamagedArchive(t *testing.T) {
	for _, kind := range []string{"folder", "file.tar"} {
		t.Run(kind, func(t *testing.T) {
			good := filepath.Join(t.TempDir(), kind)
			newTestArchive(t, good)
			if m, err := verifyArchive(good); err != nil || m.Messages != 2 || len(m.Files) != 3 {
				t.Fatalf("%+v, %v", m, err)
			}
			err := filepath.WalkDir(good, func(path string, entry os.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					damageFile(t, good, path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifyArchive(good); err != nil {
				t.Error(err) // as it was
			}
		})
	}
}

// damageFile flips octets of one file and cuts it off, verifies each time, and
// restores it.
func damageFile(t *testing.T, archive, path string) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	step := max(len(whole)/200, 1)
	for at := 0; at < len(whole); at += step {
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		write(b)
		// The padding of a tar file says nothing, and its fields of owner and the like are not used.
		if _, err := verifyArchive(archive); err == nil && whole[at] != 0 {
			t.Errorf("%s: octet %d was changed, and nothing noticed", path, at)
		}
	}
	for _, cut := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
		if cut < 0 || cut >= len(whole) || strings.HasSuffix(path, ".tar") && cut == len(whole)-1 {
			continue // a tar file ends in padding
		}
		write(whole[:cut])
		if _, err := verifyArchive(archive); err == nil {
			t.Errorf("%s was cut to %d octets, and nothing noticed", path, cut)
		}
	}
	write(whole)
}

func TestArchiveHoldsOnlyItsOwn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "backup")
	newTestArchive(t, folder)
	for _, more := range []string{"queue/more", "other", "config/x/y"} {
		path := filepath.Join(folder, more)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verifyArchive(folder); !errors.Is(err, errArchive) {
			t.Errorf("with %s: %v", more, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "queue/link")); err != nil {
		t.Fatal(err)
	}
	if _, err := verifyArchive(folder); !errors.Is(err, errArchive) {
		t.Errorf("with a symbolic link: %v", err)
	}
	for _, name := range []string{"../x", "queue/../../x", "/etc/passwd", "queue/", "queue", "", "queue//x", "keys/master"} {
		if archivedName(name) {
			t.Errorf("%q may be in an archive", name)
		}
	}
}

// Nothing is overwritten, and what was not finished leaves nothing.
func TestArchiveNames(t *testing.T) {
	for _, kind := range []string{"folder", "file.tar"} {
		dir := t.TempDir()
		path := filepath.Join(dir, kind)
		w, err := newArchive(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newArchive(path); err == nil {
			t.Error("two backups of one name at a time")
		}
		if err := w.add("queue/x", 10, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a file that shrank: %v", err)
		}
		if err := w.close(); err != nil { // as a kill does
			t.Fatal(err)
		}
		newTestArchive(t, path)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
		if _, err := newArchive(path); err == nil {
			t.Error("a backup would be overwritten")
		}
	}
}

// A backup that is killed leaves nothing of its name, and the daemon gives up its copy.
func TestKilledBackup(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tacet.toml")
	text := "hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[auth]\nusers_file = \"users\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := startDaemon(t.Context(), config, deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.stopNow(); err != nil {
			t.Error(err)
		}
	}()
	for range 4 {
		e := &queue.Envelope{ID: queue.NewID(time.Now()), Arrived: time.Now(), Sender: "anna@example.org",
			Recipients: []queue.Recipient{{Path: "bob@example.net", State: queue.Held}}}
		if err := d.store.Put(t.Context(), e, nil, strings.NewReader(strings.Repeat("0123456789abcde\n", 500_000))); err != nil {
			t.Fatal(err)
		}
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for round, name := range []string{"a.tar", "a.tar", "b", "b"} {
		target := filepath.Join(dir, name)
		killBackup(t, file, target, round%2 == 0, look.C)
		if _, err := os.Stat(target); err == nil {
			if _, err := verifyArchive(target); err != nil {
				t.Errorf("half a backup has the name of a whole one: %v", err)
			}
			if err := os.RemoveAll(target); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(scriptPatience); ; <-look.C {
			if _, err := os.Stat(config.stagingDir()); errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the daemon keeps its copy")
			}
		}
	}
	var out, errs bytes.Buffer
	target := filepath.Join(dir, "a.tar")
	if status := run(t.Context(), []string{"backup", "create", target, "--config", file}, nil, &out, &errs); status != exitOK {
		t.Fatalf("it ended with %d: %s", status, errs.String())
	}
	if m, err := verifyArchive(target); err != nil || m.Messages != 4 {
		t.Errorf("%+v, %v", m, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".a.tar*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// killBackup starts a backup and kills it: when it begins to write, or when it
// has written something.
func killBackup(t *testing.T, config, target string, early bool, look <-chan time.Time) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = []string{"tacet", "backup", "create", target, "--config", config}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	partial := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+unfinishedMark)
	for begun := false; !begun; {
		select {
		case err := <-ended:
			t.Logf("the backup was faster: %v", err)
			return
		case <-look:
			info, err := os.Stat(partial)
			begun = err == nil && (early || info.IsDir() || info.Size() > 1<<20)
		}
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-ended
}
