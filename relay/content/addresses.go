package content

import (
	"strings"

	"golang.org/x/net/idna"

	"tacet/queue"
)

// maxAddressField is the longest From, Sender or To field that is looked into.
const maxAddressField = 64 << 10

// addresses finds the mailboxes of an address field (RFC 5322 §3.4): local part
// and domain as they stand, display names, comments and groups left out. ok is false where the
// field is not what a reader could be sure of: then none of it may be trusted.
func addresses(value []byte) (found []string, ok bool) {
	if len(value) > maxAddressField {
		return nil, false
	}
	p := addressParser{s: string(value)}
	for p.i < len(p.s) {
		if !p.step() {
			return nil, false
		}
	}
	if p.angle || !p.finish() {
		return nil, false
	}
	return p.found, true
}

// addressParser reads an address list octet by octet, in time linear in its length.
type addressParser struct {
	s      string
	i      int
	word   strings.Builder // of the address or phrase under way, without comments and blanks
	blank  bool            // a blank ended the last word
	phrase bool            // more than one word: no bare address
	addr   string          // the one in angle brackets
	angle  bool            // within angle brackets
	done   bool            // they were closed
	group  bool
	found  []string
}

// step reads one token. It returns false for what has no meaning.
func (p *addressParser) step() bool {
	c := p.s[p.i]
	switch c {
	case ' ', '\t', '\r', '\n':
		p.i++
		p.blank = p.word.Len() > 0
	case '(':
		return p.comment()
	case '"':
		return p.quoted()
	case '<':
		p.i++
		if p.angle || p.done {
			return false
		}
		p.angle, p.blank, p.phrase = true, false, false
		p.word.Reset()
	case '>':
		p.i++
		if !p.angle {
			return false
		}
		p.addr, p.angle, p.done, p.blank = p.word.String(), false, true, false
		p.word.Reset()
	case ',', ';':
		p.i++
		if p.angle || c == ';' && !p.group {
			return false
		}
		p.group = p.group && c != ';'
		return p.finish()
	case ':':
		p.i++
		if p.angle { // a source route ends (RFC 5322 §4.4)
			p.word.Reset()
			return true
		}
		if p.group || p.done {
			return false
		}
		p.group, p.phrase, p.blank = true, false, false
		p.word.Reset()
	default:
		return p.atom()
	}
	return true
}

// atom reads up to the next special octet. A NUL or other control octet is read
// differently by everyone.
func (p *addressParser) atom() bool {
	start := p.i
	for p.i < len(p.s) && !strings.ContainsRune(" \t\r\n(\"<>,;:", rune(p.s[p.i])) {
		if c := p.s[p.i]; c < ' ' || c == 0x7f {
			return false
		}
		p.i++
	}
	p.add(p.s[start:p.i])
	return true
}

func (p *addressParser) add(word string) {
	last := p.word.String()
	if p.blank && !strings.HasSuffix(last, "@") && !strings.HasSuffix(last, ".") && !strings.HasPrefix(word, "@") && !strings.HasPrefix(word, ".") {
		p.phrase = true
	}
	p.blank = false
	p.word.WriteString(word)
}

// comment skips a comment, nested ones included.
func (p *addressParser) comment() bool {
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.i++
				return true
			}
		}
	}
	return false
}

// quoted keeps a quoted string with its quotes.
func (p *addressParser) quoted() bool {
	start := p.i
	for p.i++; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '"':
			p.i++
			p.add(p.s[start:p.i])
			return true
		}
	}
	return false
}

// finish ends one element of the list.
func (p *addressParser) finish() bool {
	address := p.addr
	if !p.done {
		address = p.word.String()
	} else if p.word.Len() > 0 {
		return false // words behind the angle brackets
	}
	phrase := p.phrase && !p.done
	p.word.Reset()
	p.addr, p.done, p.phrase, p.blank = "", false, false, false
	if address == "" {
		return true // an empty element (RFC 5322 §4.4)
	}
	at := strings.LastIndexByte(address, '@')
	if phrase || at < 1 || at == len(address)-1 || strings.ContainsRune(unquoted(address[:at]), '@') {
		return false
	}
	p.found = append(p.found, address)
	return true
}

// unquoted is a local part without what stands in quotes.
func unquoted(local string) string {
	if strings.HasPrefix(local, `"`) && strings.HasSuffix(local, `"`) {
		return ""
	}
	return local
}

// domainOf is the domain of a mailbox as DNS has it: lower case, A-labels, no final dot;
// empty if it is none.
func domainOf(address string) string {
	return Domain(string(queue.ReversePath(address).Domain()))
}

// Domain is a domain name as DNS has it: lower case, A-labels, no final dot; empty if it is none.
func Domain(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 || strings.HasPrefix(name, ".") || strings.Contains(name, "..") {
		return ""
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" && !strings.Contains(name, "xn--") {
		return name
	}
	if strings.ContainsAny(name, "[]:/ \"\\%") {
		return ""
	}
	// As look-ups do, but labels with an underscore pass.
	ascii, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(name)
	if err != nil || len(ascii) > 253 || strings.HasPrefix(ascii, ".") || strings.Contains(ascii, "..") {
		return ""
	}
	return ascii
}
