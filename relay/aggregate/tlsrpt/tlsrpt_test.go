package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/mail"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
)

// world is the DNS, the mail and the web that reports go out to.
type world struct {
	txt     map[string]string
	dnsErr  error
	mailErr error
	status  int
	mails   map[string][]byte // by recipient
	posts   map[string][]byte // by URL
	kept    []byte
}

var errDown = errors.New("down")

func (w *world) TXT(_ context.Context, name string) ([]string, error) {
	if txt := w.txt[name]; txt != "" {
		return strings.Split(txt, "|"), w.dnsErr
	}
	return nil, w.dnsErr
}
func (w *world) Dial(context.Context, string) (net.Conn, error) { return nil, errDown }
func (w *world) Submit(_ context.Context, to string, content []byte) error {
	if w.mailErr == nil {
		w.mails[to] = content
	}
	return w.mailErr
}
func (w *world) Load() ([]byte, error) { return w.kept, nil }
func (w *world) Save(b []byte) error   { w.kept = b; return nil }
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
		return nil, errDown
	}
	w.posts[r.URL.String()] = body
	return &http.Response{StatusCode: w.status, Body: http.NoBody}, nil
}

func newWorld() *world {
	return &world{mails: map[string][]byte{}, posts: map[string][]byte{}, status: 200, txt: map[string]string{
		"_smtp._tls.mail.example": "v=TLSRPTv1; rua=mailto:reports@mail.example",
		"_smtp._tls.web.example":  "v=TLSRPTv1;rua=https://web.example/tls",
	}}
}

func (w *world) collector(t *testing.T) *Collector {
	t.Helper()
	c, err := New(Config{Hostname: "relay.example.org", Contact: "postmaster@relay.example.org", World: w, Keeper: w, HTTP: w})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// during runs the collector for as long.
func during(t *testing.T, c *Collector, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	c.Run(ctx)
}

var sts = &relay.Hold{By: relay.HeldBySTS, Policy: []string{"version: STSv1", "mode: enforce"}, Hosts: []string{"*.mail.example"}}

// someSessions are three policies of one domain, with good and bad results.
func someSessions(c *Collector, domain string) {
	dane := &relay.Hold{By: relay.HeldByDANE, Policy: []string{"_25._tcp.mx. IN TLSA 3 1 1 AB"}}
	for _, s := range []relay.TLSSession{
		{Host: "mx1", Hold: sts}, {Host: "mx1", Hold: sts}, {Host: "mx2", Hold: sts, Failure: relay.FailedExpired},
		{Host: "mx2", Hold: sts, Failure: relay.FailedExpired}, {Host: "mx1", Hold: sts, Failure: relay.FailedStartTLS},
		{Host: "mx1", Hold: dane}, {Host: "mx1", Hold: dane, Failure: relay.FailedUntrusted},
		{Host: "mx1"}, {Host: "mx1", Failure: relay.FailedStartTLS},
	} {
		s.Domain = domain
		c.Observe(s)
	}
}

const wantPolicies = `[` +
	`{"policy":{"policy-type":"no-policy-found","policy-domain":"mail.example"},"summary":{"total-successful-session-count":1,"total-failure-session-count":1},` +
	`"failure-details":[{"result-type":"starttls-not-supported","receiving-mx-hostname":"mx1","failed-session-count":1}]},` +
	`{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce"],"policy-domain":"mail.example","mx-host":["*.mail.example"]},` +
	`"summary":{"total-successful-session-count":2,"total-failure-session-count":3},` +
	`"failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx2","failed-session-count":2},` +
	`{"result-type":"starttls-not-supported","receiving-mx-hostname":"mx1","failed-session-count":1}]},` +
	`{"policy":{"policy-type":"tlsa","policy-string":["_25._tcp.mx. IN TLSA 3 1 1 AB"],"policy-domain":"mail.example"},"summary":{"total-successful-session-count":1,"total-failure-session-count":1},` +
	`"failure-details":[{"result-type":"certificate-not-trusted","receiving-mx-hostname":"mx1","failed-session-count":1}]}]`

func unzip(t *testing.T, packed []byte) (text []byte) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		text, err = io.ReadAll(zip)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// attachment reads a letter as a mail program would, and returns the report.
func attachment(t *testing.T, letter []byte) []byte {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(letter))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
			continue
		}
		packed, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, part))
		if err != nil || !strings.HasSuffix(part.FileName(), ".json.gz") {
			t.Fatal(part.FileName(), err)
		}
		return unzip(t, packed)
	}
}

