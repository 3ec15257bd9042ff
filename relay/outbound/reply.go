package outbound

import (
	"bufio"
	"bytes"
	"errors"
	"unicode"
	"unicode/utf8"

	"tacet/queue"
)

// The limits of a reply. RFC 5321 §4.5.3.1.5 says 512 octets a line; peers
// write longer ones, and no peer needs more than this.
const (
	maxReply     = 64 << 10 // octets of all lines together
	maxReplyLine = 4 << 10  // octets of a line that are looked at: the size of the read buffer
	maxReplyText = 1000     // octets of queue.Reply.Text
)

// reply is one answer of the peer. Its memory is used again for the next.
type reply struct {
	code     int
	enhanced queue.Enhanced
	text     []byte // printable UTF-8 without code and enhanced code; lines parted by a space
}

func (r *reply) class() int { return r.code / 100 }

// toQueue is r as the queue keeps it.
func (r *reply) toQueue(stage queue.Stage) queue.Reply {
	return queue.Reply{Code: r.code, Enhanced: r.enhanced, Text: string(r.text), Stage: stage}
}

// read takes the next reply from in. each, if not nil, sees the text of every
// line (RFC 5321 §4.2.1). A reply that breaks the syntax ends the session: what follows
// could be taken for the answer to another command.
func (r *reply) read(in *bufio.Reader, each func(text []byte)) error {
	r.code, r.enhanced, r.text = 0, queue.Enhanced{}, r.text[:0]
	total := 0
	for {
		line, n, err := readLine(in, maxReply-total)
		if err != nil {
			return err
		}
		total += n
		code, more, text, ok := splitReplyLine(line)
		switch {
		case !ok:
			return errNotSMTP
		case r.code != 0 && code != r.code:
			return errOutOfStep
		}
		first := r.code == 0
		r.code = code
		if each != nil {
			each(text)
		}
		if e, rest, ok := splitEnhanced(text); ok {
			text = rest
			// Where the classes differ the code decides, and the enhanced code would only mislead.
			if r.enhanced.IsZero() && int(e[0]) == code/100 {
				r.enhanced = e
			}
		}
		r.text = appendText(r.text, text, first)
		if !more {
			return nil
		}
	}
}

// readLine reads one line of at most limit octets and gives back what the read
// buffer holds of it, without its end, and how long it was. A bare LF ends it too.
func readLine(in *bufio.Reader, limit int) (line []byte, n int, err error) {
	line, err = in.ReadSlice('\n')
	n = len(line)
	if n > limit {
		return nil, n, errTooLong
	}
	if err == nil {
		return bytes.TrimSuffix(line[:n-1], []byte{'\r'}), n, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, n, err
	}
	line = bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		var rest []byte
		rest, err = in.ReadSlice('\n')
		n += len(rest)
		if n > limit {
			return nil, n, errTooLong
		}
	}
	return line, n, err
}

// splitReplyLine parts "250-text", "250 text" or "250" (RFC 5321 §4.2).
func splitReplyLine(line []byte) (code int, more bool, text []byte, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
		return 0, false, nil, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, nil, false
	}
	return code, line[3] == '-', line[4:], true
}

// splitEnhanced parts "5.1.1 text" (RFC 2034 §4, RFC 3463 §2).
func splitEnhanced(text []byte) (e queue.Enhanced, rest []byte, ok bool) {
	if len(text) < 5 || text[0] != '2' && text[0] != '4' && text[0] != '5' || text[1] != '.' {
		return e, text, false
	}
	e[0] = uint16(text[0] - '0')
	subject, i := digits(text, 2)
	if i == 2 || i >= len(text) || text[i] != '.' {
		return queue.Enhanced{}, text, false
	}
	detail, j := digits(text, i+1)
	if j == i+1 || j < len(text) && text[j] != ' ' {
		return queue.Enhanced{}, text, false
	}
	e[1], e[2] = subject, detail
	return e, bytes.TrimLeft(text[j:], " "), true
}

// digits reads at most three digits of b from i on.
func digits(b []byte, i int) (v uint16, end int) {
	for end = i; end < len(b) && end < i+3 && '0' <= b[end] && b[end] <= '9'; end++ {
		v = v*10 + uint16(b[end]-'0')
	}
	return v, end
}

// appendText adds a line's text to t up to maxReplyText, without what could
// harm a terminal, a log or a report: control and format characters, the
// latter because some turn the direction of what follows.
func appendText(t, line []byte, first bool) []byte {
	if !first && len(t) > 0 && len(line) > 0 && len(t) < maxReplyText {
		t = append(t, ' ')
	}
	for len(line) > 0 {
		r, n := rune(line[0]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(line)
		}
		switch {
		case r == utf8.RuneError && n == 1:
			r = '?'
		case r == '\t':
			r = ' '
		case r < ' ', r == 0x7f, r >= utf8.RuneSelf && !unicode.IsGraphic(r):
			line = line[n:]
			continue
		}
		if len(t)+utf8.RuneLen(r) > maxReplyText {
			return t
		}
		t = utf8.AppendRune(t, r)
		line = line[n:]
	}
	return t
}
