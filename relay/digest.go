package relay

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"hash"
	"strings"
)

// Digest is all that an outside service is told of an attachment or a link: its SHA-256.
// A [Digester] alone makes one, so that nothing that was not hashed can stand in its
// place, however short it is.
type Digest struct{ sum [sha256.Size]byte }

// Label is the digest as lists of hashes have it in a DNS name: 52 letters and digits,
// base32 without padding.
func (d Digest) Label() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(d.sum[:]))
}

// Digester makes a [Digest] of what is written to it. Writing does not fail.
type Digester struct{ hash hash.Hash }

// NewDigester makes a digester that has seen nothing.
func NewDigester() Digester { return Digester{sha256.New()} }

// Write implements io.Writer.
func (d Digester) Write(p []byte) (int, error) { return d.hash.Write(p) }

// Digest is the digest of what was written so far.
func (d Digester) Digest() (sum Digest) {
	d.hash.Sum(sum.sum[:0])
	return sum
}

// TextDigest is all that a Pyzor server is told of a text: a SHA-1, which is what the
// servers know texts by. A [TextDigester] alone makes one.
type TextDigest struct{ sum [sha1.Size]byte }

// Hex is the digest as Pyzor has it: 40 hexadecimal digits.
func (d TextDigest) Hex() string { return hex.EncodeToString(d.sum[:]) }

// TextDigester makes a [TextDigest] of what is written to it. Writing does not fail.
type TextDigester struct{ hash hash.Hash }

// NewTextDigester makes a digester that has seen nothing.
func NewTextDigester() TextDigester { return TextDigester{sha1.New()} }

// Write implements io.Writer.
func (d TextDigester) Write(p []byte) (int, error) { return d.hash.Write(p) }

// Digest is the digest of what was written so far.
func (d TextDigester) Digest() (sum TextDigest) {
	d.hash.Sum(sum.sum[:0])
	return sum
}
