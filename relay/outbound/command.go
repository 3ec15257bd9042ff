package outbound

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"tacet/queue"
)

// The limits of RFC 3461 §4.2 and §4.4 for the two parameters that hold free text.
const (
	maxEnvID = 100
	maxORcpt = 500
)

// appendMail adds the MAIL command of e to b. The sender has passed parseMailbox.
func appendMail(b []byte, e *queue.Envelope, body queue.BodyType, size int64, sender mailbox, p *peer, utf8 bool) []byte {
	b = append(b, "MAIL FROM:<"...)
	b = appendMailbox(b, sender, utf8)
	b = append(b, '>')
	if p.size {
		b = append(b, " SIZE="...) // RFC 1870 §6
		b = strconv.AppendInt(b, size, 10)
	}
	switch {
	case body == queue.BodyBinaryMIME && p.binaryMIME:
		b = append(b, " BODY=BINARYMIME"...)
	case body == queue.Body8BitMIME && p.eightBitMIME:
		b = append(b, " BODY=8BITMIME"...)
	}
	if utf8 {
		b = append(b, " SMTPUTF8"...)
	}
	if p.dsn {
		b = appendReturn(b, e)
	}
	if e.RequireTLS {
		b = append(b, " REQUIRETLS"...) // RFC 8689 §3
	}
	return append(b, "\r\n"...)
}

// appendReturn adds RET and ENVID (RFC 3461 §4.3, §4.4).
func appendReturn(b []byte, e *queue.Envelope) []byte {
	switch e.Return {
	case queue.ReturnFull:
		b = append(b, " RET=FULL"...)
	case queue.ReturnHeaders:
		b = append(b, " RET=HDRS"...)
	}
	if e.EnvID == "" {
		return b
	}
	start := len(b)
	b = append(b, " ENVID="...)
	value := len(b)
	b = appendXText(b, e.EnvID)
	if len(b)-value > maxEnvID {
		return b[:start]
	}
	return b
}

// appendRcpt adds the RCPT command of r to b. The mailbox is that of r.
func appendRcpt(b []byte, r *queue.Recipient, m mailbox, p *peer, utf8 bool) []byte {
	b = append(b, "RCPT TO:<"...)
	b = appendMailbox(b, m, utf8)
	b = append(b, '>')
	if p.dsn {
		b = appendNotify(b, r.Notify)
		b = appendORcpt(b, r.ORcpt, utf8)
	}
	return append(b, "\r\n"...)
}

// appendMailbox writes m anew from its parts, with the local part quoted where
// it has to be and nowhere else (RFC 5321 §4.1.2). Towards a server without SMTPUTF8 the
// domain goes as A-labels: check has seen to it that they exist.
func appendMailbox(b []byte, m mailbox, utf8 bool) []byte {
	if m == (mailbox{}) { // the null reverse-path
		return b
	}
	b = appendLocal(b, m.local)
	if m.domain == "" {
		return b
	}
	b = append(b, '@')
	if m.utf8Domain && !utf8 {
		a, _ := aLabels(m.domain)
		return append(b, a...)
	}
	return append(b, m.domain...)
}

// appendLocal adds a local part as a dot-string if it is one, otherwise as a
// quoted string with as few quoted pairs as can be.
func appendLocal(b []byte, local string) []byte {
	if isDotString(local) {
		return append(b, local...)
	}
	b = append(b, '"')
	for i := range len(local) {
		if c := local[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, local[i])
	}
	return append(b, '"')
}

// appendNotify adds NOTIFY (RFC 3461 §4.1).
func appendNotify(b []byte, n queue.Notify) []byte {
	switch {
	case n == 0:
		return b
	case n&queue.NotifyNever != 0: // stands alone
		return append(b, " NOTIFY=NEVER"...)
	}
	sep := " NOTIFY="
	for _, w := range [...]struct {
		bit  queue.Notify
		word string
	}{{queue.NotifySuccess, "SUCCESS"}, {queue.NotifyFailure, "FAILURE"}, {queue.NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			b = append(b, sep...)
			b = append(b, w.word...)
			sep = ","
		}
	}
	return b
}

// appendORcpt adds ORCPT from "type;address" (RFC 3461 §4.2, RFC 6533 §3). A
// value that cannot be said here is left out: the address is then that of RCPT.
func appendORcpt(b []byte, orcpt string, smtputf8 bool) []byte {
	kind, address, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" || address == "" || !only(kind, "-_") || !isASCII(kind) {
		return b
	}
	isUTF8 := strings.EqualFold(kind, "utf-8")
	if !isASCII(address) && (!isUTF8 || !utf8.ValidString(address)) {
		return b
	}
	start := len(b)
	b = append(b, " ORCPT="...)
	value := len(b)
	b = append(b, kind...)
	b = append(b, ';')
	if isUTF8 {
		b = appendUTF8XText(b, address, smtputf8)
	} else {
		b = appendXText(b, address)
	}
	if len(b)-value > maxORcpt {
		return b[:start]
	}
	return b
}

const hexDigits = "0123456789ABCDEF"

// appendXText adds s as xtext (RFC 3461 §4).
func appendXText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// appendUTF8XText adds s as utf-8-addr-unitext where raw is allowed, otherwise
// as utf-8-addr-xtext (RFC 6533 §3).
func appendUTF8XText(b []byte, s string, raw bool) []byte {
	for _, r := range s {
		switch {
		case r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\',
			raw && r >= utf8.RuneSelf && unicode.IsGraphic(r) && !unicode.IsSpace(r):
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, `\x{`...)
			digits := strconv.AppendInt(nil, int64(r), 16)
			for _, d := range digits {
				if 'a' <= d {
					d -= 'a' - 'A'
				}
				b = append(b, d)
			}
			if len(digits) == 1 { // HEXPOINT has two digits or more
				b = append(b[:len(b)-1], '0', b[len(b)-1])
			}
			b = append(b, '}')
		}
	}
	return b
}
