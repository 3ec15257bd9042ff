package content

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Key is one DKIM key: whose mail it signs, and from when on.
type Key struct {
	Domain   string // d=: lower case, A-labels
	Selector string // s=
	Active   time.Time
	Signer   crypto.Signer // ed25519.PrivateKey or *rsa.PrivateKey
}

// Algorithm is the k= tag of the key: "rsa" or "ed25519".
func (k *Key) Algorithm() string {
	if _, ok := k.Signer.(ed25519.PrivateKey); ok {
		return "ed25519"
	}
	return "rsa"
}

// Weak tells whether the key is shorter than one should be today (RFC 8301 §3.2).
func (k *Key) Weak() bool {
	private, ok := k.Signer.(*rsa.PrivateKey)
	return ok && private.N.BitLen() < newRSA
}

// Name is where the key's record stands in the DNS.
func (k *Key) Name() string { return k.Selector + "._domainkey." + k.Domain }

// The sizes of RSA keys that are taken: what verifiers must accept (RFC 8301 §3.2).
const (
	minRSA = 1024
	maxRSA = 4096
	newRSA = 2048
)

// NewKey makes a private key, "rsa" (2048 bit) or "ed25519", as PEM.
func NewKey(algorithm string) ([]byte, error) {
	var private any
	var err error
	switch algorithm {
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, newRSA)
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, errors.New("a DKIM key is rsa or ed25519")
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads a private key: PKCS #8, or PKCS #1 as OpenDKIM makes them.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no private key in PEM")
	}
	var private any
	var err error
	if block.Type == "RSA PRIVATE KEY" {
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("not a private key, or an encrypted one")
	}
	switch key := private.(type) {
	case ed25519.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, newRSA, maxRSA)
		}
		return key, nil
	}
	return nil, errors.New("neither an RSA nor an Ed25519 key")
}

// Record is the key's TXT record (RFC 6376 §3.6.1, RFC 8463 §4).
func (k *Key) Record() (string, error) {
	var public []byte
	switch p := k.Signer.Public().(type) {
	case ed25519.PublicKey:
		public = p
	default:
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return "", fmt.Errorf("encode a public key: %w", err)
		}
		public = der
	}
	return "v=DKIM1; k=" + k.Algorithm() + "; p=" + base64.StdEncoding.EncodeToString(public), nil
}

// ZoneLine is the key's record as a line of a zone file. A TXT record is made of
// strings of 255 octets at most (RFC 1035 §3.3.14), which are joined when it is read.
func (k *Key) ZoneLine() (string, error) {
	record, err := k.Record()
	if err != nil {
		return "", err
	}
	var parts []string
	for len(record) > txtString {
		parts = append(parts, `"`+record[:txtString]+`"`)
		record = record[txtString:]
	}
	parts = append(parts, `"`+record+`"`)
	if len(parts) == 1 {
		return k.Name() + ". IN TXT " + parts[0], nil
	}
	return k.Name() + ". IN TXT ( " + strings.Join(parts, "\n\t") + " )", nil
}

// txtString is how long the strings of a TXT record are made: under the limit, so that no
// editor's own quoting breaks it.
const txtString = 250

// Published tells whether a TXT record of the DNS holds the key: nil, or what is
// different.
func (k *Key) Published(records []string) error {
	want, err := k.Record()
	if err != nil {
		return err
	}
	keys := 0
	for _, text := range records {
		tags := parseTags(text)
		if _, ok := tags["p"]; !ok || cmp.Or(tags["v"], "DKIM1") != "DKIM1" {
			continue
		}
		keys++
		switch {
		case tags["p"] == "":
			return errors.New("the record revokes the key: p= is empty")
		case tags["p"] != parseTags(want)["p"]:
			err = errors.New("the record has another key")
		case cmp.Or(tags["k"], "rsa") != k.Algorithm():
			err = errors.New("the record's k= is not " + k.Algorithm())
		default:
			err = nil
		}
	}
	switch {
	case keys == 0:
		return errors.New("no DKIM record there")
	case keys > 1:
		return errors.New("more than one record there: verifiers may take any of them")
	}
	return err
}

// parseTags reads a tag list (RFC 6376 §3.2), blanks within values left out. nil: it is none.
// Of a tag that stands twice the list is none.
func parseTags(text string) map[string]string {
	tags := make(map[string]string)
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if _, twice := tags[name]; !found || name == "" || twice {
			return nil
		}
		tags[name] = strings.Map(func(r rune) rune {
			if strings.ContainsRune(" \t\r\n", r) {
				return -1
			}
			return r
		}, value)
	}
	return tags
}
