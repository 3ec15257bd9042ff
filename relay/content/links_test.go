package content

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/relay"
)

func TestNormalLink(t *testing.T) {
	for link, want := range map[string][2]string{
		"http://Example.ORG/Path":                            {"example.org/Path", "http://example.org/path"},
		"HTTPS://example.org:443/a%2fb?q=1#f":                {"example.org/a/b", "https://example.org/a%2fb"},
		"http://example.org:8080/a#f?q":                      {"example.org:8080/a", "http://example.org:8080/a"},
		"http://user:secret@example.org/a":                   {"example.org/a", "http://example.org/a"},
		"http://good.example@example.org./a":                 {"example.org/a", "http://example.org/a"},
		"http:\\\\example.org\\a":                            {"example.org/a", "http://example.org/a"},
		"http:///example.org/a":                              {"example.org/a", "http://example.org/a"},
		"www.Example.org/a":                                  {"www.example.org/a", "http://www.example.org/a"},
		"http://b\u00fccher.example/a":                       {"xn--bcher-kva.example/a", "http://xn--bcher-kva.example/a"},
		"http://ex%61mple.org/a%zz%4":                        {"example.org/a%zz%4", "http://example.org/a%zz%4"},
		"http://192.0.2.1/a":                                 {"192.0.2.1/a", "http://192.0.2.1/a"},
		"http://example.org":                                 {},
		"http://example.org/":                                {},
		"http://example.org/?q=1":                            {},
		"http://example.org/unsubscribe/a@b.org":             {},
		"http://example.org/a%40b.org":                       {},
		"http://example.org/a%0d%0ab":                        {},
		"http://intranet/a":                                  {},
		"http://10.0.0.1/a":                                  {},
		"http://127.0.0.1/a":                                 {},
		"http://example.org:x/a":                             {},
		"http://exa mple.org/a":                              {},
		"http:///a":                                          {},
		"mailto:a@example.org":                               {},
		"ftp://example.org/a":                                {},
		"http://example.org/" + strings.Repeat("a", maxLink): {},
	} {
		for form, want := range want {
			got, ok := normalLink(link, LinkForm(form))
			if got != want || ok != (want != "") {
				t.Errorf("%q: %q, %v; want %q", link, got, ok, want)
			}
		}
	}
}

func TestLinks(t *testing.T) {
	for _, c := range []struct {
		kind, text string
		want       []string
	}{
		{"text/plain", "see http://a.example/x, (https://b.example/y). <http://c.example/z>xhttp://d.example/q www.e.example/w awww.f.example/v", []string{
			"http://a.example/x", "https://b.example/y", "http://c.example/z", "http://d.example/q", "www.e.example/w"}},
		{"text/plain", "http://http://a.example/x hhttp://b", []string{"http://http://a.example/x", "http://b"}},
		{"text/plain", "nothing http: https:/ www.", nil},
		{"text/html", "<a href='h&#116;tp://a.example/x&amp;y'>go to http://b.example/z</a><img src=\"ht\ntp://c.example/i\"><p title=\"http://d.example/q\">", []string{
			"http://a.example/x&y", "http://b.example/z", "http://c.example/i"}},
		{"text/html", "<form action=http://a.example/x><body background=http://b.example/y><unclosed href=http://c", []string{"http://a.example/x", "http://b.example/y"}},
	} {
		var got []string
		for link := range links(&Part{Type: c.kind, Text: []byte(c.text)}) {
			got = append(got, link)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// asks is a service that keeps what it is asked.
type asks struct {
	mu     sync.Mutex
	listed map[string]bool
	asked  map[string]bool
	err    error
}

func (a *asks) Listed(_ context.Context, d relay.Digest) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[d.Label()] = true
	return a.listed[d.Label()], a.err
}

// However many there are, few are asked about, and in no time.
func TestFingerprintsAreBounded(t *testing.T) {
	var many, text strings.Builder
	many.WriteString("Content-Type: multipart/mixed; boundary=b\n\n")
	for i := range 200 {
		fmt.Fprintf(&many, "--b\nContent-Type: application/x\n\n%d\n", i)
		fmt.Fprintf(&text, "http://a.example/%d ", i)
	}
	attachments, links := &asks{asked: map[string]bool{}}, &asks{asked: map[string]bool{}}
	one := func(text string) relay.Verdict {
		t.Helper()
		began := time.Now()
		f := NewFingerprints(Fingerprints{Attachments: attachments, Links: links})
		verdict, err := f.Check(t.Context(), message(crlf(text)))
		if took := time.Since(began); err != nil || took > patience {
			t.Errorf("%v after %s", err, took)
		}
		return verdict
	}
	attachments.asked = map[string]bool{}
	one(many.String() + "--b\n\n" + text.String() + "\n--b--\n")
	if len(attachments.asked) != maxAttachments || len(links.asked) != maxLinks {
		t.Errorf("%d attachments and %d links were asked about", len(attachments.asked), len(links.asked))
	}
	one("Subject: x\n\n" + strings.Repeat("http://", maxText/4))
	one("Subject: x\n\n" + strings.Repeat("w", maxText*2))
	one("Subject: x\nContent-Type: text/html\n\n" + strings.Repeat("<a href=http://a.example/x", maxText/20))
	if found := slices.Collect(maps.Keys(attachments.asked)); len(found[0]) != 52 {
		t.Errorf("a label is %q", found[0])
	}
}

// A service that fails is an error, unless another knows enough.
func TestFingerprintsFail(t *testing.T) {
	const text = "Subject: x\nContent-Type: application/x\n\nan attachment\n"
	broken := &asks{asked: map[string]bool{}, err: errors.New("away")}
	f := NewFingerprints(Fingerprints{Attachments: broken, Action: ListedReject})
	if v, err := f.Check(t.Context(), message(crlf(text))); err == nil || v.Rejection != nil {
		t.Errorf("%+v, %v", v, err)
	}
	const odd = "Content-Type: multipart/mixed\n\nx\n"
	if v, err := f.Check(t.Context(), message(crlf(odd))); !errors.Is(err, errAmbiguous) {
		t.Errorf("%+v, %v", v, err)
	}
	f.Strict = true
	if v, err := f.Check(t.Context(), message(crlf(odd))); err != nil || v.Rejection == nil || v.Rejection.Class != relay.ClassContent {
		t.Errorf("%+v, %v", v, err)
	}
}

// Whatever a text holds: what is found of links is in one form, and finding it again
// in that form changes nothing.
func FuzzLinks(f *testing.F) {
	for _, text := range []string{"http://a.example/x", "<a href='http://a.example/%41'>www.b.example/y", "HTTPS://u@h:80/\\a%", "http:\\\\a.b\\c"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, html bool) {
		p := &Part{Type: "text/plain", Charset: "utf-8", Text: []byte(text)}
		if html {
			p.Type = "text/html"
		}
		for link := range links(p) {
			for _, form := range []LinkForm{HostPath, WholeURL} {
				normal, ok := normalLink(link, form)
				if !ok {
					continue
				}
				host, path, found := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(normal, "http://"), "https://"), "/")
				if !found || path == "" || host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "@?# \\") || form == HostPath && strings.Contains(path, "@") {
					t.Errorf("%q becomes %q", link, normal)
				}
				if again, ok := normalLink(normal, form); form == WholeURL && (!ok || again != normal) {
					t.Errorf("%q becomes %q, and that %q", link, normal, again)
				}
			}
		}
		textDigest([]Part{*p})
	})
}
