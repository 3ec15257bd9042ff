package content

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"tacet/relay"
)

// The limits of a MIME structure. Beyond one of them a message is not looked into but refused.
const (
	maxDepth      = 20       // multiparts and messages within each other
	maxParts      = 1000     // of one message
	maxPartHeader = 64 << 10 // octets of one part's header
	maxNames      = 16       // file names, in all readings, of one part
	sniffed       = 512      // octets of a part that its kind is told by
	walkBuffer    = 64 << 10
)

// Part is one leaf of a MIME structure, in every way that a mail client might read it.
type Part struct {
	Type   string   // media type, lower case; "text/plain" where none is said
	Names  []string // file names, lower case: as they stand and decoded
	Kind   Kind     // by its content
	Size   int64    // decoded octets
	Digest relay.Digest

	// Kept only if the walk keeps text, and then of text/* parts decoded, of others as
	// it stands, without the lines that have no blank and more than nine octets.
	Text    []byte
	Charset string // lower case; "" where none is said
}

// Why a structure is refused: mail clients and scanners would read it differently, or
// never come to its end.
var (
	errAmbiguous = errors.New("the MIME structure can be read in more than one way")
	errTooDeep   = errors.New("the MIME structure has too many parts or levels")
)

// walk goes over the leaves of a message, in memory bounded by its limits.
// An error is errAmbiguous or errTooDeep, wrapped, or else about reading.
func walk(ctx context.Context, m *relay.Message, visit func(*Part) error) error {
	return walkText(ctx, m, 0, visit)
}

// walkText is a walk that keeps so many octets of text, over all parts.
func walkText(ctx context.Context, m *relay.Message, keep int, visit func(*Part) error) error {
	w := &walker{visit: visit, keep: keep}
	if err := w.header(m.Header); err != nil {
		return err
	}
	r := bufio.NewReaderSize(bounded(ctx, m.Body()), walkBuffer)
	start := true
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if e := w.line(line, start); e != nil {
				return e
			}
			start = line[len(line)-1] == '\n'
		}
		switch {
		case err == io.EOF:
			return w.end()
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read a body: %w", err)
		}
	}
}

// walker holds the state between two lines. Nothing in it recurses: a deep
// structure costs a slice, not a stack.
type walker struct {
	visit func(*Part) error
	open  []string // boundaries of the multiparts under way; "" for a message within the message
	parts int
	keep  int // octets of text that may still be kept

	head   []byte // header of a part under way
	inHead bool
	leaf   *leaf // nil: preamble, epilogue or nothing
}

// leaf is a part whose body is under way.
type leaf struct {
	Part
	decode  decoder
	text    bool
	held    []byte // a line end that may belong to the boundary behind it
	hash    relay.Digester
	keep    *int
	pending []byte // decoded, yet to be hashed: lines are short, and the hash likes blocks
	beginOf []byte
}

// line takes one line, or a piece of one that is too long for the buffer.
func (w *walker) line(line []byte, start bool) error {
	if start && len(line) > 2 && line[0] == '-' && line[1] == '-' {
		if done, err := w.boundary(line); done || err != nil {
			return err
		}
	}
	switch {
	case w.inHead:
		if start && len(bytes.TrimRight(line, "\r\n")) == 0 {
			w.inHead = false
			return w.header(w.head)
		}
		if w.head = append(w.head, line...); len(w.head) > maxPartHeader {
			return fmt.Errorf("a part's header of more than %d octets: %w", maxPartHeader, errTooDeep)
		}
	case w.leaf != nil:
		return w.leaf.take(line, start)
	}
	return nil
}

// boundary looks whether a line ends a part. One that some would take for a
// boundary and others not is refused.
func (w *walker) boundary(line []byte) (done bool, err error) {
	text := string(bytes.TrimRight(line[2:], " \t\r\n"))
	for i := len(w.open) - 1; i >= 0; i-- {
		b := w.open[i]
		if b == "" || !strings.HasPrefix(text, b) {
			continue
		}
		rest := text[len(b):]
		if rest != "" && rest != "--" {
			return false, fmt.Errorf("a line that begins like a boundary: %w", errAmbiguous)
		}
		if err := w.endPart(); err != nil {
			return false, err
		}
		w.open = w.open[:i+1]
		if rest == "--" {
			w.open = w.open[:i] // what follows is the epilogue
			return true, nil
		}
		w.inHead, w.head = true, w.head[:0]
		return true, w.count()
	}
	return false, nil
}

