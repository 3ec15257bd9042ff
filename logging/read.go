package logging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ReadOptions say what is read back.
type ReadOptions struct {
	Dir    string // the log's directory
	Filter Filter
	Last   int  // begin with the last so many records that pass; 0: with none if Follow, else with all; negative: with all
	Follow bool // go on with what comes, over midnight too, until the context ends
}

const (
	pollEvery    = 100 * time.Millisecond
	midnightRest = time.Second // how long a finished day is still read after the next one has begun
	readBlock    = 64 << 10
	maxLine      = 1 << 20
)

// Read gives the records that pass the filter, oldest first. A line that is
// not by the contract gives an error that is [ErrLine], and reading goes on;
// any other error ends it. The end of ctx ends it without an error.
func Read(ctx context.Context, o ReadOptions) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{ctx: ctx, ReadOptions: o, yield: yield}
		if r.Last == 0 && !r.Follow {
			r.Last = -1
		}
		defer r.close()
		if err := r.read(); err != nil && ctx.Err() == nil && !errors.Is(err, errStopped) {
			yield(Line{}, err)
		}
	}
}

// errStopped is of a consumer that has enough.
var errStopped = errors.New("stopped")

// reader goes through the files of a log.
type reader struct {
	ReadOptions
	ctx   context.Context
	yield func(Line, error) bool

	file   *os.File
	day    day
	offset int64 // of the first octet not yet given as part of a line
	buffer []byte
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *reader) read() error {
	days, err := daysIn(r.Dir)
	if err != nil {
		return err
	}
	if !r.Filter.Until.IsZero() {
		days = slices.DeleteFunc(days, func(d day) bool { return !d.begin().Before(r.Filter.Until) })
	}
	if !r.Filter.Since.IsZero() {
		// A record written around midnight may stand in the file of its own day only.
		days = slices.DeleteFunc(days, func(d day) bool { return d < dayOf(r.Filter.Since) })
	}
	if r.Last < 0 {
		for i, d := range days {
			if err := r.open(d); err != nil {
				return err
			}
			if err := r.forward(); err != nil {
				return err
			}
			if i == len(days)-1 && r.Follow {
				return r.follow()
			}
		}
	} else if err := r.last(days); err != nil {
		return err
	}
	if r.Follow {
		return r.follow()
	}
	return nil
}

