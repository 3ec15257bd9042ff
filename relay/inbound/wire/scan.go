package wire

import "bytes"

// scanner follows content through its lines: whether the next octet begins a
// line, and whether every CR and LF so far was part of a CR LF. Only that ends
// a line (RFC 5321 §2.3.8); what others take for a line end is where smuggled
// messages begin.
type scanner struct {
	start bool // the next octet begins a line
	cr    bool // the last octet was a CR
	bad   bool // a bare CR, a bare LF or a NUL was seen
}

// newScanner stands at the start of the first line.
func newScanner() scanner { return scanner{start: true} }

// run goes over src, which is not empty, and returns how much of it is one
// run: all, or with dots up to a "." that may begin a line. It reads each octet
// by vector instructions only, once for LF, once for CR and once for NUL.
func (s *scanner) run(src []byte, dots bool) int {
	end, ends := len(src), 0 // ends: line ends whose CR is in src
	started := false
	for i := 0; ; {
		j := bytes.IndexByte(src[i:], '\n')
		if j < 0 {
			started = false
			break
		}
		j += i
		switch {
		case j > 0 && src[j-1] == '\r':
			started = true
			ends++
		case j == 0 && s.cr:
			started = true
		default:
			started = false
			s.bad = true
		}
		i = j + 1
		if i == len(src) {
			break
		}
		if dots && src[i] == '.' {
			end = i
			break
		}
	}
	run := src[:end]
	cr := run[end-1] == '\r'
	if cr {
		ends++
	}
	if s.cr && run[0] != '\n' || bytes.Count(run, crByte) != ends || bytes.IndexByte(run, 0) >= 0 {
		s.bad = true
	}
	s.cr, s.start = cr, started
	return end
}

var crByte = []byte{'\r'}
