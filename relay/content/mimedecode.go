package content

import (
	"bytes"
	"fmt"
)

// decoder undoes a transfer encoding line by line.
type decoder interface {
	// line takes the content of a line, or, with content false, its line end.
	// What it returns is good until the next call.
	line(b []byte, content bool) ([]byte, error)
	end() ([]byte, error)
}

func newDecoder(encoding string) decoder {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return &quotedDecoder{}
	}
	return plainDecoder{}
}

type plainDecoder struct{}

func (plainDecoder) line(b []byte, _ bool) ([]byte, error) { return b, nil }
func (plainDecoder) end() ([]byte, error)                  { return nil, nil }

// base64Decoder takes what every decoder takes alike: the alphabet, blanks, and
// padding at the very end.
type base64Decoder struct {
	bits   uint32
	n      int // octets of the alphabet in bits
	padded int
	out    []byte
}

func (d *base64Decoder) line(b []byte, content bool) ([]byte, error) {
	d.out = d.out[:0]
	if !content {
		return nil, nil
	}
	for _, c := range b {
		v := base64Value(c)
		switch {
		case c == ' ' || c == '\t':
		case c == '=' && d.n >= 2 && d.padded < 4-d.n:
			d.padded++
		case v < 0 || d.padded > 0:
			return nil, fmt.Errorf("base64 that not all read alike: %w", errAmbiguous)
		default:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				d.out = append(d.out, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.bits, d.n = 0, 0
			}
		}
	}
	return d.out, nil
}

func (d *base64Decoder) end() ([]byte, error) {
	switch d.n {
	case 2:
		return []byte{byte(d.bits >> 4)}, nil
	case 3:
		return []byte{byte(d.bits >> 10), byte(d.bits >> 2)}, nil
	}
	return nil, nil
}

func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// quotedDecoder undoes quoted-printable. An "=" that begins nothing stands for itself,
// as most clients have it.
type quotedDecoder struct {
	soft bool
	out  []byte
}

func (d *quotedDecoder) line(b []byte, content bool) ([]byte, error) {
	if !content {
		if d.soft {
			d.soft = false
			return nil, nil
		}
		return b, nil
	}
	d.out = d.out[:0]
	b = bytes.TrimRight(b, " \t") // RFC 2045 §6.7 (3)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != '=':
			d.out = append(d.out, b[i])
		case i == len(b)-1:
			d.soft = true
		case i+2 < len(b) && hexValue(b[i+1]) >= 0 && hexValue(b[i+2]) >= 0:
			d.out = append(d.out, byte(hexValue(b[i+1])<<4|hexValue(b[i+2])))
			i += 2
		default:
			d.out = append(d.out, '=')
		}
	}
	return d.out, nil
}

func (d *quotedDecoder) end() ([]byte, error) { return nil, nil }

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// Kind is what a part is by its first octets.
type Kind uint8

// The kinds of parts.
const (
	KindOther   Kind = iota
	KindProgram      // Windows, ELF, Mach-O
	KindScript       // begins with "#!", or is a Windows shortcut
	KindArchive      // zip and what is made of it, rar, 7z, gzip, xz, bzip2, cab, ISO images
	KindOffice       // the old office formats, which hold macros
	KindPDF          //
	KindImage        // PNG, JPEG, GIF
	KindRTF          //
)

// Kinds are the names of the kinds in the config, by their value.
func Kinds() []string {
	return []string{"other", "program", "script", "archive", "office", "pdf", "image", "rtf"}
}

// magic are the first octets of each kind.
func magic() []struct {
	kind   Kind
	prefix string
} {
	return []struct {
		kind   Kind
		prefix string
	}{
		{KindProgram, "MZ"}, {KindProgram, "\x7fELF"}, {KindProgram, "\xfe\xed\xfa\xce"}, {KindProgram, "\xfe\xed\xfa\xcf"},
		{KindProgram, "\xce\xfa\xed\xfe"}, {KindProgram, "\xcf\xfa\xed\xfe"}, {KindProgram, "\xca\xfe\xba\xbe"},
		{KindScript, "#!"}, {KindScript, "L\x00\x00\x00\x01\x14\x02\x00"},
		{KindArchive, "PK\x03\x04"}, {KindArchive, "PK\x05\x06"}, {KindArchive, "Rar!\x1a\x07"}, {KindArchive, "7z\xbc\xaf\x27\x1c"},
		{KindArchive, "\x1f\x8b"}, {KindArchive, "\xfd7zXZ\x00"}, {KindArchive, "BZh"}, {KindArchive, "MSCF"}, {KindArchive, "\x28\xb5\x2f\xfd"},
		{KindOffice, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"},
		{KindPDF, "%PDF-"}, {KindRTF, "{\\rt"},
		{KindImage, "\x89PNG\r\n\x1a\n"}, {KindImage, "\xff\xd8\xff"}, {KindImage, "GIF8"},
	}
}

func kindOf(begin []byte) Kind {
	begin = bytes.TrimPrefix(begin, []byte("\xef\xbb\xbf"))
	for _, m := range magic() {
		if bytes.HasPrefix(begin, []byte(m.prefix)) {
			return m.kind
		}
	}
	return KindOther
}
