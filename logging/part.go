package logging

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// partKind is what a file of a day is. The order is that of the records in them.
type partKind uint8

const (
	partSealed partKind = iota // relay-D.sealed: a day that is over
	partAside                  // relay-D.part-N: was live, waits to be sealed
	partLive                   // relay-D.jsonl or relay-D.live: is written to
)

// part is one file of a day. A day has at most one sealed part.
type part struct {
	day  day
	kind partKind
	seq  int // of partAside: its number, counted from 1 within the day
	name string
}

const (
	plainSuffix  = ".jsonl"
	liveSuffix   = ".live"
	sealedSuffix = ".sealed"
	asideSuffix  = ".part-"
	tempSuffix   = ".sealed.tmp"
)

// parsePart tells what file of which day the name is of.
func parsePart(name string) (p part, ok bool) {
	const stem = len("relay-2006-01-02")
	if len(name) <= stem {
		return p, false
	}
	d, ok := dayOfFile(name[:stem] + plainSuffix)
	if !ok {
		return p, false
	}
	p = part{day: d, name: name}
	switch rest := name[stem:]; {
	case rest == sealedSuffix:
		p.kind = partSealed
	case rest == plainSuffix, rest == liveSuffix:
		p.kind = partLive
	case strings.HasPrefix(rest, asideSuffix):
		digits := rest[len(asideSuffix):]
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > 1<<30 || strconv.Itoa(n) != digits {
			return p, false
		}
		p.kind, p.seq = partAside, n
	default:
		return p, false
	}
	return p, true
}

func (d day) stem() string         { return d.begin().Format("relay-2006-01-02") }
func (d day) sealed() string       { return d.stem() + sealedSuffix }
func (d day) temp() string         { return d.stem() + tempSuffix }
func (d day) aside(seq int) string { return d.stem() + asideSuffix + strconv.Itoa(seq) }
func (d day) live(sealed bool) string {
	if sealed {
		return d.stem() + liveSuffix
	}
	return d.stem() + plainSuffix
}

func comparePart(a, b part) int {
	return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.kind, b.kind), cmp.Compare(a.seq, b.seq), cmp.Compare(a.name, b.name))
}

// partsIn lists the files of all days, in the order of their records.
func partsIn(dir string) ([]part, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, entry := range entries {
		if p, ok := parsePart(entry.Name()); ok {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, comparePart)
	return parts, nil
}

// daysAmong lists the days there are files of.
func daysAmong(parts []part) []day {
	var days []day
	for _, p := range parts {
		if len(days) == 0 || days[len(days)-1] != p.day {
			days = append(days, p.day)
		}
	}
	return days
}

// openPart is a file of a day, open, with the key of what is in it.
type openPart struct {
	part
	file   *os.File
	header frameHeader // of a file in frames
	box    *box        // opens its frames; nil: plain lines
}

func (p *openPart) close() { p.file.Close() }

// open opens the file, which must be whole enough to have its header.
func (p part) open(dir string, keys *keyring) (*openPart, error) {
	f, err := os.Open(filepath.Join(dir, p.name))
	if err != nil {
		return nil, err
	}
	o := &openPart{part: p, file: f}
	framed := p.kind == partSealed || strings.HasSuffix(p.name, liveSuffix)
	o.header, err = readHeader(f)
	switch {
	case errors.Is(err, errNoFrames) && !framed:
		return o, nil
	case err == nil && o.header.day != p.day:
		err = errDamaged
	case errors.Is(err, errNoFrames) && p.kind == partLive:
		err = fs.ErrNotExist // it is being made
	}
	if err == nil {
		if o.box, err = keys.box(o.header); errors.Is(err, fs.ErrNotExist) {
			err = ErrNoKey
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return o, nil
}

// openDay opens the files of a day such that each record is in exactly one of
// them, whatever is sealed meanwhile. Those that a sealed one already holds
// are left out.
func openDay(dir string, keys *keyring, d day) ([]*openPart, error) {
	const often = 20
	for i := 0; ; i++ {
		open, err := tryDay(dir, keys, d, false)
		if err == nil || i == often || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoKey) {
			return open, err
		}
	}
}

// openReadable is openDay less the files that have no key: the first of them
// is told of beside the others.
func openReadable(dir string, keys *keyring, d day) (open []*openPart, without, err error) {
	open, err = openDay(dir, keys, d)
	if errors.Is(err, ErrNoKey) {
		without = err
		open, err = tryDay(dir, keys, d, true)
	}
	return open, without, err
}

func tryDay(dir string, keys *keyring, d day, readable bool) (open []*openPart, err error) {
	defer func() {
		if err != nil {
			closeAll(open)
			open = nil
		}
	}()
	all, err := partsIn(dir)
	if err != nil {
		return nil, err
	}
	merged := 0
	// The sealed one last: what was merged into it meanwhile is then known.
	for _, p := range slices.Backward(all) {
		if p.day != d {
			continue
		}
		o, err := p.open(dir, keys)
		if readable && errors.Is(err, ErrNoKey) {
			continue
		}
		if err != nil {
			return open, err
		}
		open = append(open, o)
		if p.kind == partSealed {
			merged = o.header.merged
		}
	}
	slices.Reverse(open)
	if len(open) > 0 && open[0].kind != partSealed && !readable {
		// Another one may have been sealed since the list was made.
		if _, err := os.Stat(filepath.Join(dir, d.sealed())); err == nil {
			return open, fs.ErrNotExist
		}
	}
	return slices.DeleteFunc(open, func(o *openPart) bool {
		drop := o.kind == partAside && o.seq <= merged
		if drop {
			o.close()
		}
		return drop
	}), nil
}

func closeAll(open []*openPart) {
	for _, o := range open {
		o.close()
	}
}

// source gives the lines of a file in pieces. A piece is read in order and
// then opened, decrypted that is, by whoever has time.
type source interface {
	// next reads a piece. open gives its whole lines; io.EOF ends them.
	next() (open func() ([]byte, error), offset int64, err error)

	// position is where the following piece begins.
	position() int64
}

func (p *openPart) source() source {
	if p.box == nil {
		return &plainSource{file: p.file}
	}
	return &frameSource{p: p, at: headerSize}
}

const pieceSize = 1 << 20

// plainSource reads lines as they stand in the file. The piece of a line at
// its end, which is still being written, is not given.
type plainSource struct {
	file *os.File
	at   int64
}

func (s *plainSource) next() (func() ([]byte, error), int64, error) {
	size := pieceSize
	for {
		block := make([]byte, size)
		n, err := s.file.ReadAt(block, s.at)
		if err != nil && err != io.EOF {
			return nil, s.at, err
		}
		end := bytes.LastIndexByte(block[:n], '\n') + 1
		switch {
		case end > 0:
		case n < size:
			return nil, s.at, io.EOF
		case size < 4*pieceSize:
			size *= 2
			continue
		default: // no line of ours: it is given as one, for the error
			end = n
		}
		offset := s.at
		s.at += int64(end)
		return func() ([]byte, error) { return block[:end], nil }, offset, nil
	}
}

func (s *plainSource) position() int64 { return s.at }
