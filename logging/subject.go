package logging

import (
	"bytes"
	"encoding/base64"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"
)

// Bounds of the work on a subject. A word of RFC 2047 is at most 75 octets;
// senders that write longer ones are many.
const (
	subjectInput = 8 << 10 // octets looked at
	subjectWord  = 4 << 10 // octets of one encoded word
)

// Subject gives the text of a Subject field's body for [Record.Subject]:
// unfolded, its encoded words decoded (RFC 2047) where the charset is known,
// everything invisible made visible, at most 200 characters. Only the first
// 8 KiB are looked at; raw is not kept.
func Subject(raw []byte) string {
	for len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\t') {
		raw = raw[1:]
	}
	raw = bytes.TrimRight(raw[:min(len(raw), subjectInput)], " \t\r\n")
	if len(raw) <= limitSubject && simple(raw) {
		return string(raw)
	}
	text := decodeWords(unfolded(raw))
	out, _ := appendVisible(make([]byte, 0, min(len(text)+16, 4*limitSubject)), tidy(text), limitSubject)
	return string(out)
}

// simple tells whether raw is printable ASCII without an encoded word.
func simple(raw []byte) bool {
	for i, c := range raw {
		if c < 0x20 || c > 0x7e || c == '?' && i > 0 && raw[i-1] == '=' {
			return false
		}
	}
	return true
}

// unfolded takes out the line breaks of folding (RFC 5322 §2.2.3) and leaves
// every other CR or LF to be made visible.
func unfolded(raw []byte) string {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		rest := raw[i:]
		switch {
		case len(rest) > 2 && rest[0] == '\r' && rest[1] == '\n' && (rest[2] == ' ' || rest[2] == '\t'):
			i++
		case len(rest) > 1 && rest[0] == '\n' && (rest[1] == ' ' || rest[1] == '\t'):
		default:
			out = append(out, rest[0])
		}
	}
	return string(out)
}

// decodeWords decodes the encoded words of s. White space between two of them
// does not show (RFC 2047 §6.2), and adjacent words of one charset and
// encoding are decoded as one, because senders split characters between them.
func decodeWords(s string) string {
	var out strings.Builder
	var run encodedRun
	for s != "" {
		start := strings.Index(s, "=?")
		if start < 0 {
			break
		}
		word, length := parseWord(s[start:])
		if length == 0 {
			run.end(&out)
			out.WriteString(s[:start+2])
			s = s[start+2:]
			continue
		}
		between := s[:start]
		if !run.active() || strings.Trim(between, " \t") != "" {
			run.end(&out)
			out.WriteString(between)
		}
		run.add(&out, word, s[start:start+length])
		s = s[start+length:]
	}
	run.end(&out)
	out.WriteString(s)
	return out.String()
}

// encodedWord is one word of RFC 2047, its text still encoded.
type encodedWord struct {
	charset string // lower case, without a language (RFC 2231 §5)
	base64  bool
	text    string
}

// parseWord reads the encoded word that s begins with, and its length; 0 if
// there is none. Spaces within the text are let pass: senders write them.
func parseWord(s string) (w encodedWord, length int) {
	limit := min(len(s), subjectWord)
	charsetEnd := strings.IndexByte(s[2:limit], '?') + 2
	if charsetEnd < 3 || charsetEnd+3 > limit || s[charsetEnd+2] != '?' {
		return w, 0
	}
	textBegin := charsetEnd + 3
	textLen := strings.Index(s[textBegin:limit], "?=")
	if textLen < 0 {
		return w, 0
	}
	w.charset, _, _ = strings.Cut(strings.ToLower(s[2:charsetEnd]), "*")
	if len(w.charset) > 40 {
		return w, 0
	}
	switch s[charsetEnd+1] {
	case 'b', 'B':
		w.base64 = true
	case 'q', 'Q':
	default:
		return w, 0
	}
	w.text = s[textBegin : textBegin+textLen]
	return w, textBegin + textLen + len("?=")
}

// encodedRun is adjacent words of one charset, whose octets belong together.
type encodedRun struct {
	charset string
	octets  []byte
	source  strings.Builder // as they were written, in case the charset is unknown
}

func (r *encodedRun) active() bool { return r.source.Len() > 0 }

func (r *encodedRun) add(out *strings.Builder, w encodedWord, source string) {
	octets, ok := w.decode()
	if !ok {
		r.end(out)
		out.WriteString(source)
		return
	}
	// A stateful charset begins anew in every word, so joining serves the others.
	if r.active() && (r.charset != w.charset || w.charset == "iso-2022-jp") {
		r.end(out)
	}
	r.charset = w.charset
	if r.active() {
		r.source.WriteByte(' ')
	}
	r.octets = append(r.octets, octets...)
	r.source.WriteString(source)
}

// end decodes the run's octets into out and empties the run.
func (r *encodedRun) end(out *strings.Builder) {
	if !r.active() {
		return
	}
	if text, ok := fromCharset(r.charset, r.octets); ok {
		out.WriteString(text)
	} else {
		out.WriteString(r.source.String())
	}
	*r = encodedRun{octets: r.octets[:0]}
}

func (w encodedWord) decode() ([]byte, bool) {
	if !w.base64 {
		return decodeQ(w.text), true
	}
	text := strings.Map(func(c rune) rune {
		if c == ' ' || c == '\t' || c == '=' {
			return -1
		}
		return c
	}, w.text)
	out, err := base64.RawStdEncoding.DecodeString(text)
	return out, err == nil || len(out) > 0
}

// decodeQ decodes the Q encoding (RFC 2047 §4.2) and lets a broken escape stand.
func decodeQ(text string) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '_':
			c = ' '
		case c == '=' && i+2 < len(text):
			high, low := unhex(text[i+1]), unhex(text[i+2])
			if high < 16 && low < 16 {
				c = high<<4 | low
				i += 2
			}
		}
		out = append(out, c)
	}
	return out
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// fromCharset gives octets of a charset as UTF-8.
func fromCharset(charset string, octets []byte) (string, bool) {
	switch charset {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return string(octets), true
	}
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return "", false
	}
	out, _, err := transform.Bytes(enc.NewDecoder(), octets)
	return string(out), err == nil && string(out) != "\ufffd" // which alone is what a charset that is not to be trusted gives
}

// tidy turns tabs and line ends within decoded text into spaces, unpacks what
// was encoded twice, and takes out the variation selectors that only choose
// how a pictograph is drawn.
func tidy(text string) string {
	if strings.Contains(text, "=?") {
		text = decodeWords(text)
	}
	if !strings.ContainsAny(text, "\t\ufe0e\ufe0f") {
		return text
	}
	return strings.NewReplacer("\t", " ", "\ufe0e", "", "\ufe0f", "").Replace(text)
}
