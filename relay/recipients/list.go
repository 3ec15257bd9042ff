package recipients

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"tacet/queue"
)

// A list is a few lines of text, an empty line, the sorted hashes and the signature
// over all that stands before it:
//
//	tacet recipients 1
//	date: 2026-11-23T20:00:00Z
//	domains: example.org example.net
//	delimiters: +
//	case: fold
//	entries: 2
//
//	<16 octets for each entry><64 octets of Ed25519>
//
// An entry is a mailbox, or "@" and a domain that takes mail to every mailbox.
const (
	magic    = "tacet recipients 1\n"
	hashSize = 16
	maxHead  = 1 << 20
)

// MaxList is the most octets that a list may have: some four million recipients.
const MaxList = 64 << 20

// Options say how the primary reads an address.
type Options struct {
	Delimiters string // each ends the part of a local part that names the mailbox: "+" or "+-"; empty: none
	KeepCase   bool   // "Anna" and "anna" are two mailboxes
}

// List is a list of recipients as it was opened.
type List struct {
	Date    time.Time
	Options Options

	domains map[string]bool
	hashes  []byte
	key     HashKey
}

// The errors of Open.
var (
	ErrSignature = errors.New("the list is not signed by the primary's key")
	ErrFormat    = errors.New("the list is damaged, or of another version")
)

// Build makes a list of entries, signed and dated.
func Build(key SignKey, entries []string, o Options, date time.Time) ([]byte, error) {
	domains := make(map[string]bool)
	hashes := make([][hashSize]byte, 0, len(entries))
	for _, entry := range entries {
		local, domain, ok := parts(entry, o)
		if !ok {
			return nil, fmt.Errorf("entry %d is neither an address nor \"@\" and a domain", len(hashes)+1)
		}
		domains[domain] = true
		hashes = append(hashes, key.Hash.of(local, domain))
	}
	slices.SortFunc(hashes, func(a, b [hashSize]byte) int { return bytes.Compare(a[:], b[:]) })
	hashes = slices.Compact(hashes)
	names := make([]string, 0, len(domains))
	for name := range domains {
		names = append(names, name)
	}
	slices.Sort(names)
	letters := "fold"
	if o.KeepCase {
		letters = "keep"
	}
	out := fmt.Appendf([]byte(magic), "date: %s\ndomains: %s\ndelimiters: %s\ncase: %s\nentries: %d\n\n",
		date.UTC().Format(time.RFC3339), strings.Join(names, " "), o.Delimiters, letters, len(hashes))
	for i := range hashes {
		out = append(out, hashes[i][:]...)
	}
	out = append(out, ed25519.Sign(ed25519.NewKeyFromSeed(key.Seed[:]), out)...)
	if len(out) > MaxList {
		return nil, fmt.Errorf("a list of %d recipients is larger than %d octets", len(hashes), MaxList)
	}
	return out, nil
}

// Open reads a list and checks its signature before anything else.
func Open(key VerifyKey, b []byte) (*List, error) {
	if len(b) > MaxList || len(b) < len(magic)+ed25519.SignatureSize {
		return nil, ErrFormat
	}
	body, signature := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	if !ed25519.Verify(key.Public[:], body, signature) {
		return nil, ErrSignature
	}
	head, hashes, found := bytes.Cut(body, []byte("\n\n"))
	rest, ok := strings.CutPrefix(string(head)+"\n", magic)
	if !found || !ok || len(head) > maxHead {
		return nil, ErrFormat
	}
	l := &List{domains: make(map[string]bool), key: key.Hash, hashes: hashes}
	entries := -1
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		var err error
		switch name {
		case "date":
			l.Date, err = time.Parse(time.RFC3339, value)
		case "domains":
			for domain := range strings.FieldsSeq(value) {
				l.domains[domain] = true
			}
		case "delimiters":
			l.Options.Delimiters = value
		case "case":
			l.Options.KeepCase = value == "keep"
		case "entries":
			entries, err = strconv.Atoi(value)
		}
		if err != nil {
			return nil, ErrFormat
		}
	}
	if entries < 0 || len(hashes) != entries*hashSize {
		return nil, ErrFormat
	}
	return l, nil
}

// Len is how many entries the list has.
func (l *List) Len() int { return len(l.hashes) / hashSize }

// Covers tells whether the list speaks for the domain of a mailbox.
func (l *List) Covers(to queue.ForwardPath) bool {
	_, domain, ok := parts(string(to), l.Options)
	return ok && l.domains[domain]
}

// Has tells whether the list has a mailbox: itself, without what follows a
// delimiter, or by an entry that stands for its whole domain.
func (l *List) Has(to queue.ForwardPath) bool {
	local, domain, ok := parts(string(to), l.Options)
	if !ok {
		return false
	}
	if l.holds(l.key.of(local, domain)) || l.holds(l.key.of("", domain)) {
		return true
	}
	for i, c := range local {
		if i > 0 && strings.ContainsRune(l.Options.Delimiters, c) && l.holds(l.key.of(local[:i], domain)) {
			return true
		}
	}
	return false
}

func (l *List) holds(hash [hashSize]byte) bool {
	n := l.Len()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(l.hashes[i*hashSize:(i+1)*hashSize], hash[:]) >= 0 })
	return i < n && bytes.Equal(l.hashes[i*hashSize:(i+1)*hashSize], hash[:])
}

// parts are a mailbox's local part and domain in the one form that is hashed.
func parts(mailbox string, o Options) (local, domain string, ok bool) {
	at := strings.LastIndexByte(mailbox, '@')
	if at < 0 {
		return "", "", false
	}
	local, domain = mailbox[:at], strings.TrimSuffix(mailbox[at+1:], ".")
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil { // U-labels and A-labels name the same domain
		domain = ascii
	}
	domain = strings.ToLower(domain)
	if n := len(local); n >= 2 && local[0] == '"' && local[n-1] == '"' {
		local = unquote(local[1 : n-1])
	}
	if !o.KeepCase {
		local = strings.ToLower(local)
	}
	return local, domain, domain != "" && !strings.ContainsAny(domain, " \t\r\n@")
}

// unquote takes the backslashes of a quoted string away (RFC 5321 §4.1.2).
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// of is the hash of a mailbox in its one form.
func (k HashKey) of(local, domain string) (out [hashSize]byte) {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte(local))
	mac.Write([]byte{'@'})
	mac.Write([]byte(domain))
	copy(out[:], mac.Sum(nil))
	return out
}

// Newer orders two lists by their dates.
func Newer(a, b *List) bool { return b == nil || cmp.Compare(a.Date.Unix(), b.Date.Unix()) > 0 }
