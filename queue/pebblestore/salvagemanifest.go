package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"strings"

	pebblerecord "github.com/cockroachdb/pebble/v2/record"
)

// manifest is what of the engine's manifest matters for reading around damage:
// which tables and logs are in use. Others may still be there, and hold what
// has been deleted since.
type manifest struct {
	tables   map[uint64]int64 // by number, in octets
	firstLog uint64           // logs before it are not in use
	lastSeq  uint64           // what is newer is in the logs
	begun    bool             // it has a first edit
	torn     bool             // its end cannot be read
}

var errManifest = errors.New("the engine's manifest cannot be read")

const manifestMarker = "marker.manifest."

// readManifest reads the manifest that the folder's marker names.
func (s *Store) readManifest(names []string) (*manifest, error) {
	file := ""
	newest := ""
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, manifestMarker)
		if !ok {
			continue
		}
		if number, of, ok := strings.Cut(rest, "."); ok && number > newest {
			newest, file = number, of
		}
	}
	if file == "" {
		return nil, errManifest
	}
	f, err := s.fs.Open(s.fs.PathJoin(s.opts.Dir, file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	defer f.Close()
	m := &manifest{tables: make(map[uint64]int64)}
	records := pebblerecord.NewReader(f, 0)
	for {
		r, err := records.Next()
		if err == io.EOF {
			m.torn = !m.begun
			return m, nil
		}
		var edit []byte
		if err == nil {
			edit, err = io.ReadAll(r)
		}
		if pebblerecord.IsInvalidRecord(err) {
			m.torn = true
			return m, nil
		}
		if err == nil {
			err = m.apply(edit)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errManifest, err)
		}
	}
}

// Tags of what stands in an edit of the manifest, of those that the engine
// writes in the way we use it.
const (
	tagComparer     = 1
	tagFirstLog     = 2
	tagNextFile     = 3
	tagLastSequence = 4
	tagDeletedTable = 6
	tagPreviousLog  = 9
	tagNewTable     = 103

	fieldEnd     = 1
	fieldUnknown = 1 << 6 // from here on a field may not be passed over
)

// apply applies one edit.
func (m *manifest) apply(edit []byte) error {
	d := decoder{b: edit}
	for len(d.b) > 0 {
		switch tag := d.uvarint(); tag {
		case tagComparer:
			d.bytes()
			m.begun = true
		case tagFirstLog:
			m.firstLog = d.uvarint()
		case tagLastSequence:
			m.lastSeq = d.uvarint()
		case tagNextFile, tagPreviousLog:
			d.uvarint()
		case tagDeletedTable:
			d.uvarint() // level
			delete(m.tables, d.uvarint())
		case tagNewTable:
			m.newTable(&d)
		default:
			return fmt.Errorf("an edit of the unknown kind %d", tag)
		}
		if d.bad {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

func (m *manifest) newTable(d *decoder) {
	d.uvarint() // level
	number := d.uvarint()
	m.tables[number] = int64(d.uvarint())
	d.bytes()   // smallest name
	d.bytes()   // largest name
	d.uvarint() // sequence numbers
	d.uvarint()
	for !d.bad {
		switch field := d.uvarint(); {
		case field == fieldEnd:
			return
		case field >= fieldUnknown:
			d.bad = true
		default:
			d.bytes()
		}
	}
}
