package content

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"tacet/relay"
)

// maxNameLength is how much of a file name is looked at; longer ones are refused.
const maxNameLength = 1024

// partHeader is what the header of a message or part says of its body.
type partHeader struct {
	kind     string // media type
	boundary string
	encoding string
	charset  string
	names    []string
}

// readPartHeader reads the MIME fields of a header block. What readers disagree
// about is errAmbiguous: fields and parameters that stand twice, lines that are no field,
// control characters, encodings that nobody knows.
func readPartHeader(block []byte) (h partHeader, err error) {
	h.kind, h.encoding = "text/plain", "7bit"
	var seen [3]bool
	once := func(i int) error {
		if seen[i] {
			return fmt.Errorf("a MIME field that stands twice: %w", errAmbiguous)
		}
		seen[i] = true
		return nil
	}
	for f := range relay.Fields(block) {
		switch {
		case len(f.Name) == 0:
			if bytes.HasPrefix(f.Raw, []byte("From ")) || bytes.HasPrefix(f.Raw, []byte(">From ")) {
				continue
			}
			return h, fmt.Errorf("a line in a header that is no field: %w", errAmbiguous)
		case f.Is("content-type"):
			if err = once(0); err == nil {
				err = h.contentType(&f)
			}
		case f.Is("content-transfer-encoding"):
			if err = once(1); err == nil {
				h.encoding = strings.ToLower(stripComments(string(f.Unfolded())))
				err = exactName(&f)
			}
		case f.Is("content-disposition"):
			if err = once(2); err == nil {
				err = h.disposition(&f)
			}
		}
		if err != nil {
			return h, err
		}
	}
	return h, h.consistent()
}

// exactName refuses blanks between the name and the colon: some take it for no field.
func exactName(f *relay.Field) error {
	if len(f.Raw) <= len(f.Name) || f.Raw[len(f.Name)] != ':' {
		return fmt.Errorf("a MIME field with blanks before its colon: %w", errAmbiguous)
	}
	return nil
}

func (h *partHeader) consistent() error {
	composite := strings.HasPrefix(h.kind, "multipart/") || strings.HasPrefix(h.kind, "message/")
	switch h.encoding {
	case "7bit", "8bit", "binary":
	case "base64", "quoted-printable":
		if composite && h.kind != "message/global" && h.kind != "message/delivery-status" && h.kind != "message/disposition-notification" {
			return fmt.Errorf("an encoded multipart (RFC 2045 §6.4): %w", errAmbiguous)
		}
		if h.kind == "message/global" {
			return fmt.Errorf("an encoded message: %w", errAmbiguous)
		}
	default:
		return fmt.Errorf("a transfer encoding that nobody knows: %w", errAmbiguous)
	}
	if strings.HasPrefix(h.kind, "multipart/") && (h.boundary == "" || len(h.boundary) > 70 || strings.TrimRight(h.boundary, " \t") != h.boundary) {
		return fmt.Errorf("a multipart without a usable boundary (RFC 2046 §5.1.1): %w", errAmbiguous)
	}
	return nil
}

func (h *partHeader) contentType(f *relay.Field) error {
	kind, params, err := parameters(f)
	if err != nil {
		return err
	}
	major, minor, ok := strings.Cut(strings.ToLower(kind), "/")
	if !ok || major == "" || minor == "" || strings.ContainsAny(kind, " \t\"<>@,") {
		if kind != "text" && kind != "" { // what old programs write
			return fmt.Errorf("a Content-Type that is none: %w", errAmbiguous)
		}
		major, minor = "text", "plain"
	}
	h.kind = major + "/" + minor
	h.boundary = params["boundary"]
	h.charset = strings.ToLower(params["charset"])
	return h.takeNames(params, "name")
}

func (h *partHeader) disposition(f *relay.Field) error {
	_, params, err := parameters(f)
	if err != nil {
		return err
	}
	return h.takeNames(params, "filename")
}

