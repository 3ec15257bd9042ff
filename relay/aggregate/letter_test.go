package aggregate

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestLetter reads a letter as a mail program would.
func TestLetter(t *testing.T) {
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	l := Letter{
		From: "a@relay.example.org", To: "b@example.net", ID: "1@relay.example.org", Domain: "example.net", Host: "relay.example.org", Begin: begin,
		Fields: []string{"X-One: 1", "X-Two: 2"}, Type: `multipart/report; report-type="tlsrpt"`, Text: "For\r\nyou.",
		Part: "application/x", Ending: ".gz", Packed: bytes.Repeat([]byte{0, 1, 255}, 100),
	}
	text := l.Message(begin.Add(30 * time.Hour))
	if bytes.Count(text, []byte("\n")) != bytes.Count(text, []byte("\r\n")) || !bytes.Contains(text, []byte("\r\nDate: Sun, 02 Jan 2000 06:00:00 +0000\r\n")) {
		t.Errorf("%q", text)
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get("Subject"); got != "Report Domain: example.net Submitter: relay.example.org Report-ID: <1@relay.example.org>" || m.Header.Get("X-Two") != "2" {
		t.Errorf("%v", m.Header)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var got []string
	for part, err := parts.NextPart(); err != io.EOF; part, err = parts.NextPart() {
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.Header.Get("Content-Type"), part.FileName(), string(body))
	}
	if len(got) != 6 || got[2] != "For\r\nyou.\r\n" || got[3] != "application/x" || got[4] != "relay.example.org!example.net!946684800!946771199.gz" {
		t.Fatalf("%q", got)
	}
	if packed, err := base64.StdEncoding.DecodeString(got[5]); err != nil || !bytes.Equal(packed, l.Packed) {
		t.Errorf("%q, %v", packed, err)
	}
}

func TestMailbox(t *testing.T) {
	for uri, want := range map[string]string{
		"mailto:a@b.example": "a@b.example", "MAILTO:a%2Bb!c@b.example": "a+b!c@b.example", "mailto:a@b.example?subject=x": "a@b.example",
		"https://a@b.example": "", "mailto:a": "", "mailto:@b.example": "", "mailto:a@": "", "mailto:a@b@c": "", "mailto:a..b@c": "", "mailto:a@b..c": "", "mailto:a@-b": "",
		"mailto:a%0D%0AX@b.example": "", "mailto:%3Ca@b.example": "", "mailto:%22a%22@b.example": "", "mailto:a@[192.0.2.1]": "",
		"mailto:" + strings.Repeat("a", 65) + "@b.example": "", "mailto:a@" + strings.Repeat("b", 64): "", "mailto:a@" + strings.Repeat("b.", 130) + "c": "",
	} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := Mailbox(u); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v; want %q", uri, got, ok, want)
		}
	}
}
