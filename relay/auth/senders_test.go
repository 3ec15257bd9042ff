package auth

import (
	"slices"
	"strings"
	"testing"

	"tacet/relay"
)

func TestSendersHas(t *testing.T) {
	for list, want := range map[string]struct{ yes, no []string }{
		"anna@example.org": {
			[]string{"anna@example.org", "Anna@EXAMPLE.org", `"anna"@example.org`, `"an\na"@example.org`, "anna@example.org."},
			[]string{"", "anna", "@example.org", `""@example.org`, "bob@example.org", "anna@example.net", "anna@sub.example.org", "anna+x@example.org",
				"anna@example.org@evil.example", `"anna@example.org"@evil.example`, "anna@example.org\x00", `"anna@example.org`, "an na@example.org", "a\\nna@example.org", "anna@example..org", "anna\xff@example.org"},
		},
		"anna+*@example.org": {
			[]string{"anna+lists@example.org", "ANNA+a+b@example.org", "anna+@example.org", "anna+*@example.org"},
			[]string{"anna@example.org", "anna-x@example.org", "bob+anna@example.org", "+x@example.org"},
		},
		"@example.org": {
			[]string{"anna@example.org", "x+y@Example.Org", `"a b"@example.org`, `"a@b"@example.org`},
			[]string{"anna@sub.example.org", "anna@badexample.org", "anna@example.org.evil.example", `""@example.org`, "anna@org"},
		},
		"@.example.org": {
			[]string{"anna@sub.example.org", "anna@a.b.example.org"},
			[]string{"anna@example.org", "anna@badexample.org", "anna@sub.example.net"},
		},
		"müller@bücher.example": {
			[]string{"müller@xn--bcher-kva.example", "MÜLLER@BÜCHER.example", "mu\u0308ller@bu\u0308cher.example"},
			[]string{"muller@bücher.example", "müller@bucher.example"},
		},
		"info@example.org":           {[]string{"INFO@example.org"}, []string{"\u0130nfo@example.org"}}, // the Turkish I is no "i"
		`"a b"@example.org`:          {[]string{`"A b"@example.org`, `"a\ b"@example.org`}, []string{"a b@example.org", "ab@example.org"}},
		`"a,b"@x.example,@y.example`: {[]string{`"a,b"@x.example`, "c@y.example"}, []string{"b@x.example", "a@x.example"}},
		"anna@[192.0.2.1]":           {[]string{"anna@[192.0.2.1]"}, []string{"anna@[192.0.2.2]", "anna@192.0.2.1"}},
		"anna@[IPv6:2001:db8::1]":    {[]string{"anna@[ipv6:2001:DB8::1]"}, []string{"anna@2001:db8::1"}},
		"*":                          {[]string{"anna@example.org", "anything at all"}, nil},
		"":                           {nil, []string{"anna@example.org", ""}},
	} {
		s, err := ParseSenders(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		for _, address := range want.yes {
			if !s.Has(address) {
				t.Errorf("%q lacks %q", list, address)
			}
		}
		for _, address := range want.no {
			if s.Has(address) {
				t.Errorf("%q has %q", list, address)
			}
		}
	}
}

func TestParseRules(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "senders=": "senders=", "senders=*": "senders=*",
		"senders=a@example.org,a@EXAMPLE.org,@example.net  messages_per_day=5": "senders=a@example.org,@example.net messages_per_day=5",
		"new_recipients_per_day=0 messages_per_hour=10":                        "messages_per_hour=10 new_recipients_per_day=0",
		`senders="a b"@example.org messages_per_hour=1`:                        `senders="a b"@example.org messages_per_hour=1`,
	} {
		if r, err := ParseRules(text); err != nil || r.String() != want {
			t.Errorf("%q: %q, %v", text, r, err)
		}
	}
	for _, text := range []string{
		"senders", "sender=a@example.org", "senders=secret.name", "senders=a@example.org senders=b@example.org", "senders=secret.name@", "senders=@",
		"senders=@.", "senders=secret.name@exa mple.org", "senders=a@example.org,,b@example.org", "messages_per_hour=", "messages_per_hour=-1",
		"messages_per_hour=1000001", "messages_per_hour=1 messages_per_hour=2", "messages_per_week=1", "senders=\"secret.name@example.org",
		"senders=" + strings.Repeat("a@example.org,", MaxSenders) + "a@example.org", "senders=a\u202e@example.org",
	} {
		if r, err := ParseRules(text); err == nil {
			t.Errorf("%.60q was read as %.60q", text, r)
		} else if strings.Contains(err.Error(), "secret.name") {
			t.Errorf("%q: the error shows it: %v", text, err)
		}
	}
}

