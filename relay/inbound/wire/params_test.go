package wire

import (
	"math"
	"strings"
	"testing"

	"tacet/queue"
)

func TestMailParameters(t *testing.T) {
	base := Mail{From: "a@b", Size: -1}
	with := func(change func(*Mail)) Mail { m := base; change(&m); return m }
	for _, test := range []struct {
		in    string
		want  Mail
		reply string
	}{
		{"FROM:<a@b>", base, ""},
		{"from:<a@b>", base, ""},
		{"FROM:  <a@b>", base, ""},
		{"FROM:<a@b>  SIZE=5", with(func(m *Mail) { m.Size = 5 }), ""},
		{"FROM:<a@b> size=0 Body=8bitmime smtputf8", with(func(m *Mail) { m.Size, m.Body, m.UTF8 = 0, queue.Body8BitMIME, true }), ""},
		{"FROM:<a@b> BODY=7BIT RET=full", with(func(m *Mail) { m.Return = queue.ReturnFull }), ""},
		{"FROM:<a@b> RET=HDRS ENVID=QQ+20+2B", with(func(m *Mail) { m.Return, m.EnvID = queue.ReturnHeaders, "QQ +" }), ""},
		{"FROM:<a@b> SIZE=99999999999999999999", with(func(m *Mail) { m.Size = math.MaxInt64 }), ""},
		{"FROM:<a@b> AUTH=<>", base, ""},
		{"TO:<a@b>", Mail{}, replyMailSyntax},
		{"FROM <a@b>", Mail{}, replyMailSyntax},
		{"FROM:a@b", Mail{}, replySenderBad},
		{"FROM:<a@b>SIZE=5", Mail{}, replyParam},
		{"FROM:<a@b>>", Mail{}, replyParam},
		{"FROM:<a@b> SIZE", Mail{}, replyParam},
		{"FROM:<a@b> SIZE=", Mail{}, replyParam},
		{"FROM:<a@b> =5", Mail{}, replyParam},
		{"FROM:<a@b> SIZE=5=5", Mail{}, replyParam},
		{"FROM:<a@b> SIZE=+5", Mail{}, replyParam},
		{"FROM:<a@b> SIZE=999999999999999999999", Mail{}, replyParam},
		{"FROM:<a@b> BODY=9BIT", Mail{}, replyParam},
		{"FROM:<a@b> BODY=BINARYMIME", Mail{}, replyBinary},
		{"FROM:<a@b> SMTPUTF8=1", Mail{}, replyParam},
		{"FROM:<a@b> RET=ALL", Mail{}, replyParam},
		{"FROM:<a@b> RET=FULL RET=FULL", Mail{}, replyParam},
		{"FROM:<a@b> SMTPUTF8 SMTPUTF8", Mail{}, replyParam},
		{"FROM:<a@b> AUTH=<> AUTH=<>", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=+0A", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=+0a", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=+4", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=+", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=ü", Mail{}, replyParam},
		{"FROM:<a@b> ENVID=" + strings.Repeat("x", 101), Mail{}, replyParam},
		{"FROM:<a@b> REQUIRETLS", Mail{}, replyParamNew},
		{"FROM:<a@b> HOLDFOR=10", Mail{}, replyParamNew},
		{"FROM:<a@b> NOTIFY=NEVER", Mail{}, replyParamNew},
		{"FROM:<a@b> A-VERY-LONG-KEYWORD=1", Mail{}, replyParamNew},
		{"FROM:<ü@b>", Mail{}, replyUTF8},
		{"FROM:<" + strings.Repeat("x", 65) + "@b>", Mail{}, replySenderLong},
	} {
		m, reply := parseMail([]byte(test.in), false)
		if reply != test.reply || reply == "" && m != test.want {
			t.Errorf("MAIL %s is %+v, %q; want %+v, %q", test.in, m, reply, test.want, test.reply)
		}
	}
}

func TestRcptParameters(t *testing.T) {
	base := Rcpt{To: "a@b"}
	with := func(change func(*Rcpt)) Rcpt { r := base; change(&r); return r }
	for _, test := range []struct {
		in    string
		want  Rcpt
		reply string
	}{
		{"TO:<a@b>", base, ""},
		{"to: <a@b>", base, ""},
		{"TO:<a@b> NOTIFY=NEVER", with(func(r *Rcpt) { r.Notify = queue.NotifyNever }), ""},
		{"TO:<a@b> notify=success,Failure,DELAY", with(func(r *Rcpt) { r.Notify = queue.NotifySuccess | queue.NotifyFailure | queue.NotifyDelay }), ""},
		{"TO:<a@b> ORCPT=rfc822;x+3Dy@z", with(func(r *Rcpt) { r.ORcpt = "rfc822;x=y@z" }), ""},
		{"TO:<a@b> ORCPT=x400;/C+3Dde/", with(func(r *Rcpt) { r.ORcpt = "x400;/C=de/" }), ""},
		{`TO:<a@b> ORCPT=utf-8;x\x{FC}\x{1F600}@z`, with(func(r *Rcpt) { r.ORcpt = "utf-8;xü😀@z" }), ""},
		{"TO:<a@b> ORCPT=UTF-8;ü@z", with(func(r *Rcpt) { r.ORcpt = "UTF-8;ü@z" }), ""},
		{"FROM:<a@b>", Rcpt{}, replyRcptSyntax},
		{"TO:<>", Rcpt{}, replyRcptBad},
		{"TO:<a@b> NOTIFY=NEVER,DELAY", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY=DELAY,DELAY", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY=DELAY,", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY=", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY=ALWAYS", Rcpt{}, replyParam},
		{"TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=rfc822;", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=;x", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=x", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=rfc822;a+0D+0AX@z", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=rf(c;x", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=rfc822;ü", Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\x{85}`, Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\x{2028}`, Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\x{D800}`, Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\x{0A}`, Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\x{`, Rcpt{}, replyParam},
		{`TO:<a@b> ORCPT=utf-8;\y`, Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=utf-8;a+b", Rcpt{}, replyParam},
		{"TO:<a@b> ORCPT=rfc822;" + strings.Repeat("x", 500), Rcpt{}, replyParam},
		{"TO:<a@b> RRVS=2014-04-03T23:01:00Z", Rcpt{}, replyParamNew},
		{"TO:<a@b> SIZE=1", Rcpt{}, replyParamNew},
		{"TO:<ü@b>", Rcpt{}, replyUTF8},
	} {
		r, reply := parseRcpt([]byte(test.in), false)
		if reply != test.reply || reply == "" && r != test.want {
			t.Errorf("RCPT %s is %+v, %q; want %+v, %q", test.in, r, reply, test.want, test.reply)
		}
	}
}

// TestRequireTLS checks the one parameter that TLS allows (RFC 8689 §3).
func TestRequireTLS(t *testing.T) {
	for in, want := range map[string]string{
		"FROM:<a@b> REQUIRETLS": "", "FROM:<a@b> requiretls SIZE=5": "",
		"FROM:<a@b> REQUIRETLS REQUIRETLS": replyParam, "FROM:<a@b> REQUIRETLS=1": replyParam,
	} {
		if m, reply := parseMail([]byte(in), true); reply != want || reply == "" && !m.RequireTLS {
			t.Errorf("%s under TLS: %+v, %q", in, m, reply)
		}
		if _, reply := parseMail([]byte(in), false); reply == "" {
			t.Errorf("%s was taken in the clear", in)
		}
	}
}

func FuzzParameters(f *testing.F) {
	f.Add([]byte(`FROM:<a@b> SIZE=5 ENVID=x+2B SMTPUTF8`))
	f.Add([]byte(`TO:<a@b> NOTIFY=NEVER ORCPT=utf-8;\x{FC}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		clean := func(s string) {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 }) {
				t.Fatalf("%q of %q", s, in)
			}
		}
		if m, reply := parseMail(in, true); reply == "" {
			clean(string(m.From))
			clean(m.EnvID)
		}
		if r, reply := parseRcpt(in, true); reply == "" {
			clean(string(r.To))
			clean(r.ORcpt)
		}
	})
}
