package logging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	KeyDir string // the folder of its keys; empty: what is encrypted gives an error
	Filter Filter
	Last   int  // begin with the last so many records that pass; 0: with none if Follow, else with all; negative: with all
	Follow bool // go on with what comes, over midnight too, until the context ends
}

const (
	pollEvery    = 100 * time.Millisecond
	midnightRest = time.Second // how long a finished day is still read after the next one has begun
	readBlock    = 64 << 10
)

// Read gives the records that pass the filter, oldest first. A line that is
// not by the contract gives an error that is [ErrLine], a file without its key one that is
// [ErrNoKey], and reading goes on: see [GoesOn]. Any other error ends it. The
// end of ctx ends it without an error.
func Read(ctx context.Context, o ReadOptions) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{ctx: ctx, ReadOptions: o, yield: yield, keys: &keyring{dir: o.KeyDir}, sieve: o.Filter.sieve()}
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
	keys  *keyring
	sieve *sieve

	live   *openPart // that is followed
	offset int64     // of the first octet of it not yet given as part of a line
}

func (r *reader) close() {
	if r.live != nil {
		r.live.close()
		r.live = nil
	}
}

func (r *reader) read() error {
	parts, err := partsIn(r.Dir)
	if err != nil {
		return err
	}
	days := r.wanted(daysAmong(parts))
	if r.Last < 0 {
		err = r.all(days)
	} else {
		err = r.last(days)
	}
	if err != nil || !r.Follow {
		return err
	}
	return r.follow()
}

// wanted leaves out days that lie outside of the filter's time. A record
// stands in the file of its own day only.
func (r *reader) wanted(days []day) []day {
	return slices.DeleteFunc(days, func(d day) bool {
		return !r.Filter.Until.IsZero() && !d.begin().Before(r.Filter.Until) ||
			!r.Filter.Since.IsZero() && d < dayOf(r.Filter.Since)
	})
}

// all gives every record, and keeps the newest live file open if it is to be followed.
func (r *reader) all(days []day) error {
	for i, d := range days {
		open, err := r.open(d)
		if err != nil {
			return err
		}
		for len(open) > 0 {
			p := open[0]
			open = open[1:]
			if r.Follow && i == len(days)-1 && len(open) == 0 && p.kind == partLive {
				r.watch(p)
				return r.forward()
			}
			err := r.scan(p)
			p.close()
			if err != nil {
				closeAll(open)
				return err
			}
		}
	}
	return nil
}

// open opens what can be read of a day, and tells of what cannot.
func (r *reader) open(d day) ([]*openPart, error) {
	open, without, err := openReadable(r.Dir, r.keys, d)
	if without != nil && !r.yield(Line{}, fmt.Errorf("relay log: %w", without)) {
		closeAll(open)
		return nil, errStopped
	}
	return open, err
}

// watch has the live part followed from its beginning.
func (r *reader) watch(p *openPart) {
	r.close()
	r.live, r.offset = p, 0
	if p.box != nil {
		r.offset = headerSize
	}
}

// forward gives all whole lines of the live part from the offset on.
func (r *reader) forward() error {
	source := source(&plainSource{file: r.live.file, at: r.offset})
	if r.live.box != nil {
		source = &frameSource{p: r.live, at: r.offset}
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		open, offset, err := source.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		piece, err := open()
		if err != nil {
			return err
		}
		for _, f := range r.sift(r.live, piece, offset) {
			if !r.yield(f.line, f.err) {
				return errStopped
			}
		}
		r.offset = source.position()
	}
}

// found is a line that passed, or an error in its place.
type found struct {
	line Line
	err  error
}

// sift gives what passes of the lines of a piece, which stood at the offset.
func (r *reader) sift(p *openPart, piece []byte, offset int64) (list []found) {
	r.sieve.lines(piece, func(raw []byte, at int) bool {
		if line, ok, err := r.parse(p, raw, offset+int64(at)); ok {
			list = append(list, found{line, err})
		}
		return true
	})
	return list
}

