package outbound

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"tacet/queue"
)

// scan is what the content itself says it needs of a peer. It is looked at only
// towards peers that lack something.
type scan struct {
	done       bool
	eightBit   bool // some octet beyond ASCII
	utf8Header bool // in the header
}

// look goes over the content once.
func (s *scan) look(content queue.Content) error {
	if s.done {
		return nil
	}
	in, err := content.Reader()
	if err != nil {
		return err
	}
	defer in.Close()
	block := make([]byte, blockSize)
	header, tail := true, []byte("\r\n") // as if a line had ended before: the header may be empty
	for {
		n, err := in.Read(block)
		b := block[:n]
		if beyondASCII(b) {
			s.eightBit = true
		}
		if header {
			part, over := headerPart(tail, b)
			s.utf8Header = s.utf8Header || beyondASCII(part)
			header = !over
			tail = lastOctets(tail, b)
		}
		switch {
		case errors.Is(err, io.EOF), err == nil && s.eightBit && !header:
			s.done = true
			return nil
		case err != nil:
			return err
		}
	}
}

// headerPart is what of b belongs to the header, whose last octets before b
// are tail; over tells that the empty line has come.
func headerPart(tail, b []byte) (part []byte, over bool) {
	empty := []byte("\r\n\r\n")
	if len(tail) > 0 {
		joined := append(bytes.Clone(tail), b[:min(len(b), 3)]...)
		if bytes.Contains(joined, empty) {
			return nil, true
		}
	}
	part, _, over = bytes.Cut(b, empty)
	return part, over
}

// lastOctets is the last three octets of tail and b together.
func lastOctets(tail, b []byte) []byte {
	tail = append(tail, b[max(0, len(b)-3):]...)
	return append(tail[:0], tail[max(0, len(tail)-3):]...)
}

func beyondASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// mayCommand tells whether a peer that breaks RFC 3030 §2, and goes on reading
// commands after it refused a chunk, could find a recipient in the content.
// Then the chunk has to wait until a recipient was taken.
func mayCommand(content []byte) bool {
	for rest := content; ; {
		i := bytes.IndexByte(rest, ':')
		if i < 0 {
			return false
		}
		words := bytes.TrimRight(rest[:i], " \t")
		if n := len(words); n >= 2 && bytes.EqualFold(words[n-2:], []byte("to")) {
			words = bytes.TrimRight(words[:n-2], " \t")
			if n := len(words); n >= 4 && bytes.EqualFold(words[n-4:], []byte("rcpt")) {
				return true
			}
		}
		rest = rest[i+1:]
	}
}
