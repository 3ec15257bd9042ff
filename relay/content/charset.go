package content

import (
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

// charset is the encoding of that name; nil for ASCII and for what nobody knows.
func charset(name string) encoding.Encoding {
	switch name {
	case "", "us-ascii", "ascii":
		return nil
	case "utf-8", "utf8":
		return unicode.UTF8
	}
	e, err := ianaindex.MIME.Encoding(name)
	if err != nil {
		return nil
	}
	return e
}
