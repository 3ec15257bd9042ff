package outbound

import "strings"

const (
	minRemoteID = 5
	maxRemoteID = 64
)

// remoteID picks the next hop's queue ID out of the text of its final answer,
// by the forms that servers are known to use; empty where none fits. The
// pattern is strict because the ID reaches the log: letters, digits, "-", "."
// and "_", at least one digit, and no part of an address.
func remoteID(text string) string {
	if id := after(text, "queued as "); id != "" { // Postfix, and this relay
		return id
	}
	if id := after(text, "InternalId="); id != "" { // Exchange
		return id
	}
	if id := after(text, " id="); id != "" { // Exim
		return id
	}
	if i := indexFold(text, " Message accepted"); i > 0 { // Sendmail, OpenSMTPD
		return token(text[strings.LastIndexByte(text[:i], ' ')+1:])
	}
	if i := strings.LastIndex(text, " - gsmtp"); i > 0 {
		return token(text[strings.LastIndexByte(text[:i], ' ')+1:])
	}
	return after(text, " qp ") // qmail
}

// after is the ID that follows mark in text.
func after(text, mark string) string {
	if i := indexFold(text, mark); i >= 0 {
		return token(text[i+len(mark):])
	}
	return ""
}

// indexFold finds the ASCII text mark without regard to case.
func indexFold(text, mark string) int {
	for i := 0; i+len(mark) <= len(text); i++ {
		if text[i]|0x20 == mark[0]|0x20 && strings.EqualFold(text[i:i+len(mark)], mark) {
			return i
		}
	}
	return -1
}

// token is the ID that s starts with.
func token(s string) string {
	end, digit := 0, false
	for ; end < len(s); end++ {
		c := s[end]
		isDigit := '0' <= c && c <= '9'
		if !isDigit && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '.' && c != '_' {
			break
		}
		digit = digit || isDigit
	}
	if end < len(s) && !strings.ContainsRune(" ;,)]>", rune(s[end])) {
		return ""
	}
	id := strings.TrimRight(s[:end], ".")
	if !digit || len(id) < minRemoteID || len(id) > maxRemoteID {
		return ""
	}
	return id
}
