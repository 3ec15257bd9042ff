package outbound

import (
	"bytes"
	"errors"
	"io"

	"tacet/queue"
)

// blockSize is the most that is written at once, under one deadline.
const blockSize = 64 << 10

// maxTextLine is the most octets of a line of content without its CR LF
// (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1). The dot of dot-stuffing doesn't count.
const maxTextLine = 998

var (
	// errDamaged is content that must not go out: a bare CR, a bare LF, a NUL, or
	// not as long as it was announced.
	errDamaged = errors.New("the stored content is not what was stored")
	errLine    = errors.New("a line of the content is longer than allowed")
)

// blockWriter writes a block to the connection. last says that with it the
// content is complete for the peer.
type blockWriter interface {
	writeBlock(b []byte, last bool) *fault
}

// contentWriter writes content as DATA or BDAT wants it. Nothing of a block
// that holds a bare CR, a bare LF or a NUL goes out (RFC 5321 §2.3.8), so that
// no receiver, however lenient, finds an end of content that is not one.
type contentWriter struct {
	to blockWriter

	buf    []byte // what waits to be written
	left   int64  // octets of content still to come
	dots   bool   // DATA: dot-stuffing, and a final dot
	binary bool   // BODY=BINARYMIME was said, and so any octet is content
	wide   bool   // lines may have any length: BODY=BINARYMIME was said for their sake, or the peer is a primary
	line   int    // octets of the line under way, 0 at its start
	long   bool   // some line is too long
	cr     bool   // the last octet was a CR
	done   bool   // the last block was written
}

// write adds p to the content. p is at most blockSize octets long.
func (w *contentWriter) write(p []byte) *fault {
	if len(p) == 0 {
		return nil
	}
	w.left -= int64(len(p))
	if w.left < 0 {
		return damaged()
	}
	dot := -1
	if !w.binary {
		var ok bool
		if dot, ok = w.check(p); !ok || w.cr && w.left == 0 {
			return damaged()
		}
		if w.long && !w.wide {
			return broken(queue.StageContent, queue.CauseLineTooLong, errLine)
		}
	}
	for w.dots && dot >= 0 {
		if f := w.put(p[:dot], false); f != nil {
			return f
		}
		if f := w.put(oneDot, false); f != nil { // RFC 5321 §4.5.2
			return f
		}
		p = p[dot:]
		dot = bytes.Index(p, lineDot)
		if dot >= 0 {
			dot++
		}
	}
	return w.put(p, !w.dots && w.left == 0)
}

var (
	oneDot   = []byte{'.'}
	lineDot  = []byte{'\n', '.'}
	crlf     = []byte{'\r', '\n'}
	finalDot = []byte{'.', '\r', '\n'}
)

// check goes over p once: is each CR followed by LF, each LF behind a CR, and
// there no NUL? dot is where the first line begins that starts with a dot, or -1.
// How long lines are it notes in w.long.
func (w *contentWriter) check(p []byte) (dot int, ok bool) {
	dot = -1
	if bytes.IndexByte(p, 0) >= 0 || w.cr && p[0] != '\n' {
		return dot, false
	}
	if w.line == 0 && p[0] == '.' {
		dot = 0
	}
	returns := bytes.Count(p, crlf[:1])
	if w.cr {
		returns++ // the one before p
	}
	line, longest := w.line, 0 // of a line, with its CR
	for at := 0; ; {
		i := lineEnd(p[at:])
		if i < 0 {
			line += len(p) - at
			break
		}
		longest = max(longest, line+i)
		line = 0
		at += i
		if at == 0 && !w.cr || at > 0 && p[at-1] != '\r' {
			return dot, false
		}
		returns--
		if at++; dot < 0 && at < len(p) && p[at] == '.' {
			dot = at
		}
	}
	w.cr = p[len(p)-1] == '\r'
	if w.cr {
		returns-- // its LF is to come
	}
	w.line = line
	if longest > maxTextLine+1 || line > maxTextLine+1 || line > maxTextLine && !w.cr {
		w.long = true
	}
	return dot, returns == 0
}

// lineEnd is where the next LF is. It looks at the first few octets by itself,
// for content of very short lines must not cost a call for each.
func lineEnd(p []byte) int {
	n := min(len(p), 8)
	for i, c := range p[:n] {
		if c == '\n' {
			return i
		}
	}
	if i := bytes.IndexByte(p[n:], '\n'); i >= 0 {
		return n + i
	}
	return -1
}

// put takes checked octets, and writes what is enough for a block.
func (w *contentWriter) put(p []byte, last bool) *fault {
	if len(w.buf)+len(p) > cap(w.buf) {
		if len(w.buf) > 0 {
			if f := w.to.writeBlock(w.buf, false); f != nil {
				return f
			}
			w.buf = w.buf[:0]
		}
		if len(p) > cap(w.buf)/2 {
			w.done = last
			return w.to.writeBlock(p, last)
		}
	}
	w.buf = append(w.buf, p...)
	if !last {
		return nil
	}
	w.done = true
	return w.to.writeBlock(w.buf, true)
}

// close ends the content: for DATA with the final dot.
func (w *contentWriter) close() *fault {
	if w.left != 0 || w.cr {
		return damaged()
	}
	switch {
	case !w.dots && len(w.buf) > 0 && !w.done: // an empty chunk
		return w.to.writeBlock(w.buf, true)
	case !w.dots:
		return nil
	}
	if w.line > 0 { // the final dot stands on a line of its own (RFC 5321 §4.1.1.4)
		if f := w.put(crlf, false); f != nil {
			return f
		}
	}
	return w.put(finalDot, true)
}

// copyFrom writes all that in gives, through the memory of block.
func (w *contentWriter) copyFrom(in io.Reader, block []byte) *fault {
	for w.left > 0 {
		n, err := io.ReadFull(in, block[:min(int64(len(block)), w.left)])
		if err != nil {
			return unreadable(err)
		}
		if f := w.write(block[:n]); f != nil {
			return f
		}
	}
	return nil
}

// writeAll writes content that is in memory.
func (w *contentWriter) writeAll(p []byte) *fault {
	for len(p) > 0 {
		n := min(len(p), blockSize)
		if f := w.write(p[:n]); f != nil {
			return f
		}
		p = p[n:]
	}
	return nil
}

// sound tells whether all of content may go out, and long whether some of its
// lines may not, as text.
func sound(content []byte) (ok, long bool) {
	var w contentWriter
	if len(content) == 0 {
		return true, false
	}
	_, ok = w.check(content)
	return ok && !w.cr, w.long
}

// damaged is the fault of content that must not go out. No hop would mend it.
func damaged() *fault { return unreadable(errDamaged) }

// unreadable is the fault of content that the store does not give as it was.
func unreadable(err error) *fault {
	cause := queue.CauseLocal
	if errors.Is(err, errDamaged) || errors.Is(err, queue.ErrDamaged) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		cause = queue.CauseContentDamaged
	}
	f := broken(queue.StageContent, cause, err)
	f.decided = true
	return f
}