// TestReports follows a day's sessions to the reports of the domains that want
// them, over a restart.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := w.collector(t)
		for _, domain := range []string{"mail.example", "web.example", "nobody.example"} {
			someSessions(c, domain)
		}
		during(t, c, 20*time.Hour)
		if len(w.mails)+len(w.posts) != 0 {
			t.Error("a report went out before its day was over")
		}
		c = w.collector(t)
		during(t, c, 9*time.Hour)
		letter := w.mails["reports@mail.example"]
		if len(w.mails) != 1 || len(w.posts) != 1 || letter == nil || w.posts["https://web.example/tls"] == nil {
			t.Fatalf("%d letters and %d posts", len(w.mails), len(w.posts))
		}
		var got struct {
			Organization string          `json:"organization-name"`
			Range        dates           `json:"date-range"`
			ID           string          `json:"report-id"`
			Policies     json.RawMessage `json:"policies"`
		}
		text := attachment(t, letter)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if string(got.Policies) != wantPolicies || got.Organization != "relay.example.org" || got.ID != "2000-01-01_mail.example@relay.example.org" ||
			got.Range.Start.String() != "2000-01-01 00:00:00 +0000 UTC" || got.Range.End.String() != "2000-01-01 23:59:59 +0000 UTC" {
			t.Errorf("%s", text)
		}
		if web := unzip(t, w.posts["https://web.example/tls"]); !bytes.Equal(web, bytes.ReplaceAll(text, []byte("-domain\":\"mail.example"), []byte("-domain\":\"web.example"))) &&
			!bytes.Contains(web, []byte(`"policy-domain":"web.example"`)) {
			t.Errorf("%s", web)
		}
		for _, field := range []string{"TLS-Report-Domain: mail.example\r\n", "TLS-Required: No\r\n", "Report-ID: <2000-01-01_mail.example@relay.example.org>\r\n"} {
			if !bytes.Contains(letter, []byte(field)) {
				t.Errorf("%q is missing in %s", field, letter)
			}
		}
		if bytes.Contains(w.kept, []byte("example")) {
			t.Errorf("what was reported is still kept: %s", w.kept)
		}
		clear(w.mails)
		during(t, w.collector(t), 48*time.Hour)
		if len(w.mails) != 0 {
			t.Error("a report went out twice")
		}
	})
}

// TestRetries checks that a report that cannot be handed over is tried again, and at last given up.
func TestRetries(t *testing.T) {
	for name, fault := range map[string]func(*world){
		"DNS":  func(w *world) { w.dnsErr = errDown },
		"mail": func(w *world) { w.mailErr = errDown },
		"web":  func(w *world) { w.status = 503 },
	} {
		for _, mended := range []bool{true, false} {
			t.Run(fmt.Sprint(name, mended), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					fault(w)
					c := w.collector(t)
					someSessions(c, "mail.example")
					someSessions(c, "web.example")
					during(t, c, 30*time.Hour)
					clear(w.posts)
					if mended {
						w.dnsErr, w.mailErr, w.status = nil, nil, 200
					}
					during(t, c, 30*time.Hour)
					if mended && (name != "web" && len(w.mails) == 0 || name != "mail" && len(w.posts) == 0) {
						t.Errorf("%d letters, %d posts", len(w.mails), len(w.posts))
					}
					if string(w.kept) != "{}" {
						t.Errorf("%s was not given up", w.kept)
					}
				})
			})
		}
	}
}

// Where nothing can be signed a letter is not tried again: its receiver would have to ignore it.
func TestUnsigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.mailErr = fmt.Errorf("queueing: %w", relay.ErrUnsigned)
		c := w.collector(t)
		someSessions(c, "mail.example")
		someSessions(c, "web.example")
		during(t, c, 30*time.Hour)
		if string(w.kept) != "{}" || len(w.posts) == 0 {
			t.Errorf("%d posts; left is %s, want nothing", len(w.posts), w.kept)
		}
	})
}

