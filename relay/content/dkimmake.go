package content

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"tacet/relay"
)

// sign makes a signature field for each key, in the relaxed forms (RFC 6376 §3.4.2, §3.4.4), which survive
// what next hops do to blanks. Both the header and the body are read once, whatever the number of keys.
func sign(ctx context.Context, m *relay.Message, keys []Key, names []string, now time.Time) ([]byte, error) {
	body := relaxedBody{hash: sha256.New()}
	if _, err := io.CopyBuffer(&body, bounded(ctx, m.Body()), body.in[:]); err != nil {
		return nil, fmt.Errorf("sign a message: %w", err)
	}
	sum := base64.StdEncoding.EncodeToString(body.end())
	header := relaxedHeader(m, names)
	var added []byte
	for i := range keys {
		field, err := keys[i].field(header, names, sum, now)
		if err != nil {
			return nil, err
		}
		added = append(added, field...)
	}
	return added, nil
}

// field is one signature field, ready to be put before the message.
func (k *Key) field(header []byte, names []string, bodySum string, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=%s-sha256; c=relaxed/relaxed; d=%s;\r\n\ts=%s; t=%d;\r\n\th=", k.Algorithm(), k.Domain, k.Selector, now.Unix())
	for i, line := 0, 3; i < len(names); i++ {
		if line += len(names[i]) + 1; line > signatureLine {
			b.WriteString("\r\n\t ")
			line = len(names[i]) + 3
		}
		b.WriteString(strings.ToLower(names[i]))
		if i < len(names)-1 {
			b.WriteByte(':')
		}
	}
	fmt.Fprintf(&b, ";\r\n\tbh=%s;\r\n\tb=", bodySum)
	sum := sha256.New()
	sum.Write(header)
	own := relaxedField(nil, []byte("dkim-signature"), b.Bytes()[len("DKIM-Signature:"):])
	sum.Write(bytes.TrimSuffix(own, []byte("\r\n"))) // RFC 6376 §3.7
	digest, options := sum.Sum(nil), crypto.SignerOpts(crypto.SHA256)
	if _, ok := k.Signer.(ed25519.PrivateKey); ok {
		options = crypto.Hash(0) // it signs the digest as a message (RFC 8463 §3)
	}
	signature, err := k.Signer.Sign(rand.Reader, digest, options)
	if err != nil {
		return nil, fmt.Errorf("make a DKIM signature: %w", err)
	}
	for text := base64.StdEncoding.EncodeToString(signature); ; {
		n := min(len(text), signatureLine)
		b.WriteString(text[:n])
		if text = text[n:]; text == "" {
			break
		}
		b.WriteString("\r\n\t ")
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// signatureLine is about how long the lines of a signature become.
const signatureLine = 72

// relaxedHeader is the named fields as they are signed: of a name that is there more often
// from the last up, and nothing for one that is not there (RFC 6376 §5.4.2).
func relaxedHeader(m *relay.Message, names []string) []byte {
	fields := make(map[string][]relay.Field)
	for _, block := range [][]byte{m.Added, m.Header} {
		for f := range relay.Fields(block) {
			name := strings.ToLower(string(f.Name))
			fields[name] = append(fields[name], f)
		}
	}
	out := make([]byte, 0, 1024)
	for _, name := range names {
		name = strings.ToLower(name)
		if have := fields[name]; len(have) > 0 {
			out = relaxedField(out, []byte(name), have[len(have)-1].Value)
			fields[name] = slices.Delete(have, len(have)-1, len(have))
		}
	}
	return out
}

// relaxedField adds a field: blanks and line ends within its value are one blank each time.
func relaxedField(out, name, value []byte) []byte {
	out = append(append(out, name...), ':')
	blank, start := false, len(out)
	for _, c := range value {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			blank = true
			continue
		case blank && len(out) > start:
			out = append(out, ' ')
		}
		out, blank = append(out, c), false
	}
	return append(out, "\r\n"...)
}

// relaxedBody hashes a body of CRLF lines in its relaxed form, in pieces.
type relaxedBody struct {
	hash  hash.Hash
	in    [4 << 10]byte
	out   [2 << 10]byte
	n     int
	ends  int  // line ends that count if something follows
	blank bool // likewise
	cr    bool // a CR whose LF is to come
	some  bool // it is not empty
}

func (r *relaxedBody) Write(p []byte) (int, error) {
	for _, c := range p {
		if c == '\n' {
			r.ends, r.blank, r.cr = r.ends+1, false, false
			continue
		}
		if r.cr { // a bare one is as any other octet
			r.cr = false
			r.octet('\r')
		}
		switch c {
		case ' ', '\t':
			r.blank = true
		case '\r':
			r.cr = true
		default:
			r.octet(c)
		}
	}
	return len(p), nil
}

// octet adds an octet that counts, and what is due before it.
func (r *relaxedBody) octet(c byte) {
	for ; r.ends > 0; r.ends-- {
		r.put('\r')
		r.put('\n')
	}
	if r.blank {
		r.put(' ')
	}
	r.blank, r.some = false, true
	r.put(c)
}

func (r *relaxedBody) put(c byte) {
	if r.n == len(r.out) {
		r.hash.Write(r.out[:])
		r.n = 0
	}
	r.out[r.n] = c
	r.n++
}

// end returns the digest. Empty lines at the end do not count; a body that is not empty ends with one line end.
func (r *relaxedBody) end() []byte {
	if r.cr {
		r.octet('\r')
	}
	if r.some {
		r.put('\r')
		r.put('\n')
	}
	r.hash.Write(r.out[:r.n])
	return r.hash.Sum(nil)
}