// Who has no senders may send by the defaults, and a changed file counts at once.
func TestMaySend(t *testing.T) {
	u := users(t, line("anna@example.org", "x"), line("bob", "x"), line("carl", "x")+":senders=carl@example.org,@example.net messages_per_day=7")
	type sends struct{ user, address string }
	for _, c := range []struct {
		defaults Defaults
		may      []sends
		mayNot   []sends
	}{
		{Defaults{Domains: []string{"example.org", "example.com"}}, []sends{{"anna@example.org", "Anna@example.org"}, {"bob", "Bob@EXAMPLE.com"}, {"bob", `"bob"@example.org.`}, {"carl", "x@example.net"}},
			[]sends{{"anna@example.org", "bob@example.org"}, {"anna@example.org", "anna@example.com"}, {"bob", "x@example.com"}, {"bob", "bob@example.net"}, {"bob", "bob@sub.example.org"},
				{"bob", "bob"}, {"carl", "anna@example.org"}, {"carl", "carl@example.com"}, {"nobody", "nobody@example.com"}, {"", "x@example.com"}}},
		{Defaults{}, []sends{{"anna@example.org", "anna@example.org"}}, []sends{{"bob", "bob@example.org"}, {"bob", "x@example.com"}}},
		{Defaults{Unlisted: UnlistedAny}, []sends{{"anna@example.org", "bob@example.org"}, {"bob", "x@example.com"}}, []sends{{"carl", "x@example.com"}}},
		{Defaults{Unlisted: UnlistedNone}, []sends{{"carl", "carl@example.org"}}, []sends{{"anna@example.org", "anna@example.org"}, {"bob", "x@example.com"}}},
	} {
		u.SetDefaults(c.defaults)
		for _, s := range c.may {
			if !u.MaySend(s.user, s.address) {
				t.Errorf("%+v: %s may not send as %s", c.defaults, s.user, s.address)
			}
		}
		for _, s := range c.mayNot {
			if u.MaySend(s.user, s.address) {
				t.Errorf("%+v: %s may send as %s", c.defaults, s.user, s.address)
			}
		}
	}
	all := relay.Quota{relay.MessagesPerDay: 3, relay.MessagesPerHour: 2}
	u.SetDefaults(Defaults{Quota: all})
	if got := u.Quota("anna@example.org"); got != all {
		t.Errorf("anna has %v", got)
	}
	if got := u.Quota("carl"); got != (relay.Quota{relay.MessagesPerDay: 7, relay.MessagesPerHour: 2}) {
		t.Errorf("carl has %v", got)
	}
	rewrite(t, u.path, line("carl", "x"))
	u.SetDefaults(Defaults{Quota: all, Domains: []string{"example.org"}})
	if err := u.Reload(); err != nil || !u.MaySend("carl", "carl@example.org") || u.MaySend("carl", "x@example.net") || u.Quota("carl") != all {
		t.Errorf("after the change: %v", err)
	}
}

// What a user is said to send as by default is what the user may send as.
func TestSendersByDefault(t *testing.T) {
	for name, want := range map[string]string{
		"bob": "bob@example.org,bob@xn--bcher-kva.example", "Bob+x": "Bob+x@example.org,Bob+x@xn--bcher-kva.example", "bob@example.net": "bob@example.net",
		"анна": "анна@example.org,анна@xn--bcher-kva.example", "bob@": "", "@example.org": "", "bob jones": "", `EXAMPLE\bob`: "", "a,b": "", "*": "*@example.org,*@xn--bcher-kva.example",
		"bob@example.org@": "", "b@b@example.org": "", "bob>": "", "\xff": "", `"b b"`: `"b b"@example.org,"b b"@xn--bcher-kva.example`,
	} {
		d := Defaults{Domains: []string{"example.org", "xn--bcher-kva.example"}}
		own := d.Senders(name)
		if own.String() != want || own.Any() {
			t.Errorf("%q sends as %q, want %q", name, own, want)
		}
		for _, address := range append(own.List(), "bob@example.org", "x@example.org", "b@example.org", "BOB@Bücher.example", "bob@example.net", name, name+"@example.org") {
			if own.Has(address) != d.maySend(name, address) {
				t.Errorf("%q as %q: listed %v, allowed %v", name, address, own.Has(address), d.maySend(name, address))
			}
		}
	}
}

// What is written is read back as the same rules, and a line keeps its hash.
func FuzzParseRules(f *testing.F) {
	f.Add(`senders=anna@example.org,"a,b c"@bücher.example,@.example.net,x+*@y.example messages_per_day=5`)
	f.Add("senders=*, recipients_per_hour=0")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRules(text)
		if err != nil {
			return
		}
		again, err := ParseRules(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q became %q and then %q, %v", text, r, again, err)
		}
		if strings.ContainsAny(r.String(), "\n\r") {
			t.Fatalf("%q is more than a line", r)
		}
		if r.Senders == nil {
			return
		}
		if !slices.Equal(r.Senders.List(), again.Senders.List()) {
			t.Fatalf("%q and %q", r.Senders.List(), again.Senders.List())
		}
		for _, address := range []string{"@", "x", "evil@" + strings.Repeat("a", 300)} {
			if r.Senders.Has(address) && !r.Senders.Any() {
				t.Fatalf("%q has %q", r, address)
			}
		}
		name, hash, back, err := SplitLine(Line("anna", goodHash, r))
		if err != nil || name != "anna" || hash != goodHash || back.String() != r.String() {
			t.Fatalf("the line came back as %q, %q, %q, %v", name, hash, back, err)
		}
	})
}

func BenchmarkMaySend(b *testing.B) {
	rules := make(map[string]account)
	listed, err := ParseRules("senders=anna@example.org,info@example.org,@example.net")
	if err != nil {
		b.Fatal(err)
	}
	rules["anna@example.org"], rules["listed"] = account{}, account{rules: &listed}
	u := &Users{}
	u.SetDefaults(Defaults{})
	u.table.Store(newTable(rules))
	for _, c := range [][2]string{{"anna@example.org", "anna@example.org"}, {"anna@example.org", "Anna@Example.org"}, {"listed", "info@example.org"}} {
		b.Run(c[0]+" "+c[1], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !u.MaySend(c[0], c[1]) {
					b.Fatal("refused")
				}
			}
		})
	}
}
