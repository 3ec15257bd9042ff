package content

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"tacet/relay"
)

// Signer puts DKIM signatures (RFC 6376) before what is submitted, with an
// Ed25519 key (RFC 8463) and an RSA key where the domain of From has both. It streams.
type Signer struct {
	keys   map[string][]Key // by domain, the newest first
	owners Owners
}

// NewSigner makes a signer of all keys there are, those to come included. What a
// logged-in user sends is signed only if the user may send as the address in From; nil owners: always.
func NewSigner(keys []Key, owners Owners) *Signer {
	s := &Signer{keys: make(map[string][]Key), owners: owners}
	for _, k := range keys {
		s.keys[k.Domain] = append(s.keys[k.Domain], k)
	}
	for domain := range maps.Keys(s.keys) {
		slices.SortStableFunc(s.keys[domain], func(a, b Key) int { return cmp.Or(b.Active.Compare(a.Active), cmp.Compare(a.Selector, b.Selector)) })
	}
	return s
}

// inForce picks the newest active key of each algorithm of the domain, or else of
// the nearest domain above it: DMARC takes that for aligned (RFC 9989 §3.2).
func (s *Signer) inForce(domain string, now time.Time) (picked []Key) {
	for domain != "" {
		for _, k := range s.keys[domain] {
			if !k.Active.After(now) && !slices.ContainsFunc(picked, func(p Key) bool { return p.Algorithm() == k.Algorithm() }) {
				picked = append(picked, k)
			}
		}
		if len(picked) > 0 {
			return picked
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return nil
}

// Check implements [relay.Check]. It refuses nothing: mail of a domain without a key,
// or of an author that the user may not send as, passes as it is.
func (s *Signer) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	author := soleAuthor(m.Header)
	keys := s.inForce(domainOf(author), time.Now())
	if user := m.Envelope.Origin.User; len(keys) == 0 || s.owners != nil && user != "" && !s.owners.MaySend(user, author) {
		return relay.Verdict{}, nil
	}
	added, err := sign(ctx, m, keys)
	return relay.Verdict{Added: added}, err
}

// sign makes a signature field for each key.
func sign(ctx context.Context, m *relay.Message, keys []Key) (added []byte, err error) {
	names := signedNames(m)
	signers := make([]*dkim.Signer, len(keys))
	writers := make([]io.Writer, len(keys))
	for i, k := range keys {
		signer, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: k.Domain, Selector: k.Selector, Signer: k.Signer, HeaderKeys: names,
			// The relaxed forms survive what next hops do to blanks; the simple one of the
			// library takes time quadratic in empty lines.
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
		})
		if err != nil {
			return nil, fmt.Errorf("begin a DKIM signature: %w", err)
		}
		defer func() { _ = signer.Close() }() // ends it after a failure; otherwise it has ended
		signers[i], writers[i] = signer, signer
	}
	if _, err := io.Copy(io.MultiWriter(writers...), bounded(ctx, m.Whole())); err != nil {
		return nil, fmt.Errorf("sign a message: %w", err)
	}
	for _, signer := range signers {
		if err := signer.Close(); err != nil {
			return nil, fmt.Errorf("end a DKIM signature: %w", err)
		}
		added = append(added, signer.Signature()...)
	}
	return added, nil
}

// soleAuthor is the one From address; empty where it is not clear who the
// author is: such mail is signed for nobody.
func soleAuthor(header []byte) string {
	author, fields := "", 0
	for f := range relay.Fields(header) {
		if !f.Is("from") {
			continue
		}
		fields++
		found, ok := addresses(f.Value)
		if !ok || len(found) != 1 {
			return ""
		}
		author = found[0]
	}
	if fields != 1 {
		return ""
	}
	return author
}

// signable are the fields that a signature covers (RFC 6376 §5.4.1), lower case.
// What next hops add or change on their way is not among them.
func signable() []string {
	return []string{
		"from", "sender", "reply-to", "subject", "date", "message-id", "to", "cc", "mime-version",
		"content-type", "content-transfer-encoding", "content-id", "content-description",
		"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
		"in-reply-to", "references", "list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post",
		"list-subscribe", "list-post", "list-owner", "list-archive", "autocrypt",
	}
}

// maxSigned is how many fields of one name a signature covers: h= is one line of
// the header, and has to stay one that everyone takes.
const maxSigned = 3

// signedNames is h=: each field that is there, and one From more than there are, so that a
// second one added on the way breaks the signature (RFC 6376 §8.15).
func signedNames(m *relay.Message) []string {
	counts := make(map[string]int)
	for _, block := range [][]byte{m.Added, m.Header} {
		for f := range relay.Fields(block) {
			counts[strings.ToLower(string(f.Name))]++
		}
	}
	names := []string{"From"}
	for _, name := range signable() {
		for range min(counts[name], maxSigned) {
			names = append(names, name)
		}
	}
	return names
}

// bounded is r until ctx ends.
func bounded(ctx context.Context, r io.Reader) io.Reader { return &boundedReader{ctx, r} }

type boundedReader struct {
	ctx context.Context
	r   io.Reader
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}
