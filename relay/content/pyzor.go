package content

import (
	"bytes"
	"html"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	nethtml "golang.org/x/net/html"

	"tacet/relay"
)

// What a Pyzor digest is made of, so that servers know it: lines of at least so many
// characters after words of so many are left out, and of more than so many lines three each
// from so far into the text on.
const (
	shortLine   = 8
	longWord    = 10
	atomicLines = 4
	pieceLines  = 3
)

// textDigest is the digest by which Pyzor servers know a message (pyzor/digest.py); false
// if it has no line that counts.
func textDigest(parts []Part) (relay.TextDigest, bool) {
	var lines []string
	for i := range parts {
		for line := range pyzorLines(pyzorText(&parts[i])) {
			if line = pyzorNormal(line); utf8.RuneCountInString(line) >= shortLine {
				lines = append(lines, line)
			}
		}
	}
	d := relay.NewTextDigester()
	write := func(line string) { _, _ = io.WriteString(d, line) }
	if len(lines) <= atomicLines {
		for _, line := range lines {
			write(line)
		}
		return d.Digest(), len(lines) > 0
	}
	for _, percent := range []int{20, 60} {
		begin := percent * len(lines) / 100
		for _, line := range lines[begin:min(begin+pieceLines, len(lines))] {
			write(line)
		}
	}
	return d.Digest(), true
}

// pyzorText is the text of a part as Pyzor reads it.
func pyzorText(p *Part) string {
	switch {
	case p.Type == "message/delivery-status": // fields alone, which do not count
		return ""
	case !strings.HasPrefix(p.Type, "text/"):
		return strings.ToValidUTF8(string(p.Text), "\ufffd")
	case p.Type == "text/html":
		return pyzorHTML(decodeText(p))
	}
	return decodeText(p)
}

// pyzorHTML is what stands between the tags, but for scripts and styles, each run
// without the blanks around it.
func pyzorHTML(text string) string {
	var runs []string
	collect := true
	z := nethtml.NewTokenizer(strings.NewReader(text))
	for {
		switch z.Next() {
		case nethtml.ErrorToken:
			return strings.Join(runs, " ")
		case nethtml.TextToken:
			if !collect {
				continue
			}
			for run := range textRuns(string(z.Raw())) {
				if run = strings.TrimFunc(html.UnescapeString(run), pyzorSpace); run != "" {
					runs = append(runs, run)
				}
			}
		case nethtml.StartTagToken:
			name, _ := z.TagName()
			if hidden := string(name) == "script" || string(name) == "style"; hidden {
				collect = false
			} else {
				z.NextIsNotRawText() // Python's parser knows no other raw text
			}
		case nethtml.SelfClosingTagToken:
			z.NextIsNotRawText()
		case nethtml.EndTagToken:
			if name, _ := z.TagName(); string(name) == "script" || string(name) == "style" {
				collect = true
			}
		}
	}
}

// textRuns splits a text before and behind each "<" that begins no tag.
func textRuns(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			before, rest, found := strings.Cut(text, "<")
			if before != "" && !yield(before) || !found || !yield("<") {
				return
			}
			text = rest
		}
	}
}

// pyzorLines splits a text at each of what Python takes for line ends.
func pyzorLines(text string) func(yield func(string) bool) {
	return strings.FieldsFuncSeq(text, func(r rune) bool {
		return '\n' <= r && r <= '\r' || 0x1c <= r && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
	})
}

// pyzorSpace is white space as Python's regular expressions have it.
func pyzorSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

// pyzorNormal leaves out of a line what is likely to differ between copies: words that
// are long, addresses, URLs, and all blanks.
func pyzorNormal(line string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(line, pyzorSpace) {
		if utf8.RuneCountInString(word) >= longWord || hasAddress(word) {
			continue
		}
		b.WriteString(word[:schemeAt(word)])
	}
	return b.String()
}

// hasAddress knows \S+@\S+ in a word.
func hasAddress(word string) bool {
	_, first := utf8.DecodeRuneInString(word)
	_, last := utf8.DecodeLastRuneInString(word)
	return len(word) > first+last && strings.Contains(word[first:len(word)-last], "@")
}

// schemeAt is where [a-z]+:\S+ begins in a word, in any case; its end if it does not.
func schemeAt(word string) int {
	letter := func(r rune) bool {
		return 'a' <= r|0x20 && r|0x20 <= 'z' && r < 0x80 || strings.ContainsRune("\u0130\u0131\u017f\u212a", r)
	}
	begin, within := 0, false
	for i, r := range word {
		switch {
		case letter(r):
			if !within {
				begin, within = i, true
			}
		case r == ':' && within && i+1 < len(word):
			return begin
		default:
			within = false
		}
	}
	return len(word)
}

// decodeText is the text of a part in UTF-8, without what its charset does not know.
func decodeText(p *Part) string {
	if e := charset(p.Charset); e != nil {
		if decoded, err := e.NewDecoder().Bytes(p.Text); err == nil {
			return strings.ReplaceAll(string(decoded), "\ufffd", "")
		}
	}
	return string(bytes.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return -1
		}
		return r
	}, p.Text))
}