// TestBounds checks that no flood of policies or hosts grows beyond its limits.
func TestBounds(t *testing.T) {
	d1, d2 := make(domainCounts), make(domainCounts)
	grown := 0
	for i := range 100 {
		hold := &relay.Hold{By: relay.HeldBySTS, Policy: []string{fmt.Sprint("version ", i)}}
		grown += d1.count(relay.TLSSession{Host: "mx", Hold: hold}, true)
		grown += d2.count(relay.TLSSession{Host: fmt.Sprint("mx", i), Failure: relay.FailedStartTLS}, true)
	}
	if len(d1) != maxPolicies || len(d2["no-policy-found"].Bad) != maxDetails+1 || d2["no-policy-found"].Bad["starttls-not-supported "] != 50 {
		t.Errorf("%d policies, %v", len(d1), d2)
	}
	counted := 0
	for _, d := range []domainCounts{d1, d2} {
		for _, p := range d {
			counted += p.cost()
		}
	}
	if counted != grown {
		t.Errorf("%d octets are counted, %d are there", grown, counted)
	}
	hold := &relay.Hold{By: relay.HeldBySTS, Policy: []string{strings.Repeat("x", maxString+1)}}
	for range maxStrings + 10 {
		hold.Policy = append(hold.Policy, "short")
	}
	d3 := make(domainCounts)
	if d3.count(relay.TLSSession{Host: "mx", Hold: hold}, false); len(d3) != 0 {
		t.Errorf("without room %v was added", d3)
	}
	d3.count(relay.TLSSession{Host: "mx", Hold: hold}, true)
	for _, p := range d3 {
		if len(p.Strings) != maxStrings || p.Strings[0] != "short" {
			t.Errorf("%d lines of a policy are kept: %q", len(p.Strings), p.Strings)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for records, want := range map[string]string{
		"v=TLSRPTv1; rua=mailto:a@b.example":                                     "a@b.example",
		"v=TLSRPTv1;rua=mailto:a%2Bb@c.example,https://d.example/x?y":            "a+b@c.example https://d.example/x?y",
		"v=TLSRPTv1 ; x=y ; rua=MAILTO:a@b.example!10m":                          "",
		"v=TLSRPTv1; rua=mailto:a@b.example?subject=x":                           "a@b.example",
		"v=spf1 -all|v=TLSRPTv1; rua=mailto:a@b.example;":                        "a@b.example",
		"v=TLSRPTv1; rua=mailto:a@b.example|v=TLSRPTv1; rua=mailto:c@d.example":  "",
		"v=TLSRPTv2; rua=mailto:a@b.example":                                     "",
		"v=TLSRPTv1; rua=http://a.example/":                                      "",
		"v=TLSRPTv1; rua=https://u:p@a.example/":                                 "",
		"v=TLSRPTv1; rua=https://a.example:22/":                                  "",
		"v=TLSRPTv1; rua=mailto:a%0D%0AX@b.example":                              "",
		"v=TLSRPTv1; rua=mailto:%3Ca@b.example":                                  "",
		"v=TLSRPTv1; rua=mailto:a":                                               "",
		"v=TLSRPTv1; rua=mailto:a@b,mailto:b@b,mailto:c@b,mailto:d@b,mailto:e@b": "a@b b@b c@b d@b",
		"v=TLSRPTv1;": "",
	} {
		var got []string
		for _, t := range parseRecord(strings.Split(records, "|")) {
			got = append(got, t.mail+t.web)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", records, got, want)
		}
	}
}

// FuzzRecord feeds records of any kind: a mailbox that comes out can stand in a
// header field and in a command.
func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@b.example,https://c.example/")
	f.Fuzz(func(t *testing.T, record string) {
		for _, target := range parseRecord([]string{record}) {
			if strings.ContainsAny(target.mail, "<> \r\n\t\"(),:;\x00") || strings.ContainsAny(target.web, " \r\n\x00") ||
				(target.mail == "") == (target.web == "") || target.web != "" && !strings.HasPrefix(target.web, "https://") {
				t.Errorf("%+v of %q", target, record)
			}
		}
	})
}
