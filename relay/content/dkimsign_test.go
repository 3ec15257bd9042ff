package content

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"tacet/queue"
	"tacet/relay"
)

// zone is the DNS of a test: TXT records by name.
type zone map[string][]string

func (z zone) publish(t testing.TB, keys ...Key) {
	t.Helper()
	for _, k := range keys {
		record, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		z[k.Name()] = []string{record}
	}
}

func newKey(t testing.TB, domain, selector, algorithm string, active time.Time) Key {
	t.Helper()
	text, err := NewKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Domain: domain, Selector: selector, Active: active, Signer: signer}
}

func message(text string) *relay.Message {
	e := &queue.Envelope{Sender: "a@example.org", Origin: queue.Origin{Submission: true, User: "ann"}}
	return relay.NewMessage(e, &relay.Session{}, []byte(text))
}

const signedText = "From: Ann <a@example.org>\r\nTo: b@example.net\r\nSubject: hello\r\n\r\nbody  with blanks \r\n\r\n\r\n"

// signed is what the signer makes of the text, and how the signatures verify.
func signed(t *testing.T, s *Signer, z zone, text string, change func(string) string) []*dkim.Verification {
	t.Helper()
	v, err := s.Check(t.Context(), message(text))
	if err != nil || v.Rejection != nil {
		t.Fatal(err, v.Rejection)
	}
	whole := string(v.Added) + text
	if change != nil {
		whole = change(whole)
	}
	found, err := dkim.VerifyWithOptions(strings.NewReader(whole), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return z[name], nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSign(t *testing.T) {
	keys := []Key{newKey(t, "example.org", "e", "ed25519", time.Time{}), newKey(t, "example.org", "r", "rsa", time.Time{})}
	z := zone{}
	z.publish(t, keys...)
	s := NewSigner(keys, nil)
	for name, text := range map[string]string{
		"mail": signedText, "subdomain": strings.Replace(signedText, "@example.org", "@sub.Example.ORG", 1),
		"no body": "From: a@example.org\r\n\r\n", "large": signedText + strings.Repeat("line\r\n", 400000),
		"empty lines": signedText + strings.Repeat("\r\n", 500000),
	} {
		found := signed(t, s, z, text, nil)
		if len(found) != 2 || found[0].Err != nil || found[1].Err != nil {
			t.Errorf("%s: %+v", name, found)
		}
	}
	for name, change := range map[string]func(string) string{
		"second From": func(s string) string { return "From: evil@example.net\r\n" + s },
		"subject":     func(s string) string { return strings.Replace(s, "Subject: hello", "Subject: hell", 1) },
		"body":        func(s string) string { return strings.Replace(s, "body", "bodies", 1) },
	} {
		for _, v := range signed(t, s, z, signedText, change) {
			if v.Err == nil {
				t.Errorf("%s changed, and the signature still verifies", name)
			}
		}
	}
	blanks := func(s string) string { return strings.Replace(s, "with blanks ", "with   blanks", 1) }
	for _, v := range signed(t, s, z, signedText, blanks) {
		if v.Err != nil {
			t.Errorf("blanks changed: %v", v.Err)
		}
	}
}

// Nobody is signed for who is not clearly the author.
func TestSignWhom(t *testing.T) {
	s := NewSigner([]Key{newKey(t, "example.org", "e", "ed25519", time.Time{})}, nil)
	for _, from := range []string{
		"From: a@example.net\r\n", "From: a@example.org, b@example.net\r\n", "From: a@example.org\r\nFrom: b@example.net\r\n",
		"From: a@example.org <b@example.net>\r\n", "From: a@notexample.org\r\n", "From: \"a@example.org\" <b@example.net>\r\n", "Subject: x\r\n",
		"From: a@org\r\n",
	} {
		v, err := s.Check(t.Context(), message(from+"\r\nbody\r\n"))
		if err != nil || v.Added != nil || v.Rejection != nil {
			t.Errorf("%q: %q, %v", from, v.Added, err)
		}
	}
}

func TestKeyRotation(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	s := NewSigner([]Key{
		newKey(t, "example.org", "old", "ed25519", time.Time{}),
		newKey(t, "example.org", "new", "ed25519", now),
		newKey(t, "sub.example.org", "sub", "ed25519", now),
	}, nil)
	for _, c := range []struct {
		domain string
		at     time.Time
		want   string
	}{
		{"example.org", now.Add(-time.Second), "old"}, {"example.org", now, "new"},
		{"sub.example.org", now.Add(-time.Second), "old"}, {"sub.example.org", now, "sub"}, {"a.sub.example.org", now, "sub"},
	} {
		if got := s.inForce(c.domain, c.at); len(got) != 1 || got[0].Selector != c.want {
			t.Errorf("%s at %v: %v", c.domain, c.at, got)
		}
	}
}

// A message that cannot be read to its end is not signed, and leaves nothing running.
func TestSignCancelled(t *testing.T) {
	s := NewSigner([]Key{newKey(t, "example.org", "e", "ed25519", time.Time{})}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := s.Check(ctx, message(signedText)); err == nil || v.Added != nil {
		t.Errorf("got %q, %v", v.Added, err)
	}
}

func TestZoneLine(t *testing.T) {
	for _, algorithm := range []string{"rsa", "ed25519"} {
		k := newKey(t, "example.org", "s", algorithm, time.Time{})
		line, err := k.ZoneLine()
		if err != nil || !strings.HasPrefix(line, "s._domainkey.example.org. IN TXT ") {
			t.Fatalf("%q, %v", line, err)
		}
		var joined strings.Builder
		for i, part := range strings.Split(line, `"`) {
			if i%2 == 1 {
				if joined.WriteString(part); len(part) > 255 {
					t.Errorf("a string of %d octets", len(part))
				}
			}
		}
		if err := k.Published([]string{joined.String()}); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestPublished(t *testing.T) {
	k, other := newKey(t, "example.org", "s", "ed25519", time.Time{}), newKey(t, "example.org", "s", "ed25519", time.Time{})
	record, _ := k.Record()
	wrong, _ := other.Record()
	for name, c := range map[string]struct {
		texts []string
		ok    bool
	}{
		"there": {[]string{record}, true}, "with blanks": {[]string{strings.ReplaceAll(record, ";", " ; ")}, true}, "beside another text": {[]string{"x", record}, true},
		"missing": {nil, false}, "no key": {[]string{"v=spf1 -all"}, false}, "another": {[]string{wrong}, false}, "two": {[]string{record, wrong}, false},
		"revoked": {[]string{"v=DKIM1; p="}, false}, "other type": {[]string{strings.Replace(record, "ed25519", "rsa", 1)}, false},
	} {
		if err := k.Published(c.texts); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseKey(t *testing.T) {
	old, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(old)})
	signer, err := ParseKey(pkcs1)
	if err != nil || !(&Key{Signer: signer}).Weak() {
		t.Errorf("PKCS #1: %v", err)
	}
	for name, text := range map[string][]byte{"nothing": nil, "no PEM": []byte("x"), "cut": bytes.Replace(pkcs1, []byte("\n"), []byte("\nAAAA"), 1)} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s := NewSigner([]Key{newKey(b, "example.org", "e", "ed25519", time.Time{}), newKey(b, "example.org", "r", "rsa", time.Time{})}, nil)
	text := signedText + strings.Repeat("a line of a message, as long as most are\r\n", 120)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if v, err := s.Check(b.Context(), message(text)); err != nil || len(v.Added) == 0 {
			b.Fatal(err)
		}
	}
}