func (w *walker) count() error {
	if w.parts++; w.parts > maxParts {
		return fmt.Errorf("more than %d parts: %w", maxParts, errTooDeep)
	}
	return nil
}

// header reads the header block of the message, of a part, or of a message in a part,
// and begins what it announces.
func (w *walker) header(block []byte) error {
	h, err := readPartHeader(block)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(h.kind, "multipart/"):
		for _, b := range w.open {
			if b != "" && (strings.HasPrefix(b, h.boundary) || strings.HasPrefix(h.boundary, b)) {
				return fmt.Errorf("a boundary that begins like another: %w", errAmbiguous)
			}
		}
		return w.enter(h.boundary)
	case h.kind == "message/rfc822" || h.kind == "message/global":
		if err := w.enter(""); err != nil {
			return err
		}
		w.inHead, w.head = true, w.head[:0]
		return w.count()
	case h.kind == "message/partial" || h.kind == "message/external-body":
		return fmt.Errorf("a part whose content is elsewhere: %w", errAmbiguous)
	}
	w.leaf = &leaf{
		Part:   Part{Type: h.kind, Names: h.names, Charset: h.charset},
		decode: newDecoder(h.encoding), text: strings.HasPrefix(h.kind, "text/"), hash: relay.NewDigester(), keep: &w.keep,
	}
	return nil
}

func (w *walker) enter(boundary string) error {
	w.open = append(w.open, boundary)
	if len(w.open) > maxDepth {
		return fmt.Errorf("more than %d levels: %w", maxDepth, errTooDeep)
	}
	return nil
}

// endPart ends the leaf under way, or a part that is over before its header.
func (w *walker) endPart() error {
	if w.inHead {
		w.inHead = false
		if len(w.head) > 0 { // a header without a body: what it announces is still seen
			open := len(w.open)
			if err := w.header(w.head); err != nil {
				return err
			}
			w.inHead = false
			w.open = w.open[:open]
		}
	}
	if w.leaf == nil {
		return nil
	}
	l := w.leaf
	w.leaf = nil
	if err := l.end(); err != nil {
		return err
	}
	return w.visit(&l.Part)
}

func (w *walker) end() error { return w.endPart() }

// take takes a line of the leaf's body.
func (l *leaf) take(line []byte, start bool) error {
	if start && l.text {
		if name, ok := uuencoded(line); ok && len(l.Names) < maxNames {
			l.Names = append(l.Names, name) // some clients show it as an attachment
		}
	}
	content := bytes.TrimRight(line, "\r\n")
	if !l.text && *l.keep > 0 && (len(content) < longWord || bytes.ContainsAny(content, " \t")) {
		l.keepText(line)
	}
	var err error
	if len(l.held) > 0 {
		err = l.write(l.decode.line(l.held, false))
	}
	if err == nil {
		err = l.write(l.decode.line(content, true))
	}
	l.held = append(l.held[:0], line[len(content):]...)
	return err
}

func (l *leaf) write(decoded []byte, err error) error {
	if err != nil {
		return err
	}
	if l.text && *l.keep > 0 {
		l.keepText(decoded)
	}
	if room := sniffed - len(l.beginOf); room > 0 {
		l.beginOf = append(l.beginOf, decoded[:min(room, len(decoded))]...)
	}
	l.Size += int64(len(decoded))
	if l.pending = append(l.pending, decoded...); len(l.pending) >= hashBlock {
		_, _ = l.hash.Write(l.pending)
		l.pending = l.pending[:0]
	}
	return nil
}

func (l *leaf) keepText(b []byte) {
	b = b[:min(len(b), *l.keep)]
	l.Text = append(l.Text, b...)
	*l.keep -= len(b)
}

// hashBlock is how much is hashed at a time.
const hashBlock = 4 << 10

func (l *leaf) end() error {
	if err := l.write(l.decode.end()); err != nil {
		return err
	}
	_, _ = l.hash.Write(l.pending)
	l.Kind = kindOf(l.beginOf)
	l.Digest = l.hash.Digest()
	return nil
}

// uuencoded knows the first line of a uuencoded file within a text.
func uuencoded(line []byte) (name string, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte("begin "))
	mode, file, both := bytes.Cut(bytes.TrimRight(rest, " \t\r\n"), []byte(" "))
	if !found || !both || len(mode) < 3 || len(mode) > 4 || len(bytes.Trim(mode, "01234567")) > 0 {
		return "", false
	}
	return strings.ToLower(string(file[:min(len(file), maxNameLength)])), len(file) > 0
}
