package logging

import (
	"bytes"
	"context"
	"hash"
)

// editor copies lines, less what is to go.
type editor struct {
	enc  *encoder
	want removal
	edit func(*Record) bool
	out  *frameWriter
	sum  hash.Hash
}

func (e *editor) copy(ctx context.Context, p *openPart) error {
	as := p.header.removed // what this part is free of already
	for lines, err := range p.pieces() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for raw := range splitLines(lines) {
			if err := e.line(raw, e.want&^as); err != nil {
				return err
			}
		}
	}
	return nil
}

// line copies one line as it stands, unless something of it is to go. A line
// that is not by the contract cannot be searched for it, and goes as a whole.
func (e *editor) line(raw []byte, want removal) error {
	if want == removeLogins && e.edit == nil && !tellsOfLogin(raw) {
		want = 0 // as nearly all of a day: they need not be read for it
	}
	if want != 0 || e.edit != nil {
		line, err := ParseLine(raw)
		if err != nil || want.drops(&line.Record) {
			return nil
		}
		want.apply(&line.Record)
		changed := e.edit != nil && e.edit(&line.Record)
		if want != 0 || changed {
			anew := e.enc.encode(&line.Record, line.Time)
			defer anew.free()
			raw = bytes.TrimSuffix(anew.bytes(), newline)
		}
	}
	e.sum.Write(raw)
	e.sum.Write(newline)
	return e.out.line(raw)
}

// tellsOfLogin tells whether a line may be a record of loginEvents. Within texts a quotation mark is
// escaped, so that no other line has these octets.
func tellsOfLogin(raw []byte) bool {
	return bytes.Contains(raw, []byte(`"event":"auth_failed"`)) || bytes.Contains(raw, []byte(`"event":"tls_failed"`))
}

// splitLines gives the lines there are, empty ones left out.
func splitLines(lines []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(lines) > 0 {
			raw := lines
			if end := bytes.IndexByte(lines, '\n'); end >= 0 {
				raw, lines = lines[:end], lines[end+1:]
			} else {
				lines = nil
			}
			if len(raw) > 0 && !yield(raw) {
				return
			}
		}
	}
}
