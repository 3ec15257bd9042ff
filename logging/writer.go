package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// day is a day in UTC, counted from 1970-01-01.
type day int32

func dayOf(t time.Time) day {
	seconds := t.Unix()
	d := seconds / 86400
	if seconds%86400 < 0 {
		d--
	}
	return day(d)
}

func (d day) begin() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// dayOfFile reads the day from the name of a relay log's file.
func dayOfFile(name string) (day, bool) {
	t, err := time.Parse("relay-2006-01-02.jsonl", name)
	if err != nil {
		return 0, false
	}
	return dayOf(t), true
}

// writer appends batches to the files of their days. One goroutine owns it.
type writer struct {
	dir     string
	ops     *Operations
	root    *os.Root
	file    *os.File // nil after a failure
	day     day      // of file
	keys    *keyring
	sealed  bool  // the running day's file is in frames
	box     *box  // of file, if it is
	at      int64 // where its frames end
	frames  []byte
	checked time.Time // when file was last seen to be the one of its name
	begun   bool      // a file was opened since the start
}

// open has the file of the day open for appending, its end in order.
func (w *writer) open(d day) error {
	if w.root == nil {
		if err := os.MkdirAll(w.dir, 0o750); err != nil {
			return err
		}
		root, err := os.OpenRoot(w.dir)
		if err != nil {
			return err
		}
		w.root = root
	}
	f, err := w.openFile(d)
	if errors.Is(err, errReplaced) {
		f.Close()
		f, err = w.openFile(d)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		w.drop()
		return err
	}
	w.file, w.day, w.checked, w.begun = f, d, time.Now(), true
	return nil
}

// openFile opens the file of the day, made if need be.
func (w *writer) openFile(d day) (*os.File, error) {
	name := d.live(w.sealed)
	f, err := w.root.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		f, err = w.root.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o640)
		if err != nil {
			return nil, err
		}
		if err := f.Chmod(0o640); err != nil { // whatever the umask
			return f, err
		}
		if w.sealed {
			return f, w.beginFrames(f, d)
		}
	}
	switch {
	case err != nil:
		return f, err
	case w.sealed:
		return f, w.resumeFrames(f, d)
	}
	return f, repair(f, !w.begun)
}

// drop closes file and directory, so that the next write opens them anew.
func (w *writer) drop() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	if w.root != nil {
		w.root.Close()
		w.root = nil
	}
}

// ready has the file of the day open, and again if somebody moved it away.
func (w *writer) ready(d day) error {
	if w.file != nil && w.day == d {
		if time.Since(w.checked) < time.Second {
			return nil
		}
		w.checked = time.Now()
		open, err := w.file.Stat()
		if err != nil {
			return err
		}
		named, err := os.Stat(w.file.Name())
		if err == nil && os.SameFile(open, named) {
			return nil
		}
		w.drop()
	}
	if w.file != nil {
		err := w.file.Sync()
		w.file.Close()
		w.file = nil
		if err != nil {
			return err
		}
	}
	return w.open(d)
}

// write appends the batch. What could not be written comes back with the
// error, and begins with a whole line.
func (w *writer) write(b batch) (batch, error) {
	begin := 0
	for i, part := range b.days {
		n, err := w.append(part.day, b.data[begin:part.end])
		if err != nil {
			begin += n
			rest := batch{data: b.data[begin:]}
			for _, d := range b.days[i:] {
				rest.days = append(rest.days, dayEnd{d.day, d.end - begin})
			}
			return rest, err
		}
		begin = part.end
	}
	return batch{}, nil
}

// append writes lines to the day's file and returns how many octets of whole
// lines are in it. The piece of a line that a failure leaves behind is cut off
// when the file is opened again.
func (w *writer) append(d day, lines []byte) (int, error) {
	if err := w.ready(d); err != nil {
		w.drop()
		return 0, err
	}
	if w.sealed {
		return w.appendFrames(lines)
	}
	n, err := w.file.Write(lines)
	if err == nil {
		return n, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	w.drop()
	return whole, err
}

// follow has the running day's file open, so that there is one for each day
// the relay was up: readers can follow it, and the clock can be judged by it.
func (w *writer) follow(now time.Time) {
	if d := dayOf(now); w.file == nil || w.day != d {
		if err := w.ready(d); err != nil {
			w.drop() // the next write meets it again, and reports it
		}
	}
}

// close ends the writer; lost is how many lines were not written.
func (w *writer) close(lost int) error {
	var err error
	if w.file != nil {
		err = w.file.Sync()
	}
	w.drop()
	if lost > 0 {
		return errors.Join(fmt.Errorf("relay log: %d records could not be written", lost), err)
	}
	return err
}

// repairWindow is how much of a file's end is looked at.
const repairWindow = 1 << 20

// newline ends a record.
var newline = []byte{'\n'}

// repair makes the file whole lines of JSON again where a crash or a full disk
// left a piece of a line at its end. With complete, a record that lacks its
// newline alone gets it; without, it is cut off like any other piece, because
// the batch it belongs to is about to be written again from its beginning.
func repair(f *os.File, complete bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	from := max(0, size-repairWindow)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return err
	}
	keep := wholeLines(tail, from == 0)
	piece := tail[keep:]
	switch {
	case len(piece) == 0:
		return nil
	case complete && json.Valid(piece), keep == 0 && from > 0: // the latter: rubbish without end; keep it, as a line of its own
		_, err = f.Write(newline)
		return err
	}
	return f.Truncate(from + int64(keep))
}

// wholeLines gives the length of tail up to the end of its last line of JSON.
// Where tail is not all of the file, its first line may lack its beginning.
func wholeLines(tail []byte, all bool) int {
	for end := bytes.LastIndexByte(tail, '\n') + 1; end > 0; {
		begin := bytes.LastIndexByte(tail[:end-1], '\n') + 1
		if begin == 0 && !all || json.Valid(tail[begin:end]) {
			return end
		}
		end = begin
	}
	return 0
}
