package recipients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

func built(t testing.TB, o Options, entries ...string) *List {
	t.Helper()
	key := NewKey()
	b, err := Build(key, entries, o, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(key.Verify(), b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestHas(t *testing.T) {
	plus := built(t, Options{Delimiters: "+-"}, "Anna@Example.org", `"b c"@example.org`, "jean-luc@example.org", "@catch.example", "u@b\u00fccher.example")
	keep := built(t, Options{KeepCase: true}, "Anna@example.org")
	for _, c := range []struct {
		l            *List
		to           queue.ForwardPath
		has, covered bool
	}{
		{plus, "anna@example.org", true, true}, {plus, "ANNA@EXAMPLE.ORG", true, true}, {plus, "anna+shop@example.org", true, true},
		{plus, "anna-shop@example.org", true, true}, {plus, "annas@example.org", false, true}, {plus, "+shop@example.org", false, true},
		{plus, "jean-luc@example.org", true, true}, {plus, "jean-luc+x@example.org", true, true}, {plus, "jean@example.org", false, true},
		{plus, `"anna"@example.org`, true, true}, {plus, `"b c"@example.org`, true, true}, {plus, `"b\ c"@example.org`, true, true},
		{plus, "whoever@catch.example", true, true}, {plus, "u@xn--bcher-kva.example", true, true}, {plus, "anna@else.example", false, false},
		{keep, "Anna@EXAMPLE.org", true, true}, {keep, "anna@example.org", false, true}, {keep, "Anna+x@example.org", false, true},
	} {
		if c.l.Has(c.to) != c.has || c.l.Covers(c.to) != c.covered {
			t.Errorf("%s: listed %v, covered %v; want %v, %v", c.to, c.l.Has(c.to), c.l.Covers(c.to), c.has, c.covered)
		}
	}
}

// A list counts only as it was signed, and shows no address.
func TestOpenRefuses(t *testing.T) {
	key := NewKey()
	b, err := Build(key, []string{"anna@example.org", "bob@example.org"}, Options{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"anna", "bob"} {
		if bytes.Contains(b, []byte(name)) {
			t.Errorf("the list shows %s", name)
		}
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, err := Open(key.Verify(), bad); !errors.Is(err, ErrSignature) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
	for i := range b {
		if _, err := Open(key.Verify(), b[:i]); err == nil {
			t.Fatalf("cut to %d octets it is taken", i)
		}
	}
	if _, err := Open(NewKey().Verify(), b); !errors.Is(err, ErrSignature) {
		t.Errorf("under another key: %v", err)
	}
}

func TestKeys(t *testing.T) {
	key := NewKey()
	sign, err := ParseSignKey(key.Text())
	if err != nil || sign != key {
		t.Errorf("sign key: %v", err)
	}
	if verify, err := ParseVerifyKey(key.Verify().Text()); err != nil || verify != key.Verify() {
		t.Errorf("verify key: %v", err)
	}
	if _, err := ParseSignKey(key.Verify().Text()); err == nil {
		t.Error("the fallback's key makes lists")
	}
}

func TestParse(t *testing.T) {
	domains := []string{"example.org", "example.net"}
	for format, c := range map[string]struct{ text, want string }{
		"list":    {"# all\nanna@example.org\n\nbob\r\nx@else.example\n@example.net\n", "anna@example.org bob@example.org bob@example.net @example.net"},
		"postfix": {"# x\nanna@example.org anna\nbob@example.net\tbob,\n   carl\n@Example.org all\nexample.org whatever\n", "anna@example.org bob@example.net @Example.org example.org@example.org example.org@example.net"},
		"exim":    {"# x\nanna: a, b,\n  c\n\"bob\" : |/bin/false\nno colon\n", "anna@example.org anna@example.net bob@example.org bob@example.net no@example.org no@example.net"},
		"exim ":   {"carl@example.org x\n*@example.net: y\n\"a b\": z\n", `carl@example.org @example.net a b@example.org a b@example.net`},
		"exim  ":  {"*: all\n", "@example.org @example.net"},
		"ldif": {"dn: uid=a,dc=example,dc=org\nmail: anna@example.org\nproxyAddresses: SMTP:bob@exam\n ple.net\nmail:: Y2FybEBleGFtcGxlLm9yZw==\ncn: Anna\nmail: x@else.example\n",
			"anna@example.org bob@example.net carl@example.org"},
	} {
		got, err := Parse(strings.TrimSpace(format), c.text, domains)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v; want %s", format, got, err, c.want)
		}
	}
	if _, err := Parse("csv", "", domains); err == nil {
		t.Error("a format that is none was read")
	}
	if _, err := Parse("postfix", "\x00\x00anna@example.org\x00", domains); err == nil || !strings.Contains(err.Error(), "postmap -s lmdb:") {
		t.Errorf("a compiled map: %v", err)
	}
}

func TestLDAPAddress(t *testing.T) {
	for where, want := range map[string]string{
		"ldaps://ldap.example.org/dc=example,dc=org?mail,proxyAddresses?one?(mail=*)": "ldap.example.org 636 dc=example,dc=org [mail proxyAddresses] 1 (mail=*)",
		"ldap://[2001:db8::1]:1389/ou=a%20b?mail":                                     "2001:db8::1 1389 ou=a b [mail] 2 (objectClass=*)",
		"ldap://[2001:db8::1]/o=x?mail??(uid=%2a)":                                    "2001:db8::1 389 o=x [mail] 2 (uid=*)",
		"ldapi:///o=x?mail?base":                                                      "/run/slapd/ldapi  o=x [mail] 0 (objectClass=*)",
		"ldapi://%2Ftmp%2Fsock/o=x?mail?sub?(a=b)?ext":                                "/tmp/sock  o=x [mail] 2 (a=b)",
		"ldaps://ldap.example.org/o=x":                                                "", "ldaps:///o=x?mail": "", "ldaps://h/?mail": "", "ldaps://h/o=x?mail?all": "",
		"ldaps://h/o=x?mail?sub?(": "", "ldaps://h/o=%zz?mail": "", "ldapi://relative/o=x?mail": "", "ldap:o=x": "",
	} {
		got := ""
		if q, err := parseLDAP(where); err == nil {
			got = fmt.Sprint(q.host, " ", q.port, " ", q.base, " ", q.attributes, " ", q.scope, " ", q.filter)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", where, got, want)
		}
	}
}

// primary answers RCPT.
type primary struct {
	reply queue.Reply
	asked int
}

func (p *primary) Verify(context.Context, queue.ForwardPath) queue.Reply {
	p.asked++
	return p.reply
}

func code(err error) int {
	if r, ok := errors.AsType[*relay.Rejection](err); ok {
		return r.Code
	}
	return 0
}

// Who exists is told by the list, then by the primary, then by the policy.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &primary{reply: queue.Reply{Cause: queue.CauseRefused}}
		d := New(Config{MaxAge: 48 * time.Hour, Unknown: Defer, Verifier: p})
		check := func(to queue.ForwardPath, want, asked int) {
			t.Helper()
			if got := code(d.Check(t.Context(), to)); got != want || p.asked != asked {
				t.Errorf("%s: %d after %d questions, want %d after %d", to, got, p.asked, want, asked)
			}
		}
		check("anna@example.org", 450, 1)
		check("Postmaster@example.org", 0, 1)
		d.Use(built(t, Options{}, "anna@example.org"))
		check("anna@example.org", 0, 1)
		check("nobody@example.org", 550, 1)
		check("anna@other.example", 450, 2)
		p.reply = queue.Reply{Code: 250}
		check("anna@other.example", 0, 3)
		p.reply = queue.Reply{Code: 550}
		check("anna@other.example", 0, 3)
		check("nobody@other.example", 550, 4)
		check("nobody@other.example", 550, 4)
		time.Sleep(72 * time.Hour) // the list is old now
		check("anna@example.org", 0, 4)
		check("new@example.org", 550, 5)
		p.reply = queue.Reply{Code: 450}
		check("newer@example.org", 450, 6)
		d.Reload(Config{MaxAge: 48 * time.Hour})
		check("newer@example.org", 0, 6)
	})
}

// What is remembered has a bound, and holds no address.
func TestRememberIsBounded(t *testing.T) {
	p := &primary{reply: queue.Reply{Code: 550}}
	d := New(Config{Unknown: Accept, Verifier: p})
	for i := range maxKnown + 1000 {
		if code(d.Check(t.Context(), queue.ForwardPath(fmt.Sprintf("u%d@example.org", i)))) != 550 {
			t.Fatal("somebody exists")
		}
	}
	if n := len(d.known); n != maxKnown {
		t.Errorf("%d are remembered, want %d", n, maxKnown)
	}
}
