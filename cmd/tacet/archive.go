package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An archive is a backup as it is stored: a folder, or a tar file if its name
// ends in ".tar". Its last file is the manifest, which has the digest of each
// other. It is not compressed, for what is sealed does not compress.

const (
	manifestName   = "manifest.json"
	archiveFormat  = 1
	maxManifest    = 256 << 20
	unfinishedMark = ".unfinished"
)

// manifest is what an archive says of itself: one line of JSON, and a second
// with the SHA-256 of the first.
type manifest struct {
	Format   int            `json:"format"`
	Tacet    string         `json:"tacet"`
	Created  time.Time      `json:"created"`
	Messages int            `json:"messages"`
	Keys     int            `json:"keys"` // of messages, in keys.age; 0: none
	Files    []archivedFile `json:"files"`
}

type archivedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (m manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return fmt.Appendf(append(b, '\n'), "%x\n", sum), nil
}

var errArchive = errors.New("the backup is damaged")

func parseManifest(b []byte) (m manifest, err error) {
	first, second, _ := strings.Cut(string(b), "\n")
	if sum := sha256.Sum256([]byte(first)); second != hex.EncodeToString(sum[:])+"\n" {
		return m, fmt.Errorf("%w: its manifest does not match its checksum", errArchive)
	}
	if err := json.Unmarshal([]byte(first), &m); err != nil {
		return m, fmt.Errorf("%w: its manifest: %w", errArchive, err)
	}
	if m.Format != archiveFormat {
		return m, fmt.Errorf("the backup has format %d, which this release does not know", m.Format)
	}
	return m, nil
}

// archiveWriter writes an archive beside its final name, which it gets when it is whole.
type archiveWriter struct {
	final, partial string
	lock           *os.File    // the partial file or folder
	root           *os.Root    // of a folder
	tar            *tar.Writer // or of a file
	manifest       manifest
}

// newArchive begins an archive. What a killed process has left of the same name is removed.
func newArchive(final string) (w *archiveWriter, err error) {
	if _, err := os.Lstat(final); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists already: nothing is overwritten", final)
		}
		return nil, err
	}
	w = &archiveWriter{final: final, partial: filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+unfinishedMark)}
	if err := removeUnfinished(w.partial); err != nil {
		return nil, err
	}
	if strings.HasSuffix(final, ".tar") {
		w.lock, err = os.OpenFile(w.partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			w.tar = tar.NewWriter(w.lock)
		}
	} else if err = os.Mkdir(w.partial, 0o700); err == nil {
		if w.root, err = os.OpenRoot(w.partial); err == nil {
			w.lock, err = os.Open(w.partial)
		}
	}
	if err == nil {
		err = unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning the backup: %w", err), w.abandon())
	}
	return w, nil
}

// removeUnfinished removes what no process is writing any more.
func removeUnfinished(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing an unfinished backup: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another backup of this name is being made (%s): %w", path, err)
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing an unfinished backup: %w", err)
	}
	return nil
}

// add writes one file. Its size must be known: a tar file says it in front.
func (w *archiveWriter) add(name string, size int64, r io.Reader) error {
	sum := sha256.New()
	out, err := w.create(name, size)
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(r, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if f, ok := out.(*os.File); ok {
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	w.manifest.Files = append(w.manifest.Files, archivedFile{name, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func (w *archiveWriter) create(name string, size int64) (io.Writer, error) {
	if w.tar != nil {
		return w.tar, w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.manifest.Created.Truncate(time.Second)})
	}
	if err := w.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// finish writes the manifest and gives the archive its name, once all is on the disk.
func (w *archiveWriter) finish() error {
	b, err := w.manifest.encode()
	if err == nil {
		err = w.add(manifestName, int64(len(b)), strings.NewReader(string(b)))
	}
	if err == nil && w.tar != nil {
		err = w.tar.Close()
	}
	if err == nil && w.root != nil {
		err = fs.WalkDir(w.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				err = syncFolder(filepath.Join(w.partial, name))
			}
			return err
		})
	}
	if err == nil {
		err = w.lock.Sync()
	}
	if err == nil {
		// What has come to the final name meanwhile is not replaced.
		err = unix.Renameat2(unix.AT_FDCWD, w.partial, unix.AT_FDCWD, w.final, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("finishing the backup: %w", err), w.abandon())
	}
	return errors.Join(syncFolder(filepath.Dir(w.final)), w.close())
}

func (w *archiveWriter) close() error {
	var errs []error
	if w.root != nil {
		errs = append(errs, w.root.Close())
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Close())
	}
	return errors.Join(errs...)
}

// abandon removes what was written.
func (w *archiveWriter) abandon() error { return errors.Join(os.RemoveAll(w.partial), w.close()) }

// readArchive goes over the files of an archive.
func readArchive(path string, visit func(name string, size int64, r io.Reader) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	if info.IsDir() {
		return readFolder(path, visit)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer f.Close()
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errArchive, err)
		}
		if h.Typeflag != tar.TypeReg || !archivedName(h.Name) {
			return fmt.Errorf("%w: it holds something that no backup holds", errArchive)
		}
		if err := visit(h.Name, h.Size, in); err != nil {
			return err
		}
	}
}

func readFolder(path string, visit func(name string, size int64, r io.Reader) error) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading the backup: %w", err)
		}
		if entry.IsDir() {
			return nil
		}
		if !entry.Type().IsRegular() || !archivedName(name) {
			return fmt.Errorf("%w: it holds something that no backup holds", errArchive)
		}
		f, err := root.Open(name)
		if err != nil {
			return fmt.Errorf("reading the backup: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("reading the backup: %w", err)
		}
		return visit(name, info.Size(), f)
	})
}

// archivedName tells whether a backup may hold a file of the name.
func archivedName(name string) bool {
	if name == manifestName || name == keysName {
		return true
	}
	top, rest, ok := strings.Cut(name, "/")
	return ok && rest != "" && (top == "queue" || top == "config") && filepath.IsLocal(name) && filepath.Clean(name) == name
}

// verifyArchive reads all of an archive and compares it with its manifest.
func verifyArchive(path string) (m manifest, err error) {
	found := make(map[string]archivedFile)
	var text []byte
	err = readArchive(path, func(name string, size int64, r io.Reader) error {
		if name == manifestName {
			if text != nil {
				return fmt.Errorf("%w: it has two manifests", errArchive)
			}
			if text, err = io.ReadAll(io.LimitReader(r, maxManifest)); err != nil {
				return fmt.Errorf("%w: its manifest: %w", errArchive, err)
			}
			return nil
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			return fmt.Errorf("%w: %w", errArchive, err)
		}
		if _, twice := found[name]; twice {
			return fmt.Errorf("%w: %s is in it twice", errArchive, name)
		}
		found[name] = archivedFile{name, size, hex.EncodeToString(sum.Sum(nil))}
		return nil
	})
	if err != nil {
		return m, err
	}
	if text == nil {
		return m, fmt.Errorf("%w: it has no manifest, so it was not finished", errArchive)
	}
	if m, err = parseManifest(text); err != nil {
		return m, err
	}
	for _, want := range m.Files {
		got, ok := found[want.Name]
		switch {
		case !ok:
			return m, fmt.Errorf("%w: %s is missing", errArchive, want.Name)
		case got != want:
			return m, fmt.Errorf("%w: %s does not match its checksum", errArchive, want.Name)
		}
		delete(found, want.Name)
	}
	for name := range found {
		return m, fmt.Errorf("%w: %s is not in its manifest", errArchive, name)
	}
	return m, nil
}
