package wire

import (
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	local64 := strings.Repeat("l", 64)
	label63 := strings.Repeat("d", 63)
	for _, test := range []struct {
		in   string
		want string // of the mailbox; "!" is faultSyntax, "#" faultLength
	}{
		{"<a@b>", "a@b"},
		{"<a.b+c@d.example>", "a.b+c@d.example"},
		{"<!#$%&'*+-/=?^_`{|}~@d.example>", "!#$%&'*+-/=?^_`{|}~@d.example"},
		{`<"a b"@d.example>`, `"a b"@d.example`},
		{`<"x> ORCPT=rfc822;y"@d.example>`, `"x> ORCPT=rfc822;y"@d.example`},
		{`<"v@evil> NOTIFY=NEVER"@ok.example>`, `"v@evil> NOTIFY=NEVER"@ok.example`},
		{`<"a\"b\\c"@d.example>`, `"a\"b\\c"@d.example`},
		{`<""@d.example>`, `""@d.example`},
		{"<@a.example,@b.example:c@d.example>", "c@d.example"},
		{"<@a.example:c@d.example>", "c@d.example"},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]"},
		{"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"},
		{"<a@[ipv6:::1]>", "a@[ipv6:::1]"},
		{"<a@x_y.example>", "a@x_y.example"},
		{"<a@1x.example>", "a@1x.example"},
		{"<Postmaster>", "Postmaster"},
		{"<POSTMASTER>", "POSTMASTER"},
		{"<用户@例子.example>", "用户@例子.example"},
		{"<a@xn--fsqu00a.example>", "a@xn--fsqu00a.example"},
		{"<" + local64 + "@d.example>", local64 + "@d.example"},
		{"<a@" + label63 + ".example>", "a@" + label63 + ".example"},
		{"<a@" + strings.Repeat("abcdefg.", 31) + "abcd>", "a@" + strings.Repeat("abcdefg.", 31) + "abcd"}, // 256 with the brackets

		{"<" + local64 + "l@d.example>", "#"},
		{"<a@" + strings.Repeat("abcdefg.", 31) + "abcde>", "#"}, // 257
		{"<a@" + strings.Repeat("abcdefg.", 32) + ">", "#"},      // a domain of 256
		{"<a@" + label63 + "d.example>", "!"},
		{"", "!"}, {"<", "!"}, {"<>", "!"}, {"<a>", "!"}, {"a@b", "!"}, {"<a@b", "!"}, {"<@b>", "!"}, {"<a@>", "!"},
		{"<a@b>>", "!rest"}, {"<<a@b>>", "!"}, {"<a@b@c>", "!"}, {"<a b@c>", "!"}, {"<a@b c>", "!"}, {"< a@b>", "!"},
		{"<.a@b>", "!"}, {"<a.@b>", "!"}, {"<a..b@c>", "!"}, {"<a(x)@b>", "!"}, {"<a,b@c>", "!"}, {"<a\\b@c>", "!"},
		{`<"a@b>`, "!"}, {`<"a"b@c>`, "!"}, {`<a"b"@c>`, "!"}, {`<"a\`, "!"}, {"<\"a\x00b\"@c>", "!"}, {"<\"a\rb\"@c>", "!"}, {"<\"a\\\x01\"@c>", "!"},
		{"<a\x00@b>", "!"}, {"<a@b\x00>", "!"}, {"<a\x7f@b>", "!"}, {"<a@b\t>", "!"},
		{"<a@d:2525>", "!"}, {"<a@127.0.0.1>", "!"}, {"<a@2130706433>", "!"}, {"<a@0x7f.1>", "!"}, {"<a@.d>", "!"}, {"<a@d..e>", "!"},
		{"<a@d.>", "!"}, {"<a@d/../x>", "!"}, {"<a@d%00>", "!"}, {"<a@-d>", "!"}, {"<a@d->", "!"}, {"<a@d-.example>", "!"}, {"<a@d.-e>", "!"},
		{"<a@[127.1]>", "!"}, {"<a@[0127.0.0.1]>", "!"}, {"<a@[::1]>", "!"}, {"<a@[IPv6:127.0.0.1]>", "!"}, {"<a@[IPv6:fe80::1%eth0]>", "!"},
		{"<a@[]>", "!"}, {"<a@[192.0.2.1>", "!"}, {"<a@[x:y]>", "!"},
		{"<@a.example,b.example:c@d>", "!"}, {"<@a.example c@d>", "!"}, {"<@:c@d>", "!"}, {"<@a.example:>", "!"},
		{"<a@d＠e.example>", "!"}, {"<a@d．example>", "!"}, {"<a@d。example>", "!"}, {"<a@d\u2010e.example>", "!"},
		{"<a@\u212aelvin.example>", "!"}, {"<a@d\u202ee.example>", "!"}, {"<a@d\u200be.example>", "!"}, {"<a@ｄ.example>", "!"},
		{"<a@\U0001d41a.example>", "!"}, {"<a@bu\u0308cher.example>", "!"}, {"<a@ı.example>", "!"}, {"<a@d\xff.example>", "!"},
		{"<a\u0085@d>", "!"}, {"<a\u2028@d>", "!"}, {"<a\u202e@d>", "!"}, {"<a\ufeff@d>", "!"}, {"<a\xff@d>", "!"}, {"<\"a\xc3\"@d>", "!"},
	} {
		p, rest, f := parsePath([]byte(test.in), false, true)
		got := p.mailbox
		switch {
		case f == faultSyntax:
			got = "!"
		case f == faultLength:
			got = "#"
		case len(rest) > 0:
			got = "!rest"
		}
		if got != test.want {
			t.Errorf("path %q is %q, want %q", test.in, got, test.want)
		}
	}
}

func TestPathOptions(t *testing.T) {
	if _, _, f := parsePath([]byte("<postmaster>"), true, false); f != faultSyntax {
		t.Error("a sender without domain is taken")
	}
	p, rest, f := parsePath([]byte("<> SIZE=1"), true, false)
	if f != faultNone || p.mailbox != "" || string(rest) != " SIZE=1" {
		t.Errorf("null path is %q, rest %q", p.mailbox, rest)
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"<a@b>", `<"a\"b"@[IPv6:::1]> X=1`, "<@a,@b:c@d>", "<postmaster>", "<用@例.example>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, rest, fault := parsePath(in, false, true)
		if fault != faultNone {
			return
		}
		m := p.mailbox
		if len(m)+2 > maxPath || strings.ContainsAny(m, "\r\n\x00\x7f") {
			t.Fatalf("mailbox %q", m)
		}
		if ascii([]byte(m)) == p.utf8 {
			t.Fatalf("mailbox %q has utf8 %v", m, p.utf8)
		}
		// As it stands on the wire again it is the same, and ends where it ends.
		again, tail, fault := parsePath([]byte("<"+m+"> NOTIFY=NEVER"), false, true)
		if fault != faultNone || again != p || string(tail) != " NOTIFY=NEVER" {
			t.Fatalf("mailbox %q is %q again, then %q", m, again.mailbox, tail)
		}
		// What is taken was there, and nothing of what follows.
		if !strings.HasSuffix(string(in[:len(in)-len(rest)]), m+">") {
			t.Fatalf("mailbox %q of %q", m, in)
		}
	})
}