// parameters reads "value; name=value; …". A parameter that stands twice is refused.
func parameters(f *relay.Field) (value string, params map[string]string, err error) {
	if err := exactName(f); err != nil {
		return "", nil, err
	}
	text := stripComments(string(f.Unfolded()))
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "", nil, fmt.Errorf("control characters in a MIME field: %w", errAmbiguous)
	}
	value, rest, more := strings.Cut(text, ";")
	params = make(map[string]string)
	for more {
		var name, v string
		name, v, rest, more, err = parameter(rest)
		if err != nil {
			return "", nil, err
		}
		if name == "" {
			continue
		}
		if _, twice := params[name]; twice {
			return "", nil, fmt.Errorf("a MIME parameter that stands twice: %w", errAmbiguous)
		}
		params[name] = v
	}
	return strings.TrimSpace(value), params, nil
}

// parameter reads one "name=value" up to its semicolon.
func parameter(text string) (name, value, rest string, more bool, err error) {
	name, after, found := strings.Cut(text, "=")
	if semicolon := strings.IndexByte(name, ';'); semicolon >= 0 || !found {
		_, rest, more = strings.Cut(text, ";")
		return "", "", rest, more, nil // a word without a value
	}
	name = strings.ToLower(strings.TrimSpace(name))
	after = strings.TrimLeft(after, " \t")
	if !strings.HasPrefix(after, `"`) {
		value, rest, more = strings.Cut(after, ";")
		value = strings.TrimSpace(value)
		if strings.Contains(value, `"`) {
			err = fmt.Errorf("a quote within a MIME parameter: %w", errAmbiguous)
		}
		return name, value, rest, more, err
	}
	var b strings.Builder
	for i := 1; i < len(after); i++ {
		switch after[i] {
		case '\\':
			if i++; i < len(after) {
				b.WriteByte(after[i])
			}
		case '"':
			behind, rest, more := strings.Cut(after[i+1:], ";")
			if strings.TrimSpace(behind) != "" {
				return "", "", "", false, fmt.Errorf("text behind a quoted MIME parameter: %w", errAmbiguous)
			}
			return name, b.String(), rest, more, nil
		default:
			b.WriteByte(after[i])
		}
	}
	return "", "", "", false, fmt.Errorf("a quote that does not end: %w", errAmbiguous)
}

// takeNames notes a file name in each of its forms: as it stands, with encoded words
// (RFC 2047, as clients do though they must not), and split or encoded by RFC 2231.
func (h *partHeader) takeNames(params map[string]string, base string) error {
	add := func(name string) {
		name = strings.ToLower(strings.TrimRight(name, " ."))
		plain := strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Cf, r) || unicode.IsControl(r) {
				return -1 // bidi overrides make "exe.fdp" of "pdf.exe"
			}
			return r
		}, name)
		for _, n := range []string{name, plain} {
			if n != "" && len(h.names) < maxNames && !slices.Contains(h.names, n) {
				h.names = append(h.names, n)
			}
		}
	}
	var joined strings.Builder
	encoded := false
	for i := range 100 {
		v, ok := params[fmt.Sprintf("%s*%d", base, i)]
		if e, star := params[fmt.Sprintf("%s*%d*", base, i)]; star {
			v, ok, encoded = e, true, true
		}
		if !ok {
			break
		}
		joined.WriteString(v)
	}
	forms := []string{params[base]}
	forms = append(forms, decodeWords(params[base]), joined.String(), extended(params[base+"*"]))
	if encoded {
		forms = append(forms, extended(joined.String()))
	}
	for _, name := range forms {
		if len(name) > maxNameLength {
			return fmt.Errorf("a file name of more than %d octets: %w", maxNameLength, errTooDeep)
		}
		add(name)
	}
	return nil
}

// extended undoes charset'language'%XX (RFC 2231 §4).
func extended(s string) string {
	if parts := strings.SplitN(s, "'", 3); len(parts) == 3 {
		s = parts[2]
	}
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// stripComments takes out what stands in parentheses outside of quotes (RFC 2045 §5.1).
func stripComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0 && !quoted:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	return strings.TrimSpace(b.String())
}

// decodeWords reads encoded words (RFC 2047). Of a charset that is unknown here the octets stand for
// themselves, without those that are zero: what matters in a name is ASCII in almost all of them, and mail
// programs know more charsets.
func decodeWords(s string) string {
	d := mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) {
		b, err := io.ReadAll(r) // of a string in memory
		return bytes.NewReader(bytes.ReplaceAll(b, []byte{0}, nil)), err
	}}
	decoded, err := d.DecodeHeader(s)
	if err != nil {
		return s
	}
	return decoded
}
