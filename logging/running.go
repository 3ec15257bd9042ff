package logging

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// maxBatch is how many octets of lines go into one frame of the running day.
const maxBatch = 256 << 10

// beginFrames writes the header of a new file of the running day, its key
// durable before.
func (w *writer) beginFrames(f *os.File, d day) error {
	header := frameHeader{day: d}
	b, err := w.keys.create(&header)
	if err == nil {
		_, err = f.Write(b.header)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil { // or it would be taken for one of ours
		return errors.Join(err, w.root.Remove(d.live(true)))
	}
	w.box, w.at = b, headerSize
	return nil
}

// resumeFrames goes on behind the last whole frame. A file that has no header
// is what a crash left at its very beginning; there was no record in it yet.
func (w *writer) resumeFrames(f *os.File, d day) error {
	header, err := readHeader(f)
	if errors.Is(err, errNoFrames) {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		if err := f.Truncate(0); err != nil {
			return err
		}
		return w.beginFrames(f, d)
	}
	if err != nil {
		return err
	}
	b, err := w.keys.box(header)
	if errors.Is(err, fs.ErrNotExist) {
		// Nobody will ever read it. It is set aside, for verify to tell of, and a new one made.
		if _, err := w.setAside(func(p part) bool { return p.day == d }); err != nil {
			return err
		}
		return errReplaced
	}
	if err != nil {
		return err
	}
	end, err := framesEnd(f)
	if err != nil {
		return err
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	w.box, w.at = b, end
	return nil
}

// errReplaced is of a file that has been set aside: open it again.
var errReplaced = errors.New("set aside")

// appendFrames writes lines as frames and returns how many octets of lines are
// in the file for good.
func (w *writer) appendFrames(lines []byte) (written int, err error) {
	for len(lines) > 0 {
		size := len(lines)
		if size > maxBatch {
			if size = bytes.LastIndexByte(lines[:maxBatch], '\n') + 1; size == 0 {
				size = bytes.IndexByte(lines, '\n') + 1
			}
		}
		plain := append(append(make([]byte, 0, size+1), packedNot), lines[:size]...)
		w.frames = w.box.appendFrame(w.frames[:0], plain, w.at, false)
		n, err := w.file.Write(w.frames)
		if err != nil {
			w.drop()
			return written, err
		}
		w.at += int64(n)
		written += size
		lines = lines[size:]
	}
	return written, nil
}

// setAside renames live files, so that nothing is written to them any more,
// and tells how many.
func (w *writer) setAside(which func(part) bool) (n int, err error) {
	parts, err := partsIn(w.dir)
	if err != nil {
		return 0, err
	}
	w.keys.mu.Lock()
	defer w.keys.mu.Unlock()
	for _, p := range parts {
		if p.kind != partLive || !which(p) {
			continue
		}
		if w.file != nil && w.day == p.day && filepath.Base(w.file.Name()) == p.name {
			err := w.file.Sync()
			w.file.Close()
			w.file = nil
			if err != nil {
				return n, err
			}
		}
		seq, err := nextAside(w.dir, parts, p.day)
		if err != nil {
			return n, err
		}
		if err := os.Rename(filepath.Join(w.dir, p.name), filepath.Join(w.dir, p.day.aside(seq))); err != nil {
			return n, err
		}
		parts = append(parts, part{p.day, partAside, seq, p.day.aside(seq)})
		n++
	}
	if n > 0 {
		err = syncDir(w.dir)
	}
	return n, err
}

// nextAside gives a number that no part of the day has had.
func nextAside(dir string, parts []part, d day) (int, error) {
	last := 0
	for _, p := range parts {
		if p.day != d {
			continue
		}
		last = max(last, p.seq)
		if p.kind == partSealed {
			f, err := os.Open(filepath.Join(dir, p.name))
			if err != nil {
				return 0, err
			}
			h, err := readHeader(f)
			f.Close()
			if err != nil {
				return 0, err
			}
			last = max(last, h.merged)
		}
	}
	return last + 1, nil
}