// daysIn lists the days there are files of.
func daysIn(dir string) ([]day, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var days []day
	for _, entry := range entries {
		if d, ok := dayOfFile(entry.Name()); ok {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	return days, nil
}

func (r *reader) open(d day) error {
	r.close()
	f, err := os.Open(filepath.Join(r.Dir, d.file()))
	if err != nil {
		return err
	}
	r.file, r.day, r.offset = f, d, 0
	return nil
}

// forward gives all whole lines from the offset to the end of the file.
func (r *reader) forward() error {
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.buffer == nil {
			r.buffer = make([]byte, readBlock)
		}
		n, err := r.file.ReadAt(r.buffer, r.offset)
		if err != nil && err != io.EOF {
			return err
		}
		block := r.buffer[:n]
		for {
			end := bytes.IndexByte(block, '\n')
			if end < 0 {
				break
			}
			if err := r.give(block[:end], r.offset); err != nil {
				return err
			}
			r.offset += int64(end + 1)
			block = block[end+1:]
		}
		switch {
		case n < len(r.buffer):
			return nil
		case len(block) < n: // went ahead
		case len(r.buffer) < maxLine:
			r.buffer = make([]byte, 2*len(r.buffer))
		default: // no line of ours: skip the piece
			if !r.yield(Line{}, lineError(r.day.file(), r.offset)) {
				return errStopped
			}
			r.offset += int64(n)
		}
	}
}

// give hands on one line if it passes.
func (r *reader) give(raw []byte, offset int64) error {
	line, ok, err := r.parse(raw, offset)
	if ok && !r.yield(line, err) {
		return errStopped
	}
	return nil
}

// parse tells with ok whether the line, or the error, is to be given.
func (r *reader) parse(raw []byte, offset int64) (line Line, ok bool, err error) {
	if len(bytes.TrimSpace(raw)) == 0 || !r.Filter.mayMatch(raw) {
		return line, false, nil
	}
	line, err = ParseLine(bytes.Clone(raw))
	if err != nil {
		return line, true, lineError(r.day.file(), offset)
	}
	return line, r.Filter.Match(&line.Record), nil
}

// last gives the last lines that pass, and leaves the newest file open where
// its whole lines end.
func (r *reader) last(days []day) error {
	type found struct {
		line Line
		err  error
	}
	var all []found
	var end int64
	for i, d := range slices.Backward(days) {
		if i < len(days)-1 && len(all) >= r.Last {
			break
		}
		if err := r.open(d); err != nil {
			return err
		}
		whole, err := backward(r.ctx, r.file, func(raw []byte, offset int64) bool {
			if len(all) >= r.Last {
				return false
			}
			if line, ok, err := r.parse(raw, offset); ok {
				all = append(all, found{line, err})
			}
			return true
		})
		if err != nil {
			return err
		}
		if i == len(days)-1 {
			end = whole
		}
	}
	for _, f := range slices.Backward(all) {
		if !r.yield(f.line, f.err) {
			return errStopped
		}
	}
	if !r.Follow || len(days) == 0 {
		return nil
	}
	if err := r.open(days[len(days)-1]); err != nil {
		return err
	}
	r.offset = end
	return nil
}

// backward gives the whole lines of a file from its end to its beginning until
// visit has enough, and returns where the last of them ends.
func backward(ctx context.Context, f *os.File, visit func(raw []byte, offset int64) bool) (whole int64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	var held []byte // what is known of the line whose beginning is not
	for at, first := size, true; at > 0; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n := min(at, readBlock)
		at -= n
		block := make([]byte, n, n+int64(len(held)))
		if _, err := f.ReadAt(block, at); err != nil && err != io.EOF {
			return 0, err
		}
		block = append(block, held...)
		if first { // the piece of a line that is still being written
			end := bytes.LastIndexByte(block, '\n') + 1
			if end == 0 {
				held = block
				continue
			}
			whole, first = at+int64(end), false
			block = block[:end-1]
		}
		for {
			begin := bytes.LastIndexByte(block, '\n') + 1
			if begin == 0 {
				break
			}
			if !visit(block[begin:], at+int64(begin)) {
				return whole, nil
			}
			block = block[:begin-1]
		}
		held = block
		if at == 0 {
			visit(held, 0)
		}
	}
	return whole, nil
}

// follow gives what is appended, goes on with the next day's file once a day
// is over, and with a new file of the same name if somebody moved the old.
func (r *reader) follow() error {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var newer time.Time // when a newer day was first seen
	for {
		if r.file != nil {
			if err := r.forward(); err != nil {
				return err
			}
		}
		next, ok, err := r.next()
		switch {
		case err != nil:
			return err
		case !ok:
			newer = time.Time{}
		case r.file == nil || next == r.day || !newer.IsZero() && time.Since(newer) >= midnightRest:
			if err := r.open(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			newer = time.Time{}
			continue
		case newer.IsZero():
			newer = time.Now()
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-poll.C:
		}
	}
}

// next tells which file to go on with: the next day's, or the same day's if
// the name is another file's by now.
func (r *reader) next() (day, bool, error) {
	days, err := daysIn(r.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // the log makes it again
			return 0, false, nil
		}
		return 0, false, err
	}
	if r.file == nil {
		if len(days) == 0 {
			return 0, false, nil
		}
		return days[len(days)-1], true, nil
	}
	open, err := r.file.Stat()
	if err != nil {
		return 0, false, err
	}
	if named, err := os.Stat(r.file.Name()); err == nil && !os.SameFile(open, named) {
		return r.day, true, nil
	}
	for _, d := range days {
		if d > r.day {
			return d, true, nil
		}
	}
	return 0, false, nil
}
