package logging

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Problem is what is wrong with a file, in words for people.
type Problem string

// The problems.
const (
	ProblemExpired   Problem = "it is past its retention and still there"
	ProblemField     Problem = "a field or a record in it is past its retention"
	ProblemDamaged   Problem = "it does not verify: changed, cut off, or under another key"
	ProblemNoKey     Problem = "its key is missing: nobody can read it"
	ProblemNoFile    Problem = "a key of no file"
	ProblemPlain     Problem = "a day that is over stands in plain"
	ProblemLine      Problem = "a line in it is not by the contract"
	ProblemDay       Problem = "a record in it is of another day"
	ProblemMode      Problem = "it is open to others than it should be"
	ProblemUnread    Problem = "it cannot be read"
	ProblemChain     Problem = "the chain of records is broken: one was changed, removed or added"
	ProblemTruncated Problem = "records at the beginning or the end are missing"
)

// Fault is a problem that was found, once for each file.
type Fault struct {
	File    string  `json:"file"` // its name alone
	Problem Problem `json:"problem"`
}

// Verification is what [Verify] found.
type Verification struct {
	Days, Records int
	Faults        []Fault
}

// dueGrace is by how much what is due hourly may be late.
const dueGrace = 2 * time.Hour

// Verify reads everything in the log of these options, changes nothing, and
// tells what should not be so. A log that is being written to meanwhile does no harm.
func Verify(ctx context.Context, o Options) (Verification, error) {
	o.Retention = cmp.Or(o.Retention, maxRetention*24*time.Hour)
	fields, err := o.fields()
	if err != nil {
		return Verification{}, err
	}
	v := verifier{
		ctx: ctx, dir: o.Dir, keys: &keyring{dir: o.KeyDir}, fields: fields,
		keep: int(o.Retention / (24 * time.Hour)), today: dayOf(time.Now().Add(-dueGrace)), seen: make(map[Fault]bool),
	}
	v.mode(o.Dir, 0o750)
	parts, err := partsIn(o.Dir)
	if err != nil {
		return Verification{}, err
	}
	for _, d := range daysAmong(parts) {
		v.found.Days++
		v.day(d, parts)
		if err := ctx.Err(); err != nil {
			return Verification{}, err
		}
	}
	if err := v.keyFiles(); err != nil {
		return Verification{}, err
	}
	return v.found, nil
}

type verifier struct {
	ctx    context.Context
	dir    string
	keys   *keyring
	fields []fieldPeriod
	keep   int
	today  day
	found  Verification
	seen   map[Fault]bool
}

func (v *verifier) fault(file string, p Problem) {
	f := Fault{filepath.Base(file), p}
	if !v.seen[f] {
		v.seen[f] = true
		v.found.Faults = append(v.found.Faults, f)
	}
}

// mode wants a file to be open to those alone that the mode says.
func (v *verifier) mode(path string, most fs.FileMode) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&^most != 0 {
		v.fault(path, ProblemMode)
	}
}

// day looks at the files of a day.
func (v *verifier) day(d day, parts []part) {
	open, err := openDay(v.dir, v.keys, d)
	if err != nil {
		v.unopened(d, parts)
		return
	}
	defer closeAll(open)
	for _, p := range open {
		v.mode(filepath.Join(v.dir, p.name), 0o640)
		if due(d, v.today, v.keep) {
			v.fault(p.name, ProblemExpired)
		}
		if v.keys.dir != "" && p.kind == partLive && p.box == nil && d < v.today {
			v.fault(p.name, ProblemPlain)
		}
		v.content(p)
	}
}

// unopened tells which files of a day cannot be opened, and why.
func (v *verifier) unopened(d day, parts []part) {
	for _, p := range parts {
		if p.day != d {
			continue
		}
		o, err := p.open(v.dir, v.keys)
		switch {
		case err == nil:
			o.close()
		case errors.Is(err, errDamaged), errors.Is(err, errNoFrames):
			v.fault(p.name, ProblemDamaged)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNoKey):
			if _, err := os.Stat(filepath.Join(v.dir, p.name)); err == nil {
				v.fault(p.name, ProblemNoKey)
			}
		default:
			v.fault(p.name, ProblemUnread)
		}
	}
}

// content reads a file to its end.
func (v *verifier) content(p *openPart) {
	var gone removal
	for _, f := range v.fields {
		if due(p.day, v.today, f.keep) {
			gone |= f.what
		}
	}
	for lines, err := range p.pieces() {
		if err != nil {
			v.fault(p.name, ProblemDamaged)
			return
		}
		if v.ctx.Err() != nil {
			return
		}
		for raw := range splitLines(lines) {
			line, err := ParseLine(raw)
			if err != nil {
				v.fault(p.name, ProblemLine)
				continue
			}
			v.found.Records++
			if dayOf(line.Time) != p.day {
				v.fault(p.name, ProblemDay)
			}
			if gone.in(&line.Record) {
				v.fault(p.name, ProblemField)
			}
		}
	}
}

// in tells whether the record has one of the fields, or should be gone.
func (m removal) in(r *Record) bool {
	return m.drops(r) || m&removeSubject != 0 && (r.Subject != "" || len(r.Headers) > 0) ||
		m&removeClient != 0 && r.Client.IsValid() ||
		m&removeUser != 0 && r.User != ""
}

// keyFiles looks at the folder of keys.
func (v *verifier) keyFiles() error {
	keys, err := v.keys.list()
	if err != nil || len(keys) == 0 {
		return err
	}
	v.mode(v.keys.dir, 0o700)
	for _, key := range keys {
		v.mode(v.keys.path(key), 0o600)
	}
	// A key may be of a file that is being made or was replaced just now.
	unused := func() ([]keyFile, error) {
		used, err := v.used()
		return slices.DeleteFunc(slices.Clone(keys), func(k keyFile) bool { return slices.Contains(used, k) }), err
	}
	idle, err := unused()
	if err != nil || len(idle) == 0 {
		return err
	}
	if keys, err = v.keys.list(); err != nil {
		return err
	}
	if idle, err = unused(); err != nil {
		return err
	}
	for _, key := range idle {
		v.fault(key.name(), ProblemNoFile)
	}
	return nil
}

// used gives the keys that a file names.
func (v *verifier) used() (used []keyFile, err error) {
	entries, err := os.ReadDir(v.dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "relay-") {
			continue
		}
		if h, err := (&keeper{dir: v.dir}).header(entry.Name()); err == nil {
			used = append(used, keyFile{h.day, h.key})
		}
	}
	return used, err
}
