package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Where the engine's files are damaged, what can be read of them is copied
// into a new engine, which then takes the place of the old one. The step that
// counts is one renaming; whatever a crash leaves is finished, or removed and
// begun anew, by the next open:
//
//	salvage   being written: nothing of the old engine has changed
//	salvaged  complete and durable: the old engine's files are removed
//	salvage-  they are: the new engine's files move to their place
const (
	salvageDir    = "salvage"
	salvagedDir   = "salvaged"
	salvageMoving = "salvage-moving"

	// damagedName is the file that asks the next open to look for damage in every block.
	damagedName = "damaged"
)

// The number of the first operation of an engine, and one beyond that of any.
const (
	firstSequence  = 10
	newestSequence = 1 << 56
)

// errDamage says that files of the engine are damaged.
var errDamage = errors.New("files of the queue are damaged")

// engineFile tells whether a file of the queue's folder belongs to the engine.
func engineFile(name string) bool {
	for _, prefix := range []string{"MANIFEST-", "OPTIONS-", "marker."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	for _, suffix := range []string{".sst", ".log", ".blob", ".dbtmp"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return name == damagedName || name == syncedName
}

// fileNumber is the number in the name of a table or a log.
func fileNumber(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// finishSalvage ends what an earlier open has begun.
func (s *Store) finishSalvage() error {
	at := func(name string) string { return s.fs.PathJoin(s.opts.Dir, name) }
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return err
	}
	if slices.Contains(names, salvageDir) {
		if err := s.fs.RemoveAll(at(salvageDir)); err != nil {
			return err
		}
	}
	if slices.Contains(names, salvagedDir) {
		for _, name := range names {
			if engineFile(name) {
				if err := s.fs.Remove(at(name)); err != nil {
					return err
				}
			}
		}
		// None of the old files may come back beside the new ones.
		if err := s.syncDir(s.opts.Dir); err != nil {
			return err
		}
		if err := s.fs.Rename(at(salvagedDir), at(salvageMoving)); err != nil {
			return err
		}
		if err := s.syncDir(s.opts.Dir); err != nil {
			return err
		}
	} else if !slices.Contains(names, salvageMoving) {
		return nil
	}
	moving, err := s.fs.List(at(salvageMoving))
	if err != nil {
		return err
	}
	for _, name := range moving {
		if err := s.fs.Rename(s.fs.PathJoin(at(salvageMoving), name), at(name)); err != nil {
			return err
		}
	}
	if err := s.syncDir(s.opts.Dir); err != nil {
		return err
	}
	if err := s.fs.RemoveAll(at(salvageMoving)); err != nil {
		return err
	}
	return s.syncDir(s.opts.Dir)
}

func (s *Store) syncDir(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// examine looks for damage that the engine does not see when it opens, or
// would take for the end of a file: in the manifest, and in what tells where
// in a table its records are.
func (s *Store) examine() error {
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return err
	}
	if slices.Contains(names, damagedName) {
		return fmt.Errorf("%w: that was found while the queue was in use", errDamage)
	}
	m, err := s.readManifest(names)
	if err != nil {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, manifestMarker) }) {
			return nil // the engine says whether it can read it
		}
		if s.holdsData(names) {
			return fmt.Errorf("%w: %w", errDamage, err)
		}
		return nil
	}
	for _, name := range names {
		n, ok := fileNumber(name, ".sst")
		if _, used := m.tables[n]; ok && used {
			if err := s.examineTable(name); err != nil {
				return err
			}
		}
	}
	return s.examineLogs(names, m)
}

// holdsData tells whether there is a table, or a log with anything in it.
func (s *Store) holdsData(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if strings.HasSuffix(name, ".log") {
			info, err := s.fs.Stat(s.fs.PathJoin(s.opts.Dir, name))
			return err == nil && info.Size() > 0
		}
		return strings.HasSuffix(name, ".sst")
	})
}

// examineTable reads what leads to a table's blocks. Of a disk that does not
// answer nothing follows: the engine meets it too.
func (s *Store) examineTable(name string) error {
	f, err := s.fs.Open(s.fs.PathJoin(s.opts.Dir, name), vfs.RandomReadsOption)
	if err != nil {
		return nil
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return nil
	}
	o := &pebble.Options{}
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, o.MakeReaderOptions())
	if err == nil {
		_, err = r.Layout()
		err = errors.Join(err, r.Close())
	}
	if _, disk := errors.AsType[*fs.PathError](err); err == nil || disk {
		return nil
	}
	return fmt.Errorf("%w: a table: %w", errDamage, err)
}

// examineLogs looks for parts of the logs that had become durable and cannot
// be read. The engine takes what it cannot read in the last one for its end.
func (s *Store) examineLogs(names []string, m *manifest) error {
	c := logChain{s: s}
	logs := slices.DeleteFunc(logNumbers(names), func(n uint64) bool { return n < m.firstLog })
	for _, n := range logs {
		b, err := readFile(s.fs, s.logPath(n))
		if err != nil {
			return nil // the engine meets it too
		}
		if logDamaged(b, uint32(n)) {
			return fmt.Errorf("%w: a log", errDamage)
		}
		if err := c.read(n, func(*operation) error { return nil }); err != nil {
			return nil
		}
	}
	// Was it a power cut that tore the manifest, then all that is newer than
	// what can be read of it is in the logs.
	covered := len(logs) > 0 && c.first <= max(m.lastSeq+1, firstSequence) && c.lost == 0
	if m.torn && s.holdsData(names) && !(m.begun && covered) {
		return fmt.Errorf("%w: the manifest", errDamage)
	}
	if s.synced.read() > max(m.lastSeq, c.last()) {
		return fmt.Errorf("%w: the end of the log is missing", errDamage)
	}
	return nil
}

func (s *Store) logPath(number uint64) string {
	return s.fs.PathJoin(s.opts.Dir, fmt.Sprintf("%06d.log", number))
}

// logNumbers lists the logs, oldest first.
func logNumbers(names []string) (logs []uint64) {
	for _, name := range names {
		if n, ok := fileNumber(name, ".log"); ok {
			logs = append(logs, n)
		}
	}
	slices.Sort(logs)
	return logs
}

// salvageable tells whether an error of opening the engine is damage: not
// trouble of the disk, which may pass, and nothing that another release wrote.
func (s *Store) salvageable(err error) bool {
	if errors.Is(err, errDamage) {
		return true
	}
	if _, disk := errors.AsType[syscall.Errno](err); disk && !errors.Is(err, fs.ErrNotExist) || s.failedError() != nil {
		return false
	}
	names, listErr := s.fs.List(s.opts.Dir)
	if listErr != nil || !s.holdsData(names) {
		return false
	}
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, "marker.format-version."); ok {
			_, version, _ := strings.Cut(rest, ".")
			if v, err := strconv.ParseUint(version, 10, 64); err != nil || v > uint64(formatVersion) {
				return false
			}
		}
	}
	return true
}

// markDamaged makes the next open look for all damage. It costs nothing but
// that if it fails.
func (s *Store) markDamaged() {
	f, err := s.fs.Create(s.fs.PathJoin(s.opts.Dir, damagedName), writeCategory)
	if err != nil {
		return
	}
	_ = errors.Join(ownerOnly(f), f.Sync(), f.Close(), s.syncDir(s.opts.Dir))
}