// parse tells with ok whether the line, or the error, is to be given.
func (r *reader) parse(p *openPart, raw []byte, offset int64) (line Line, ok bool, err error) {
	record, canonical := parseCanonical(raw)
	if canonical && !r.Filter.Match(&record) {
		return line, false, nil
	}
	own := bytes.Clone(raw)
	if canonical {
		return Line{record, own}, true, nil
	}
	line, err = parseStrictly(own)
	if err != nil {
		return line, true, lineError(p.name, offset)
	}
	return line, r.Filter.Match(&line.Record), nil
}

// last gives the last lines that pass, and leaves the newest live file open
// where its whole lines end.
func (r *reader) last(days []day) error {
	var all []found
	for i, d := range slices.Backward(days) {
		newest := i == len(days)-1
		if !newest && len(all) >= r.Last {
			break
		}
		open, err := r.open(d)
		if err != nil {
			return err
		}
		for at, p := range slices.Backward(open) {
			end, err := r.backward(p, &all)
			if err == nil && r.Follow && newest && at == len(open)-1 && p.kind == partLive {
				r.watch(p)
				r.offset = max(r.offset, end)
			} else {
				p.close()
			}
			if err != nil {
				closeAll(open[:at])
				return err
			}
		}
	}
	for _, f := range slices.Backward(all) {
		if !r.yield(f.line, f.err) {
			return errStopped
		}
	}
	return nil
}

// backward adds lines of the part from its end on until there are enough, and
// returns where its whole lines end.
func (r *reader) backward(p *openPart, all *[]found) (whole int64, err error) {
	if p.box == nil {
		return backward(r.ctx, p.file, func(raw []byte, offset int64) bool {
			if len(*all) >= r.Last {
				return false
			}
			*all = append(*all, r.sift(p, raw, offset)...)
			return true
		})
	}
	if whole, err = framesEnd(p.file); err != nil {
		return 0, err
	}
	size := whole
	if p.header.sealed {
		info, err := p.file.Stat()
		if err != nil {
			return 0, err
		}
		if whole != info.Size() || whole == headerSize {
			return 0, fmt.Errorf("%s: %w", p.name, errDamaged)
		}
	}
	for end := whole; end > headerSize && len(*all) < r.Last; {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		at, err := frameBefore(p.file, end)
		if err != nil {
			return 0, err
		}
		frame, _, err := readFrame(p.file, at, size)
		if err != nil {
			return 0, err
		}
		piece, err := p.box.open(frame, at, p.header.sealed && end == size)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		list := r.sift(p, piece, at)
		for _, f := range slices.Backward(list) {
			if len(*all) < r.Last {
				*all = append(*all, f)
			}
		}
		end = at
	}
	return whole, nil
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
// is over, and with a new file of the same day if the old was moved or set aside.
func (r *reader) follow() error {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var newer time.Time // when a newer day was first seen
	for {
		if r.live != nil {
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
		case r.live == nil || next.day == r.live.day || !newer.IsZero() && time.Since(newer) >= midnightRest:
			p, err := next.open(r.Dir, r.keys)
			if err == nil {
				r.watch(p)
				newer = time.Time{}
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoKey) {
				return err
			}
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

// next tells which live file to go on with: the next day's, or another one of
// the same day.
func (r *reader) next() (next part, ok bool, err error) {
	parts, err := partsIn(r.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // the log makes it again
			err = nil
		}
		return next, false, err
	}
	live := slices.DeleteFunc(parts, func(p part) bool { return p.kind != partLive })
	if r.live == nil {
		if len(live) == 0 {
			return next, false, nil
		}
		return live[len(live)-1], true, nil
	}
	open, err := r.live.file.Stat()
	if err != nil {
		return next, false, err
	}
	for _, p := range live {
		if p.day < r.live.day {
			continue
		}
		if p.day > r.live.day {
			return p, true, nil
		}
		if named, err := os.Stat(filepath.Join(r.Dir, p.name)); err == nil && !os.SameFile(open, named) {
			return p, true, nil
		}
	}
	return next, false, nil
}
