package relay

import (
	"bytes"
	"iter"
)

// Field is one field of a header block. Its memory is the block's.
type Field struct {
	Raw   []byte // all of it, with folded lines and the line end
	Name  []byte // as it stands; empty for a line that is no field
	Value []byte // what follows the colon, to the line end, folds included
}

// Fields goes over the fields of a header block that ends before its empty
// line, in their order. A line that is neither a field nor the continuation of
// one comes as a Field without a name.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for pos := 0; pos < len(header); {
			end := lineEnd(header, pos)
			first := end
			for end < len(header) && isWSP(header[end]) {
				end = lineEnd(header, end)
			}
			f := Field{Raw: header[pos:end]}
			if _, colon, ok := fieldName(header[pos:first]); ok {
				f.Name = bytes.TrimRight(header[pos:pos+colon], " \t")
				f.Value = bytes.TrimRight(header[pos+colon+1:end], "\r\n")
			}
			if !yield(f) {
				return
			}
			pos = end
		}
	}
}

// Is tells whether the field has the name, which is lower case US-ASCII.
func (f *Field) Is(lower string) bool {
	return len(f.Name) == len(lower) && foldEqual(f.Name, lower)
}

// Unfolded is the value without the line ends of its folds (RFC 5322 §2.2.3) and
// without blanks around it.
func (f *Field) Unfolded() []byte {
	value := bytes.Trim(f.Value, " \t\r\n")
	if bytes.IndexByte(value, '\n') < 0 {
		return value
	}
	out := make([]byte, 0, len(value))
	for _, c := range value {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return out
}
