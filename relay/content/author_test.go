package content

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// owners are addresses by user.
type owners map[string][]string

func (o owners) MaySend(user, address string) bool {
	for _, own := range o[user] {
		if strings.EqualFold(own, address) {
			return true
		}
	}
	return false
}

var ann = owners{"ann": {"a@example.org", "info@example.org", `"a b"@example.org`}}

func TestAuthor(t *testing.T) {
	const rest = "To: b@example.net\r\nSubject: x\r\n"
	for header, code := range map[string]int{
		"From: a@example.org\r\n":                                                                 0,
		"from : Ann <A@Example.org> (x)\r\n":                                                      0,
		"From: a@example.org, info@example.org\r\nSender: info@example.org\r\n":                   0,
		"From: \"b@evil.example\"\r\n <a@example.org>\r\n":                                        0,
		"From: \"a b\"@example.org\r\n":                                                           0,
		"From: us: a@example.org, info@example.org;\r\n":                                          0,
		"From: a@example.org\r\nReply-To: b@evil.example\r\n":                                     0,
		"From: b@example.org\r\n":                                                                 550,
		"From: a@example.org <b@example.org>\r\n":                                                 550,
		"From: <@a@example.org:b@example.org>\r\n":                                                550,
		"From: a@example.org, b@example.org\r\nSender: a@example.org\r\n":                         550,
		"From: a@example.org\r\nSender: b@example.org\r\n":                                        550,
		"Sender: a@example.org\r\nFROM: b@example.org\r\n":                                        550,
		"From: a@example.org\r\nResent-From: b@evil.example\r\nResent-Sender: b@evil.example\r\n": 0,
		"From: b@evil.example\r\nResent-From: a@example.org\r\nResent-Sender: a@example.org\r\n":  550,
		"Resent-From: a@example.org\r\n":                                                          554,
		"":                                                                                        554,
		"Sender: a@example.org\r\n":                                                               554,
		"From: a@example.org\r\nFrom: b@example.org\r\n":                                          554,
		"From: a@example.org\r\nFrom : a@example.org\r\n":                                         554,
		"From: a@example.org\r\nSender: a@example.org\r\nSender: a@example.org\r\n":               554,
		"From: a@example.org\r\nSender: a@example.org, info@example.org\r\n":                      554,
		"From:\r\n":               554,
		"From: undisclosed:;\r\n": 554,
		"From: Ann\r\n":           554,
		"From: <a@example.org> <b@example.org>\r\n":                                  554,
		"From: a@example.org b@example.org\r\n":                                      554,
		"From: a@example.org\x00b@example.org\r\n":                                   554,
		"From: <a@example.org\r\n":                                                   554,
		"From: a@b@example.org\r\n":                                                  554,
		"no field\r\nFrom: a@example.org\r\n":                                        554,
		"From: a@example.org\r\nno field\r\n":                                        554,
		"From: " + strings.Repeat("(", 70_000) + " a@example.org\r\n":                554,
		"From: " + strings.Repeat("a@example.org,\r\n ", 3000) + "b@example.org\r\n": 550,
	} {
		refused := new(atomic.Int64)
		check := &Author{Owners: ann, Refused: refused}
		for _, text := range []string{header + rest, rest + header} {
			if strings.HasPrefix(header, "no field") && !strings.HasPrefix(text, rest) {
				continue // such a message has no header at all, which is another matter
			}
			v, err := check.Check(t.Context(), message(text+"\r\nFrom: b@evil.example\r\n"))
			got := 0
			if v.Rejection != nil {
				got = v.Rejection.Code
				if v.Rejection.Class == relay.ClassContent || strings.Contains(v.Rejection.Text, "example") {
					t.Errorf("%.60q: header fields would be on record: %+v", header, v.Rejection)
				}
			}
			if got != code || err != nil {
				t.Errorf("%.60q: %d, %v; want %d", header, got, err, code)
			}
		}
		if (refused.Load() > 0) != (code != 0) {
			t.Errorf("%.60q: %d are counted", header, refused.Load())
		}
	}
}

// A client that needs no login says what it likes; a null reverse-path frees no user.
func TestAuthorOfWhom(t *testing.T) {
	check := &Author{Owners: ann}
	for user, want := range map[string]bool{"": true, "ann": false} {
		e := &queue.Envelope{Origin: queue.Origin{Submission: true, User: user}}
		v, err := check.Check(t.Context(), relay.NewMessage(e, &relay.Session{}, []byte("From: b@example.org\r\n\r\n")))
		if (v.Rejection == nil) != want || err != nil {
			t.Errorf("%q: %v, %v", user, v.Rejection, err)
		}
	}
}

// Nothing is signed in the name of an author whom the user may not send as.
func TestSignForOwnersAlone(t *testing.T) {
	s := NewSigner([]Key{newKey(t, "example.org", "e", "ed25519", time.Time{})}, ann)
	for from, want := range map[string]bool{
		"a@example.org": true, "Ann <info@example.org>": true, "b@example.org": false, "a@sub.example.org": false,
		"a@example.org, b@example.org": false, "a@example.org\r\nFrom: a@example.org": false,
	} {
		v, err := s.Check(t.Context(), message("From: "+from+"\r\nSubject: x\r\n\r\nx\r\n"))
		if err != nil || v.Rejection != nil || (len(v.Added) > 0) != want {
			t.Errorf("%q: %q, %v, want signed %v", from, v.Added, err, want)
		}
	}
	e := &queue.Envelope{Origin: queue.Origin{Submission: true}}
	v, err := s.Check(t.Context(), relay.NewMessage(e, &relay.Session{}, []byte("From: b@example.org\r\n\r\nx\r\n")))
	if err != nil || len(v.Added) == 0 {
		t.Errorf("of a trusted network: %q, %v", v.Added, err)
	}
}

// For whatever header: a message passes only if all that [addresses] sees in it is the user's.
func FuzzAuthor(f *testing.F) {
	f.Add([]byte("From: a@example.org\r\nSender: info@example.org\r\n"))
	f.Add([]byte("From: x: a@example.org, \"b\" <info@example.org>;\r\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		m := message(string(header) + "\r\n")
		v, err := (&Author{Owners: ann}).Check(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		authors, clear := authorsOf(m.Header)
		mine := clear && len(authors) > 0
		for _, a := range authors {
			mine = mine && ann.MaySend("ann", a)
		}
		if (v.Rejection == nil) != mine {
			t.Fatalf("%q: %v, authors %q", header, v.Rejection, authors)
		}
		if author := soleAuthor(m.Header); v.Rejection == nil && author != "" && !ann.MaySend("ann", author) {
			t.Fatalf("%q passes, and would be signed for %q", header, author)
		}
	})
}

func BenchmarkAuthor(b *testing.B) {
	check := &Author{Owners: ann}
	m := message("Received: by x\r\nFrom: Ann <a@example.org>\r\nTo: b@example.net\r\nSubject: hello\r\nMIME-Version: 1.0\r\nMessage-ID: <x@example.org>\r\n\r\nx\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if v, err := check.Check(b.Context(), m); err != nil || v.Rejection != nil {
			b.Fatal(err)
		}
	}
}
