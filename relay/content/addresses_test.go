package content

import (
	"strings"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	for value, want := range map[string]string{
		"a@example.org":                                 "a@example.org",
		" Ann <a@example.org>":                          "a@example.org",
		`"Ann, of <b@evil.example>" <a@example.org>`:    "a@example.org",
		"Ann (b@evil.example) <a@example.org> (x)":      "a@example.org",
		"a@example.org, B C\r\n <b@example.net>":        "a@example.org b@example.net",
		"group: a@example.org, <b@example.net>;":        "a@example.org b@example.net",
		"undisclosed-recipients:;":                      "",
		`"a b"@example.org`:                             `"a b"@example.org`,
		`"a@evil.example"@example.org`:                  `"a@evil.example"@example.org`,
		"<@relay.example,@other.example:a@example.org>": "-",
		"<@relay.example:a@example.org>":                "a@example.org",
		"a @ example . org":                             "a@example.org",
		"ann.müller@bücher.example":                     "ann.müller@bücher.example",
		",a@example.org,,":                              "a@example.org",
		"":                                              "",
		// What readers disagree about is not believed.
		"a@example.org <b@evil.example>":  "b@evil.example",
		"<a@example.org> <b@example.net>": "-", "<a@example.org> b": "-", "a@example.org b@example.net": "-",
		"a@b@example.org": "-", "Ann": "-", "<a@example.org": "-", "a@example.org>": "-", `"a@example.org`: "-", "(a@example.org": "-",
		"a@": "-", "@example.org": "-", "a\x00@example.org": "-", "a@example.org;": "-", "g: a@x.example": "a@x.example",
	} {
		found, ok := addresses([]byte(value))
		got := strings.Join(found, " ")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// No address field costs more than its length.
func TestAddressesCost(t *testing.T) {
	for _, unit := range []string{"a@[", "(", "\"", "\\", "<", "a ", "a,", ":", "((\\)", "=?utf-8?q?a?="} {
		start := time.Now()
		value := []byte(strings.Repeat(unit, maxAddressField/len(unit)))
		_, _ = addresses(value)
		if took := time.Since(start); took > patience {
			t.Errorf("%q takes %v", unit, took)
		}
		if _, ok := addresses(append(value, "aaaaaaaaaaaaa"...)); ok {
			t.Errorf("%q: too long, and taken", unit)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add(`"Ann, of <b@evil.example>" <a@example.org> (x), g: a@x;`)
	f.Fuzz(func(t *testing.T, value string) {
		found, ok := addresses([]byte(value))
		for _, a := range found {
			if !ok || !strings.Contains(a, "@") || strings.ContainsAny(a, "\r\n\x00") && !strings.Contains(a, `"`) {
				t.Errorf("%q gives %q", value, a)
			}
			if d := domainOf(a); strings.ContainsAny(d, " \t\r\n<>@") {
				t.Errorf("%q has the domain %q", a, d)
			}
		}
	})
}
