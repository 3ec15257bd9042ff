package content

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// names is a DNS of TXT and A records, and of what it was asked.
type names struct {
	txt   zone
	a     map[string]string
	fails string // a name whose look-up fails for now

	mu    sync.Mutex
	asked []string
}

func (n *names) ask(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, name)
	if name == n.fails {
		return &net.DNSError{Err: "servfail", Name: name, IsTemporary: true}
	}
	return nil
}

func (n *names) LookupTXT(_ context.Context, name string) ([]string, error) {
	return n.txt[name], n.ask(name)
}

func (n *names) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, n.ask(name)
}

func (n *names) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	if err := n.ask(name); err != nil || n.a[name] == "" {
		return nil, err
	}
	return []net.IPAddr{{IP: net.ParseIP(n.a[name])}}, nil
}

func (n *names) LookupAddr(context.Context, string) ([]string, error) { return nil, nil }

// incoming is a message that came by an mx listener.
func incoming(sender, text string) *relay.Message {
	return relay.NewMessage(&queue.Envelope{Sender: queue.ReversePath(sender)},
		&relay.Session{Client: netip.MustParseAddr("192.0.2.1"), Helo: "mail.example.org"}, []byte(text))
}

const fromText = "From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n"

func TestVerify(t *testing.T) {
	key := newKey(t, "example.org", "s", "ed25519", time.Time{})
	record, _ := key.Record()
	v, err := NewSigner([]Key{key}, nil).Check(t.Context(), message(fromText))
	if err != nil {
		t.Fatal(err)
	}
	signedMail := string(v.Added) + fromText
	txt := zone{
		"example.org": {"v=spf1 ip4:192.0.2.1 -all"}, "other.example": {"v=spf1 -all"}, "mail.example.org": {"v=spf1 a -all"},
		"s._domainkey.example.org": {record}, "_dmarc.example.org": {"v=DMARC1; p=reject"},
	}
	for name, c := range map[string]struct {
		sender, text string
		want         []string
		refused      int
	}{
		"all pass":     {"x@example.org", signedMail, []string{"spf=pass smtp.mailfrom=example.org", "dkim=pass header.d=example.org", "dmarc=pass header.from=example.org"}, 0},
		"only DKIM":    {"x@other.example", signedMail, []string{"spf=fail smtp.mailfrom=other.example", "dkim=pass", "dmarc=pass"}, 0},
		"only SPF":     {"x@example.org", fromText, []string{"spf=pass", "dkim=none", "dmarc=pass"}, 0},
		"none":         {"x@other.example", fromText, nil, 550},
		"changed":      {"x@other.example", strings.Replace(signedMail, "body", "else", 1), nil, 550},
		"null sender":  {"", fromText, []string{"spf=pass smtp.helo=mail.example.org", "dmarc=pass"}, 0},
		"two authors":  {"x@example.org", "From: b@example.net\r\n" + fromText, []string{"dmarc=permerror"}, 0},
		"other author": {"x@example.org", strings.Replace(fromText, "example.org", "example.com", 1), []string{"dmarc=none header.from=example.com"}, 0},
		"no signature": {"x@example.org", "DKIM-Signature: nonsense\r\n" + fromText, []string{"dkim=permerror"}, 0},
		"empty lines":  {"x@example.org", signedMail + strings.Repeat("\r\n", maxEmptyLines+1), []string{"dkim=policy"}, 0},
	} {
		d := &names{txt: txt, a: map[string]string{"mail.example.org": "192.0.2.1"}}
		check := &Verifier{Hostname: "relay.example.org", DNS: d, RejectDMARC: true}
		v, err := check.Check(t.Context(), incoming(c.sender, c.text))
		if err != nil || (v.Rejection != nil) != (c.refused > 0) || v.Rejection != nil && (v.Rejection.Code != c.refused || v.Rejection.Class == relay.ClassContent) {
			t.Errorf("%s: %+v, %v", name, v.Rejection, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(string(v.Added), want) {
				t.Errorf("%s: %q lacks %q", name, v.Added, want)
			}
		}
		for f := range relay.Fields(v.Added) {
			if !f.Is("authentication-results") && !f.Is("received-spf") {
				t.Errorf("%s: added %q", name, f.Raw)
			}
		}
	}
}

// No local part is ever in a question to the DNS, whatever a policy wants there.
func TestVerifyAsksForDomains(t *testing.T) {
	d := &names{txt: zone{"example.org": {"v=spf1 exists:%{l}.%{s}.x.example -all"}, "_dmarc.example.org": {"v=DMARC1; p=none"}}}
	v := &Verifier{Hostname: "relay.example.org", DNS: d}
	text := "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s; h=from; i=canary@example.org; bh=AAAA; b=AAAA\r\n" + fromText
	if _, err := v.Check(t.Context(), incoming("canary@example.org", text)); err != nil {
		t.Fatal(err)
	}
	if len(d.asked) == 0 || strings.Contains(strings.Join(d.asked, " "), "canary") {
		t.Errorf("asked for %q", d.asked)
	}
}

func TestForgedResults(t *testing.T) {
	ours := []string{
		"Authentication-Results: relay.example.org; dkim=pass", "authentication-results: RELAY.example.org 1; spf=pass", "Authentication-Results:\r\n\t(c) \"relay.example.org\"; x=y", "Authentication-Results : relay.example.org.; x=y",
	}
	others := "Authentication-Results: mx.example.net; dkim=pass\r\nARC-Authentication-Results: i=1; relay.example.org; dkim=pass\r\nARC-Seal: i=1; x=y\r\n"
	v := &Verifier{Hostname: "relay.example.org", DNS: &names{}}
	got, err := v.Check(t.Context(), incoming("", strings.Join(ours, "\r\n")+"\r\n"+others+fromText))
	if want := others + "From: a@example.org\r\nSubject: hello\r\n"; err != nil || string(got.Header) != want {
		t.Errorf("%q, %v, want %q", got.Header, err, want)
	}
	if got, _ := v.Check(t.Context(), incoming("", others+fromText)); got.Header != nil {
		t.Errorf("changed without need: %q", got.Header)
	}
}

// A domain above counts as far as RFC 9989 §4.10 says, and asks for what its record says of those below.
func TestDMARCWalk(t *testing.T) {
	for name, c := range map[string]struct {
		txt       zone
		from, spf string
		want      string
	}{
		"subdomain":      {zone{"_dmarc.example.org": {"v=DMARC1; p=none; sp=reject"}}, "a.example.org", "x.example", "fail reject"},
		"no such name":   {zone{"_dmarc.example.org": {"v=DMARC1; p=none; sp=none; np=reject"}}, "a.example.org", "x.example", "fail reject"},
		"such a name":    {zone{"_dmarc.example.org": {"v=DMARC1; p=none; np=reject"}}, "there.example.org", "x.example", "fail none"},
		"relaxed":        {zone{"_dmarc.example.org": {"v=DMARC1; p=reject"}}, "a.example.org", "b.example.org", "pass "},
		"strict":         {zone{"_dmarc.example.org": {"v=DMARC1; p=reject; aspf=s"}}, "example.org", "b.example.org", "fail reject"},
		"public suffix":  {zone{"_dmarc.example": {"v=DMARC1; p=reject; psd=y"}}, "one.example", "two.example", "fail reject"},
		"below a suffix": {zone{"_dmarc.example": {"v=DMARC1; p=reject; psd=y"}}, "a.one.example", "b.one.example", "pass "},
		"own org":        {zone{"_dmarc.a.example.org": {"v=DMARC1; p=reject; psd=n"}, "_dmarc.example.org": {"v=DMARC1; p=none"}}, "a.example.org", "example.org", "fail reject"},
		"under test":     {zone{"_dmarc.example.org": {"v=DMARC1; p=reject; t=y"}}, "example.org", "x.example", "fail quarantine"},
		"suffix itself":  {zone{"_dmarc.bank.example": {"v=DMARC1; p=reject; psd=y"}, "_dmarc.example": {"v=DMARC1; p=none"}}, "bank.example", "x.example", "fail reject"},
		"suffix above":   {zone{"_dmarc.bank.example": {"v=DMARC1; p=reject; psd=y"}, "_dmarc.example": {"v=DMARC1; p=none"}}, "bank.example", "other.example", "fail reject"},
		"no word":        {zone{"_dmarc.example.org": {"v=DMARC1; p=reject; sp=evil"}}, "example.org", "x.example", "none "},
		"only reports":   {zone{"_dmarc.example.org": {"v=DMARC1; p=reject; np=evil; rua=mailto:a@example.org"}}, "example.org", "x.example", "fail none"},
		"no policy":      {zone{"_dmarc.example.org": {"v=DMARC1; rua=mailto:a@example.org"}}, "example.org", "x.example", "fail none"},
		"with a scrap":   {zone{"_dmarc.example.org": {"v=DMARC1; p=reject; scrap;"}}, "example.org", "x.example", "fail reject"},
		"any case":       {zone{"_dmarc.example.org": {"v=DMARC1; P=Reject; unknown=1"}}, "example.org", "x.example", "fail reject"},
		"two records":    {zone{"_dmarc.example.org": {"v=DMARC1; p=reject", "v=DMARC1; p=none"}}, "example.org", "x.example", "none "},
		"other record":   {zone{"_dmarc.example.org": {"v=DMARC2; p=reject", "x"}}, "example.org", "x.example", "none "},
		"deep":           {zone{"_dmarc.example.org": {"v=DMARC1; p=reject"}}, strings.Repeat("a.", 60) + "example.org", "x.example", "fail reject"},
	} {
		d := &names{txt: c.txt, a: map[string]string{"there.example.org": "192.0.2.9"}}
		got := (&Verifier{DNS: d}).dmarc(t.Context(), c.from, spfResult{result: "pass", domain: c.spf}, nil)
		if got.result+" "+got.wants != c.want {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
		if len(d.asked) > 3*maxWalk {
			t.Errorf("%s: %d look-ups", name, len(d.asked))
		}
	}
	d := &names{txt: zone{}, fails: "_dmarc.example.org"}
	if got := (&Verifier{DNS: d}).dmarc(t.Context(), "example.org", spfResult{}, nil); got.result != dmarcTemp {
		t.Errorf("DNS fails: %+v", got)
	}
}

// Many signatures, and keys out of all proportion, cost a bounded amount of work.
func TestVerifyBounded(t *testing.T) {
	one := "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s; h=from; bh=AAAA; b=AAAA\r\n"
	d := &names{txt: zone{"s._domainkey.example.org": {"v=DKIM1; p=" + strings.Repeat("A", 10000)}}}
	v := &Verifier{Hostname: "relay.example.org", DNS: d}
	if _, err := v.Check(t.Context(), incoming("", strings.Repeat(one, 1000)+fromText)); err != nil {
		t.Fatal(err)
	}
	keys := 0
	for _, name := range d.asked {
		if strings.HasPrefix(name, "s._domainkey") {
			keys++
		}
	}
	if keys > maxSignatures {
		t.Errorf("%d keys were asked for", keys)
	}
	if !slices.Contains(d.asked, "_dmarc.example.org") {
		t.Errorf("asked for %q", d.asked)
	}
}

// outcomes is who hears of DMARC.
type outcomes []relay.DMARCOutcome

func (o *outcomes) Observe(one relay.DMARCOutcome) { *o = append(*o, one) }

// Who is to report hears of mail from outside what its domain may know, if the domain wants reports: both ways to
// vouch for it, and no mailbox.
func TestDMARCOutcomes(t *testing.T) {
	key := newKey(t, "example.org", "s", "ed25519", time.Time{})
	record, _ := key.Record()
	signature, err := NewSigner([]Key{key}, nil).Check(t.Context(), message(fromText))
	if err != nil {
		t.Fatal(err)
	}
	const wants = "v=DMARC1; p=reject; psd=evil<>; fo=1:d; aspf=x; adkim=s; rua=mailto:canary@example.org"
	txt := zone{"example.org": {"v=spf1 ip4:192.0.2.1 -all"}, "other.example": {"v=spf1 -all"}, "s._domainkey.example.org": {record}, "_dmarc.example.org": {wants},
		"_dmarc.example.com": {"v=DMARC1; p=reject"}, "_dmarc.tests.example": {"v=DMARC1; p=reject; t=y; rua=mailto:canary@tests.example"},
		"_dmarc.mild.example": {"v=DMARC1; p=none; sp=quarantine; rua=mailto:canary@mild.example"}, "mild.example": {"v=spf1 ip4:192.0.2.1 -all"}}
	policy := relay.DMARCPolicy{Domain: "example.org", P: "reject", ADKIM: "s", FO: "1:d"}
	client := netip.MustParseAddr("192.0.2.1")
	signed := []relay.DKIMOutcome{{Domain: "example.org", Selector: "s", Result: "pass"}}
	for name, c := range map[string]struct {
		sender, text string
		reject       bool
		want         []relay.DMARCOutcome
	}{
		"both": {"canary@example.org", string(signature.Added) + fromText, true, []relay.DMARCOutcome{{Policy: policy, Client: client, From: "example.org", Sender: "example.org",
			Disposition: "pass", SPF: true, DKIM: true, SPFDomain: "example.org", SPFResult: "pass", Signatures: signed}}},
		"refused": {"canary@other.example", fromText, true, []relay.DMARCOutcome{{Policy: policy, Client: client, From: "example.org", Sender: "other.example",
			Disposition: "reject", SPFDomain: "other.example", SPFResult: "fail"}}},
		"marked": {"", fromText, false, []relay.DMARCOutcome{{Policy: policy, Client: client, From: "example.org",
			Disposition: "none", Reason: "local_policy", SPFDomain: "mail.example.org", SPFResult: "none"}}},
		"under test": {"x@other.example", strings.ReplaceAll(fromText, "example.org", "tests.example"), true, []relay.DMARCOutcome{{
			Policy: relay.DMARCPolicy{Domain: "tests.example", P: "reject", Testing: true}, Client: client, From: "tests.example", Sender: "other.example",
			Disposition: "none", Reason: "policy_test_mode", SPFDomain: "other.example", SPFResult: "fail"}}},
		"no policy": {"x@mild.example", strings.ReplaceAll(fromText, "example.org", "mild.example"), true, []relay.DMARCOutcome{{
			Policy: relay.DMARCPolicy{Domain: "mild.example", P: "none", SP: "quarantine"}, Client: client, From: "mild.example", Sender: "mild.example",
			Disposition: "none", SPF: true, SPFDomain: "mild.example", SPFResult: "pass"}}},
		"below": {"x@mild.example", strings.ReplaceAll(fromText, "example.org", "a.mild.example"), true, []relay.DMARCOutcome{{
			Policy: relay.DMARCPolicy{Domain: "mild.example", P: "none", SP: "quarantine"}, Client: client, From: "a.mild.example", Sender: "mild.example",
			Disposition: "pass", SPF: true, SPFDomain: "mild.example", SPFResult: "pass"}}},
		"no wish":   {"x@other.example", strings.ReplaceAll(fromText, "example.org", "example.com"), false, nil},
		"no record": {"x@other.example", strings.ReplaceAll(fromText, "example.org", "example.net"), false, nil},
	} {
		var heard outcomes
		v := &Verifier{Hostname: "relay.example.org", DNS: &names{txt: txt}, RejectDMARC: c.reject, Observer: &heard}
		if _, err := v.Check(t.Context(), incoming(c.sender, c.text)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual([]relay.DMARCOutcome(heard), c.want) || strings.Contains(fmt.Sprint(heard), "canary") {
			t.Errorf("%s: %+v, want %+v", name, heard, c.want)
		}
		submitted := incoming(c.sender, c.text)
		submitted.Envelope.Origin.Submission = true
		heard = nil
		if _, err := v.Check(t.Context(), submitted); err != nil || heard != nil {
			t.Errorf("%s, submitted: %+v, %v", name, heard, err)
		}
	}
}
