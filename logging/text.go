package logging

import (
	"unicode"
	"unicode/utf8"
)

// ellipsis marks a text that was cut. It counts as one character.
const ellipsis = "…"

// plain tells whether s is printable ASCII of at most limit characters, and
// so stands in the log as it is.
func plain(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// appendVisible appends s to dst with everything that a terminal or a reader
// could be fooled by made visible, and cut to limit characters, of which an
// ellipsis is the last if something is missing. Text that went through it
// once goes through it unchanged. The work is bounded by limit, not by s.
func appendVisible(dst []byte, s string, limit int) (out []byte, cut bool) {
	var last int // where the character at limit-1 began, for the ellipsis
	count := 0
	for i := 0; i < len(s); {
		if n := plainRun(s[i:], limit-count); n > 0 { // the fast way
			dst = append(dst, s[i:i+n]...)
			last = len(dst) - 1
			count, i = count+n, i+n
			continue
		}
		start := len(dst)
		c := s[i]
		size := 1
		switch {
		case c >= 0x20 && c < 0x7f:
			dst = append(dst, c)
		case c < utf8.RuneSelf:
			dst = appendControl(dst, c)
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size <= 1:
				dst, size = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf]), 1
			case visible(r):
				dst = append(dst, s[i:i+size]...)
			default:
				dst = appendCodePoint(dst, r)
			}
		}
		width := 1
		if len(dst)-start > size { // escaped: ASCII characters
			width = len(dst) - start
		}
		if count+width > limit {
			if count == limit && limit > 0 { // full: the ellipsis takes the last one's place
				dst = dst[:last]
			} else {
				dst = dst[:start]
			}
			return append(dst, ellipsis...), true
		}
		count += width
		last = start
		i += size
	}
	return dst, false
}

// plainRun is how many printable ASCII characters s begins with, at most limit.
func plainRun(s string, limit int) int {
	n := min(len(s), max(limit, 0))
	for i := range n {
		if c := s[i]; c < 0x20 || c > 0x7e {
			return i
		}
	}
	return n
}

const hexDigits = "0123456789abcdef"

func appendControl(dst []byte, c byte) []byte {
	switch c {
	case '\r':
		return append(dst, '\\', 'r')
	case '\n':
		return append(dst, '\\', 'n')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf])
}

func appendCodePoint(dst []byte, r rune) []byte {
	digits, letter := 4, byte('u')
	if r > 0xffff {
		digits, letter = 8, 'U'
	}
	dst = append(dst, '\\', letter)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[r>>shift&0xf])
	}
	return dst
}

// visible tells whether a rune beyond ASCII may stand as it is: it draws
// something or is a space, and it neither turns the direction of what follows
// nor takes no room.
func visible(r rune) bool {
	switch {
	case r >= 0xa0 && r < 0x300: // Latin: the fast way
		return r != 0xad // soft hyphen
	case r >= 0x400 && r < 0x483, r >= 0x48a && r < 0x530, // Cyrillic
		r >= 0x3041 && r < 0x3097, r >= 0x30a0 && r < 0x3100, // kana
		r >= 0x4e00 && r < 0xa000, r >= 0xac00 && r < 0xd7a4: // Han, Hangul
		return true
	case ignorable(r):
		return false
	case r >= 0x1f000 && r < 0x1fb00: // pictographs, also those younger than our tables
		return true
	}
	return unicode.IsGraphic(r)
}

// ignorable tells of the code points that Unicode calls graphic and that draw
// nothing by themselves (Default_Ignorable_Code_Point less category Cf).
func ignorable(r rune) bool {
	switch r {
	case 0x34f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180c, 0x180d, 0x180f, 0x3164, 0xffa0, 0x1d159:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0000 && r <= 0xe0fff
}
