package dmarcrpt

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
)

// world is the DNS and the mail that reports go out to.
type world struct {
	txt     map[string]string
	dnsErr  error
	mailErr error
	mails   map[string][]byte // by recipient and number
	kept    []byte
}

var errDown = errors.New("down")

func (w *world) TXT(_ context.Context, name string) ([]string, error) {
	if txt := w.txt[name]; txt != "" {
		return strings.Split(txt, "|"), w.dnsErr
	}
	return nil, w.dnsErr
}
func (w *world) Organizational(_ context.Context, domain string) (string, error) {
	labels := strings.Split(domain, ".")
	return strings.Join(labels[max(0, len(labels)-2):], "."), w.dnsErr
}
func (w *world) Submit(_ context.Context, to string, content []byte) error {
	if w.mailErr == nil {
		w.mails[fmt.Sprint(to, " ", len(w.mails))] = content
	}
	return w.mailErr
}
func (w *world) Load() ([]byte, error) { return w.kept, nil }
func (w *world) Save(b []byte) error   { w.kept = b; return nil }

func newWorld() *world {
	return &world{mails: map[string][]byte{}, txt: map[string]string{
		"_dmarc.own.example":                        "v=DMARC1; p=none; rua=mailto:reports@sub.own.example",
		"_dmarc.agreed.example":                     "v=DMARC1; p=none; rua=mailto:a@far.example",
		"_dmarc.refused.example":                    "v=DMARC1; p=none; rua=mailto:b@far.example",
		"_dmarc.old.example":                        "v=DMARC1; p=none; rua=mailto:c@old.example!1",
		"_dmarc.moved.example":                      "v=DMARC1; p=none; rua=mailto:d@far.example,mailto:e@far.example",
		"_dmarc.away.example":                       "v=DMARC1; p=none; rua=mailto:f@far.example",
		"_dmarc.none.example":                       "v=DMARC1; p=none",
		"agreed.example._report._dmarc.far.example": "v=DMARC1",
		"moved.example._report._dmarc.far.example":  "x|v=DMARC1; rua=mailto:g@far.example",
		"away.example._report._dmarc.far.example":   "v=DMARC1; rua=mailto:h@far.example,mailto:i@else.example",
	}}
}

func (w *world) collector(t *testing.T) *Collector {
	t.Helper()
	c, err := New(Config{Hostname: "relay.example.org", Contact: "postmaster@relay.example.org", World: w, Keeper: w})
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

// outcome is one message of a domain.
func outcome(domain string) relay.DMARCOutcome {
	return relay.DMARCOutcome{
		Policy: relay.DMARCPolicy{Domain: domain, P: "reject", SP: "none", ASPF: "s", FO: "1"}, Client: netip.MustParseAddr("192.0.2.1"),
		From: "sub." + domain, Sender: "bounce.example", Disposition: "none", Reason: "local_policy", SPFDomain: "bounce.example", SPFResult: "pass",
		Signatures: []relay.DKIMOutcome{{Domain: "other.example", Selector: "s1", Result: "fail"}},
	}
}

const wantXML = `<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"><version>1.0</version><report_metadata><org_name>relay.example.org</org_name>` +
	`<email>postmaster@relay.example.org</email><report_id>20000101.1.own.example@relay.example.org</report_id>` +
	`<date_range><begin>946684800</begin><end>946771199</end></date_range><generator>tacet</generator></report_metadata>` +
	`<policy_published><domain>own.example</domain><p>reject</p><sp>none</sp><aspf>s</aspf><discovery_method>treewalk</discovery_method><fo>1</fo></policy_published>` +
	`<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf>` +
	`<reason><type>local_policy</type></reason></policy_evaluated></row><identifiers><header_from>sub.own.example</header_from>` +
	`<envelope_from>bounce.example</envelope_from></identifiers><auth_results><dkim><domain>other.example</domain><selector>s1</selector><result>fail</result></dkim>` +
	`<spf><domain>bounce.example</domain><scope>mfrom</scope><result>pass</result></spf></auth_results></record></feedback>`

// attachment reads a letter as a mail program would, and returns the report.
func attachment(t *testing.T, letter []byte) string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(letter))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Type") != "application/gzip" {
			continue
		}
		zip, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, part))
		if err != nil || part.FileName() != "relay.example.org!own.example!946684800!946771199.xml.gz" {
			t.Fatal(part.FileName(), err)
		}
		text, err := io.ReadAll(zip)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// TestReports follows a day's messages to the reports of the domains that want them, over a restart: nobody gets
