package logging

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The chain of audit records shows a record that was changed or removed, and not
// one that was cut off from its end or, with a month's file, from its beginning.
// So both ends are noted in the folder of keys: who can write the log's folder
// alone cannot hide that records are gone, not by putting an older state of
// everything back either. Who can write the folder of keys can.
const headFile = "audit.head"

// head is both ends of the chain.
type head struct {
	First string `json:"first"` // digest before the oldest record there must be
	Last  string `json:"last"`  // digest of the newest
}

// WithKey has the ends of the chain noted too, in the folder of keys. It
// returns a itself.
func (a *Audit) WithKey(keyDir string) *Audit {
	a.keys = keyDir
	return a
}

// replaceFile writes a file beside the old one and then puts it in its place.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// head reads the ends: fs.ErrNotExist if there are none yet, errHead if they
// are not what was written.
func (a *Audit) head() (h head, err error) {
	text, err := os.ReadFile(filepath.Join(a.keys, headFile))
	if err != nil {
		return h, err
	}
	if json.Unmarshal(text, &h) != nil {
		return h, errHead
	}
	return h, nil
}

var errHead = errors.New("audit: the ends of the chain are not what was written")

func (a *Audit) writeHead(h head) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(a.keys, headFile), append(text, '\n'))
}

// raise notes the record that was written to f just now. Ends that do not fit
// are left so, for verifying to tell of. Without any, as after a restore from
// a backup, they are taken as they are.
func (a *Audit) raise(f *os.File, act *Action, last string) error {
	if a.keys == "" {
		return nil
	}
	h, err := a.head()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.beginHead(last)
	case errors.Is(err, errHead):
		return nil
	case err != nil:
		return err
	}
	if h.Last != act.Prev {
		// A crash may have come between a record and the note of it.
		before, err := lineBeforeLast(f)
		if err != nil || before.Prev != h.Last {
			return err
		}
	}
	h.Last = last
	return a.writeHead(h)
}

// beginHead notes both ends for the first time.
func (a *Audit) beginHead(last string) error {
	if err := (&keyring{dir: a.keys}).prepare(); err != nil {
		return err
	}
	first, err := a.first()
	if err == nil {
		err = a.writeHead(head{First: first, Last: last})
	}
	if err != nil {
		return err
	}
	return syncDir(a.keys)
}

// first gives what the oldest record says is before it.
func (a *Audit) first() (string, error) {
	for act, err := range ReadAudit(a.dir) {
		if errors.Is(err, ErrLine) {
			err = nil
		}
		return act.Prev, err
	}
	return "", nil
}

// lineBeforeLast gives the second record from the end; the zero one if there is none.
func lineBeforeLast(f *os.File) (Action, error) {
	info, err := f.Stat()
	if err != nil {
		return Action{}, err
	}
	from := max(0, info.Size()-32<<10) // a line is far shorter
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return Action{}, err
	}
	lines := strings.Split(strings.TrimRight(string(tail), "\n"), "\n")
	if len(lines) < 2 {
		return Action{}, nil
	}
	act, err := parseAction(lines[len(lines)-2])
	if errors.Is(err, ErrLine) {
		err = nil
	}
	return act, err
}

// forget deletes months of records, and notes where the chain begins from then on.
func (a *Audit) forget(names []string) (deleted int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.lower(names); err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := removeIfThere(filepath.Join(a.dir, name)); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}

// lower notes the last digest of the months that are about to go.
func (a *Audit) lower(names []string) error {
	if a.keys == "" || len(names) == 0 {
		return nil
	}
	// The lock that writers take, on the newest of the files.
	all, err := auditFiles(a.dir)
	if err != nil {
		return err
	}
	newest, err := os.OpenFile(filepath.Join(a.dir, all[len(all)-1]), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer newest.Close()
	if err := unix.Flock(int(newest.Fd()), unix.LOCK_EX); err != nil { // ends with the descriptor
		return err
	}
	h, err := a.head()
	if errors.Is(err, errHead) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(a.dir, slices.Max(names)))
	if err != nil {
		return err
	}
	defer f.Close()
	if h.First, err = lastDigest(f); err != nil {
		return err
	}
	return a.writeHead(h)
}

// Verify checks the chain from end to end, and tells how many records there are.
func (a *Audit) Verify() (records int, faults []Fault, err error) {
	names, err := auditFiles(a.dir)
	if err != nil {
		return 0, nil, err
	}
	fault := func(file string, p Problem) {
		if f := (Fault{file, p}); !slices.Contains(faults, f) {
			faults = append(faults, f)
		}
	}
	var first string   // what the oldest record says is before it
	var ends [2]string // digests of the newest record and the one before
	for _, name := range names {
		path := filepath.Join(a.dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&^0o600 != 0 {
			fault(name, ProblemMode)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return records, faults, err
		}
		for line := range strings.Lines(string(content)) {
			line, whole := strings.CutSuffix(line, "\n")
			act, err := parseAction(line)
			if err != nil || !whole {
				fault(name, ProblemLine)
			}
			if records == 0 {
				first = act.Prev
			} else if act.Prev != ends[0] {
				fault(name, ProblemChain)
			}
			records++
			ends = [2]string{digestOf(line), ends[0]}
		}
	}
	if a.keys == "" {
		return records, faults, nil
	}
	h, err := a.head()
	switch {
	case errors.Is(err, fs.ErrNotExist) && records == 0:
		return records, faults, nil
	case errors.Is(err, errHead), errors.Is(err, fs.ErrNotExist):
		fault(headFile, ProblemTruncated)
	case err != nil:
		return records, faults, err
	// A crash may have come between a record and the note of it.
	case h.First != first || h.Last != ends[0] && (h.Last != ends[1] || records < 2):
		fault(headFile, ProblemTruncated)
	}
	return records, faults, nil
}