// what another domain did not agree to take, and nothing is kept of what was reported.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := w.collector(t)
		for _, domain := range []string{"own", "agreed", "refused", "old", "moved", "away", "none"} {
			c.Observe(outcome(domain + ".example"))
		}
		c.Observe(outcome("own.example"))
		changed := outcome("own.example")
		changed.Policy.P = "none"
		c.Observe(changed)
		during(t, c, 20*time.Hour)
		if len(w.mails) != 0 || !bytes.Contains(w.kept, []byte("own.example")) {
			t.Errorf("%d reports before the day was over", len(w.mails))
		}
		during(t, w.collector(t), 9*time.Hour)
		var first []byte
		got := make(map[string]int)
		for to, letter := range w.mails {
			to, _, _ = strings.Cut(to, " ")
			got[to]++
			number := bytes.Contains(letter, []byte("Report-ID: <20000101.1."))
			if file := bytes.Contains(letter, []byte("!946771199.xml.gz\"\r\n")); file != number || !file && !bytes.Contains(letter, []byte("!946771199!2.xml.gz\"\r\n")) {
				t.Errorf("two reports in files of one name:\n%s", letter)
			}
			if number && to == "reports@sub.own.example" {
				first = letter
			}
		}
		if want := map[string]int{"reports@sub.own.example": 2, "a@far.example": 1, "c@old.example": 1, "g@far.example": 1}; !maps.Equal(got, want) || first == nil {
			t.Fatalf("%v, want %v", got, want)
		}
		other := strings.ReplaceAll(strings.ReplaceAll(wantXML, "<p>reject", "<p>none"), "<count>2", "<count>1")
		if text := attachment(t, first); text != wantXML && text != other {
			t.Errorf("%s", text)
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
	for name, fault := range map[string]func(*world){"DNS": func(w *world) { w.dnsErr = errDown }, "mail": func(w *world) { w.mailErr = errDown }} {
		for _, mended := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				fault(w)
				c := w.collector(t)
				c.Observe(outcome("agreed.example"))
				during(t, c, 30*time.Hour)
				if mended {
					w.dnsErr, w.mailErr = nil, nil
				}
				during(t, c, 30*time.Hour)
				if string(w.kept) != "{}" || (len(w.mails) == 1) != mended {
					t.Errorf("%s, mended %v: %d letters, %s is left", name, mended, len(w.mails), w.kept)
				}
			})
		}
	}
}

// TestBounds checks that no flood of records or clients grows beyond its limits.
func TestBounds(t *testing.T) {
	all := make(map[string]counts)
	grown := 0
	for i := range maxRows + 10 {
		grown += count(all, true, "p", fmt.Sprint("row", i))
		grown += count(all, true, "p", "row1")
	}
	for i := range 100 {
		grown += count(all, true, fmt.Sprint("p", i), "row")
	}
	if len(all) != maxPolicies || len(all["p"]) != maxRows || all["p"]["row1"] != maxRows+11 {
		t.Errorf("%d records, %d rows, %d of one", len(all), len(all["p"]), all["p"]["row1"])
	}
	counted := 0
	for policy, rows := range all {
		counted += cost(policy, rows)
	}
	if counted != grown {
		t.Errorf("%d octets are counted, %d are there", grown, counted)
	}
	few := make(map[string]counts)
	if count(few, false, "p", "row"); len(few) != 0 {
		t.Errorf("without room %v was added", few)
	}
}

func TestParseRecord(t *testing.T) {
	for records, want := range map[string]string{
		"v=DMARC1; p=none; rua=mailto:a@b.example":                             "a@b.example",
		"v = DMARC1 ; rua = mailto:a%2Bb@c.example , https://d.example/":       "a+b@c.example",
		"v=DMARC1; RUA=mailto:a@b.example!10m":                                 "a@b.example",
		"v=spf1 -all|v=DMARC1; rua=mailto:a@b.example":                         "a@b.example",
		"v=DMARC1; rua=mailto:a@b.example|v=DMARC1":                            "",
		"v=DMARC2; rua=mailto:a@b.example":                                     "",
		"v=DMARC1; rua=mailto:a%0D%0AX@b.example":                              "",
		"v=DMARC1; rua=mailto:%3Ca@b.example":                                  "",
		"v=DMARC1; rua=mailto:a@b,mailto:b@b,mailto:c@b,mailto:d@b,mailto:e@b": "a@b b@b c@b d@b",
		"v=DMARC1; ruf=mailto:a@b.example":                                     "",
	} {
		var got []string
		for _, t := range parseRecord(strings.Split(records, "|")) {
			got = append(got, string(t))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", records, got, want)
		}
	}
}

// FuzzRecord feeds records of any kind: a mailbox that comes out can stand in a
// header field and in a command.
func FuzzRecord(f *testing.F) {
	f.Add("v=DMARC1; rua=mailto:a@b.example!10m,https://c.example/")
	f.Fuzz(func(t *testing.T, record string) {
		for _, target := range append(parseRecord([]string{record}), override("a@b.example", []string{record})...) {
			if strings.ContainsAny(string(target), "<> \r\n\t\"(),:;\x00") || target.host() == "" {
				t.Errorf("%q of %q", target, record)
			}
		}
	})
}
