package outbound

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"tacet/queue"
)

// requoted are paths that go out in another form: quoted where they have to be,
// and nowhere else.
var requoted = map[string]string{
	"a..b.@example.com": `"a..b."@example.com`, "a..b@example.com": `"a..b"@example.com`, ".a@example.com": `".a"@example.com`,
	`"a"@example.com`: "a@example.com", `"a.b"@example.com`: "a.b@example.com", `"ü"@example.com`: "ü@example.com",
	`"\a\ b"@example.com`: `"a b"@example.com`,
}

func TestParseMailbox(t *testing.T) {
	good := []string{
		"a@b", "a.b+c@example.com", "a..b.@example.com", `"a b"@example.com`, `"a>b\"<c\\"@example.com`, `""@example.com`,
		"a@[127.0.0.1]", "a@[IPv6:::1]", "a@_x.example", "Postmaster", "postmaster@x.example", "ü@example.com", "a@bücher.example",
		`"a"@example.com`, `"a.b"@example.com`, `".a"@example.com`, `"\a\ b"@example.com`, `"a@b"@example.com`, `"ü"@example.com`, "a..b@example.com", ".a@example.com",
		"!#$%&'*+-/=?^_`{|}~@example.com", strings.Repeat("a", 64) + "@" + strings.Repeat("b", 255),
	}
	for _, path := range good {
		m, ok := parseMailbox(path)
		if !ok {
			t.Errorf("%q is refused", path)
			continue
		}
		want := path
		if anew, ok := requoted[path]; ok {
			want = anew
		}
		if got := string(appendMailbox(nil, m, true)); got != want {
			t.Errorf("%q goes out as %q, want %q", path, got, want)
		}
	}
	bad := []string{
		`"postmaster"`, "", "@", "a@", "@b", "a", "a b@c", "a@b c", "a@b>c", "a>@b", "<a@b>", "a@b\r\nRCPT TO:<c@d", "a\r@b", "a\n@b", "a\x00@b", "a\t@b",
		`"a@b`, `"a"b@c`, `"a\"@b`, `"a` + "\r\n" + `"@b`, `"a` + "\x00" + `"@b`, `"a\` + "\r" + `"@b`, "a@b@c", "a@b:25", "a@[b", "a@b]", "a@[]", "a@[1>2]", "a@[1 2]",
		"a@b NOTIFY=NEVER", "a,b@c", "a;b@c", "(a)b@c", "a@b\x7f", "a@b/../c", "a@b%00",
		"a@b\u0085c", "a\u2028@b", "a\u00a0b@c", "a@b\u3000c", "a\xff@b", "a@\xc3",
		strings.Repeat("a", 400) + "@b", "a@" + strings.Repeat("b", 256),
	}
	for _, path := range bad {
		if _, ok := parseMailbox(path); ok {
			t.Errorf("%q is taken", path)
		}
	}
}

func TestPathsThatCannotBeSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := deliver(t, claim(letter, "a@example.com", `v@evil> NOTIFY=NEVER`, `"v@evil> NOTIFY=NEVER"@ok.example`), server(pipelines, nil, nil))
		if !r.Replies[0].Delivered() || r.Replies[1].Cause != queue.CauseBadDomain || !r.Replies[2].Delivered() {
			t.Errorf("%+v", r.Replies)
		}
		if to := h.taken()[0].to; !slices.Equal(to, []string{"TO:<a@example.com>", `TO:<"v@evil> NOTIFY=NEVER"@ok.example>`}) {
			t.Errorf("%q", to)
		}
	})
	c := claim(letter, "a@example.com")
	c.Envelope.Sender = "a@b>\r\nRSET"
	r, h := deliver(t, c, server(pipelines, nil, nil))
	if !r.Replies[0].Permanent() || h.dials() != 0 {
		t.Errorf("%+v over %d connections", r.Replies[0], h.dials())
	}
}

// told is what a hop with the offer is told of a message.
func told(t *testing.T, offer string, c *queue.Claim) (commands []string, replies []queue.Reply) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, h := deliver(t, c, server(offer, nil, nil))
		for _, line := range h.told() {
			if strings.HasPrefix(line, "MAIL") || strings.HasPrefix(line, "RCPT") {
				commands = append(commands, line)
			}
		}
		replies = r.Replies
	})
	return commands, replies
}

func TestParameters(t *testing.T) {
	all := "Pipelining size 8bitmime SmtpUtf8 dsn"
	tests := []struct {
		name, offer string
		change      func(e *queue.Envelope)
		mail, rcpt  string
	}{
		{"nothing offered", "X", func(e *queue.Envelope) { e.EnvID, e.Return = "id", queue.ReturnFull }, "", ""},
		{"size", all, nil, " SIZE=68", ""},
		{"8bit", all, func(e *queue.Envelope) { e.Body = queue.Body8BitMIME }, " SIZE=68 BODY=8BITMIME", ""},
		{"declared only", "PIPELINING", func(e *queue.Envelope) { e.Body = queue.Body8BitMIME }, "", ""},
		{"declared only", "PIPELINING", func(e *queue.Envelope) { e.UTF8 = true }, "", ""},
		{"utf8", all, func(e *queue.Envelope) { e.UTF8 = true }, " SIZE=68 SMTPUTF8", ""},
		{"binary", all + " BINARYMIME CHUNKING", func(e *queue.Envelope) { e.Body = queue.BodyBinaryMIME }, " SIZE=68 BODY=BINARYMIME", ""},
		{"dsn", all, func(e *queue.Envelope) {
			e.Return, e.EnvID = queue.ReturnHeaders, "a=b+c d"
			e.Recipients[0].Notify, e.Recipients[0].ORcpt = queue.NotifySuccess|queue.NotifyDelay, "rfc822;x+y@example.net"
		}, " SIZE=68 RET=HDRS ENVID=a+3Db+2Bc+20d", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@example.net"},
		{"never", all, func(e *queue.Envelope) {
			e.Return, e.Recipients[0].Notify = queue.ReturnFull, queue.NotifyNever|queue.NotifyFailure
		}, " SIZE=68 RET=FULL", " NOTIFY=NEVER"},
		{"injected", all, func(e *queue.Envelope) {
			e.EnvID, e.Recipients[0].ORcpt = "a\r\nRSET", "rfc822;a\r\nRSET b@c"
		}, " SIZE=68 ENVID=a+0D+0ARSET", " ORCPT=rfc822;a+0D+0ARSET+20b@c"},
		{"injected type", all, func(e *queue.Envelope) { e.Recipients[0].ORcpt = "x NOTIFY=NEVER;a@b" }, " SIZE=68", ""},
		{"too long", all, func(e *queue.Envelope) {
			e.EnvID, e.Recipients[0].ORcpt = strings.Repeat("=", 40), "rfc822;"+strings.Repeat("a", 500)
		}, " SIZE=68", ""},
		{"utf-8 address", all, func(e *queue.Envelope) { e.Recipients[0].ORcpt = "utf-8;ü+\u2028\n@b" }, " SIZE=68", ` ORCPT=utf-8;\x{FC}\x{2B}\x{2028}\x{0A}@b`},
		{"utf-8 address said raw", all, func(e *queue.Envelope) { e.UTF8, e.Recipients[0].ORcpt = true, "utf-8;ü+\u2028@b" }, " SIZE=68 SMTPUTF8", ` ORCPT=utf-8;ü\x{2B}\x{2028}@b`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := claim(letter, "a@example.com")
			if test.change != nil {
				test.change(c.Envelope)
			}
			want := []string{"MAIL FROM:<sender@example.org>" + test.mail, "RCPT TO:<a@example.com>" + test.rcpt}
			got, replies := told(t, test.offer, c)
			if !slices.Equal(got, want) || !replies[0].Delivered() {
				t.Errorf("told %q, want %q: %+v", got, want, replies[0])
			}
		})
	}
}

func TestNeverDowngraded(t *testing.T) {
	eightBit := "Subject: x\r\n\r\nGrüße\r\n"
	pad := strings.Repeat("0123456789\r\n", 20_000)
	tests := []struct {
		name, offer, content string
		change               func(e *queue.Envelope)
		want                 []queue.Cause
	}{
		{"longest line", chunks, strings.Repeat("x", 998) + "\r\n." + strings.Repeat("y", 997) + "\r\n", nil, []queue.Cause{0, 0}},
		{"longer line", pipelines, "\r\n" + strings.Repeat("x", 999) + "\r\n", nil, []queue.Cause{queue.CauseLineTooLong, queue.CauseLineTooLong}},
		{"longer line in a chunk", chunks, pad + strings.Repeat("x", 999), nil, []queue.Cause{queue.CauseLineTooLong, queue.CauseLineTooLong}},
		{"longer line, late", lockstep, pad + strings.Repeat("x", 100_000) + "\r\n", nil, []queue.Cause{queue.CauseLineTooLong, queue.CauseLineTooLong}},
		{"8BITMIME", "PIPELINING", eightBit, func(e *queue.Envelope) { e.Body = queue.Body8BitMIME }, []queue.Cause{queue.CauseNo8BitMIME, queue.CauseNo8BitMIME}},
		{"8-bit never declared", "PIPELINING", eightBit, nil, []queue.Cause{0, 0}},
		{"BINARYMIME", chunks, "a\nb", func(e *queue.Envelope) { e.Body = queue.BodyBinaryMIME }, []queue.Cause{queue.CauseNo8BitMIME, queue.CauseNo8BitMIME}},
		{"SIZE", "PIPELINING SIZE_10", letter, nil, []queue.Cause{queue.CauseTooLarge, queue.CauseTooLarge}},
		{"SIZE beyond measure", "PIPELINING SIZE_99999999999999999999", letter, nil, []queue.Cause{0, 0}},
		{"UTF-8 header", pipelines, "Subject: ü\r\n\r\nx\r\n", func(e *queue.Envelope) { e.UTF8 = true }, []queue.Cause{queue.CauseNoSMTPUTF8, queue.CauseNoSMTPUTF8}},
		{"UTF-8 body alone", pipelines, "\r\nGrüße\r\n", func(e *queue.Envelope) { e.UTF8 = true }, []queue.Cause{0, 0}},
		{"UTF-8 body only", pipelines, eightBit, func(e *queue.Envelope) { e.UTF8 = true }, []queue.Cause{0, 0}},
		{"UTF-8 sender", pipelines, letter, func(e *queue.Envelope) { e.Sender = "ü@example.com" }, []queue.Cause{queue.CauseNoSMTPUTF8, queue.CauseNoSMTPUTF8}},
		{"UTF-8 recipient", pipelines, letter, func(e *queue.Envelope) { e.Recipients[1].Path = "ü@example.com" }, []queue.Cause{0, queue.CauseNoSMTPUTF8}},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				c := claim(test.content, "a@example.com", "b@example.com")
				if test.change != nil {
					test.change(c.Envelope)
				}
				if stream {
					c = streamed(c)
				}
				_, replies := told(t, test.offer, c)
				for i, r := range replies {
					if r.Cause != test.want[i] || r.Permanent() == r.Delivered() {
						t.Errorf("recipient %d: %+v", i, r)
					}
				}
			})
		}
	}
}

// A peer with BINARYMIME takes lines of any length, for that is what they are
// (RFC 3030 §3); found out on the way, the message is begun anew.
func TestLongLinesAsBinary(t *testing.T) {
	content := strings.Repeat("0123456789\r\n", 20_000) + strings.Repeat("x", 5000) + "\r\n.\r\n"
	for _, test := range []struct {
		name    string
		content string
		stream  bool
		dials   int
	}{{"short", letter + strings.Repeat("x", 5000) + "\r\n", false, 1}, {"in memory", content, false, 1}, {"streamed", content, true, 2}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := claim(test.content, "a@example.com")
				if test.stream {
					c = streamed(c)
				}
				r, h := deliver(t, c, server(chunks+" BINARYMIME", nil, nil))
				got := h.taken()
				if !r.Replies[0].Delivered() || h.dials() != test.dials || len(got) != 1 || got[0].content != test.content || !strings.Contains(got[0].from, "BODY=BINARYMIME") {
					t.Errorf("%+v, %d connections, %d messages", r.Replies[0], h.dials(), len(got))
				}
			})
		})
	}
}

// A primary gets what came for it: refused here, a long line would be answered
// to whoever the mail claims to be from.
func TestLongLinesToPrimary(t *testing.T) {
	content := strings.Repeat("0123456789\r\n", 20_000) + strings.Repeat("x", 5000) + "\r\n"
	for _, offer := range []string{lockstep, pipelines, chunks} {
		for _, stream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				m := claim(content, "a@example.com")
				if stream {
					m = streamed(m)
				}
				h := newHop(t, server(offer, nil, nil))
				where := hops(1)
				where.route.Primary = true
				c := New(Config{Dial: h.dial}, where)
				r := c.Deliver(t.Context(), m).Replies[0]
				c.Close()
				h.wg.Wait()
				if got := h.taken(); !r.Delivered() || len(got) != 1 || got[0].content != content || strings.Contains(got[0].from, "BINARYMIME") {
					t.Errorf("%s: %+v, %d messages", offer, r, len(got))
				}
			})
		}
	}
}

func TestInternationalDomains(t *testing.T) {
	c := claim(letter, "a@bücher.example")
	c.Envelope.Sender = "b@Grüße.example"
	got, _ := told(t, pipelines, c)
	if want := []string{"MAIL FROM:<b@xn--gre-6ka8l.example> SIZE=68", "RCPT TO:<a@xn--bcher-kva.example>"}; !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
	got, _ = told(t, pipelines+" SMTPUTF8", c)
	if want := []string{"MAIL FROM:<b@Grüße.example> SIZE=68 SMTPUTF8", "RCPT TO:<a@bücher.example>"}; !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
}

func TestNullSenderAndPostmaster(t *testing.T) {
	c := claim(letter, "Postmaster")
	c.Envelope.Sender = ""
	got, _ := told(t, "X", c)
	if want := []string{"MAIL FROM:<>", "RCPT TO:<Postmaster>"}; !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
}

func TestReportsDuty(t *testing.T) {
	for offer, want := range map[string]bool{pipelines: false, pipelines + " DSN": true} {
		synctest.Test(t, func(t *testing.T) {
			if r, _ := deliver(t, claim(letter, "a@example.com"), server(offer, nil, nil)); r.Reports != want {
				t.Errorf("%s: %v", offer, r.Reports)
			}
		})
	}
}

// Where one of two hops reports nothing, better two reports than none.
func TestReportsDutyOfTwo(t *testing.T) {
	one := " LIMITS_RCPTMAX=1_MAILMAX=1"
	for _, offers := range [][2]string{{pipelines + " DSN" + one, pipelines + one}, {pipelines + one, pipelines + " DSN" + one}} {
		synctest.Test(t, func(t *testing.T) {
			r, h := deliver(t, claim(letter, "a@example.com", "b@example.com"), server(offers[0], nil, nil), server(offers[1], nil, nil))
			if r.Reports || !r.Replies[0].Delivered() || !r.Replies[1].Delivered() || h.dials() != 2 {
				t.Errorf("%+v over %d connections", r, h.dials())
			}
		})
	}
}

func TestHELO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := deliver(t, claim(letter, "a@example.com"), server("", nil, func(_ *side, state, _ string) string {
			if state == "ehlo" {
				return "500-PIPELINING\r\n500 what is EHLO"
			}
			return ""
		}))
		if !r.Replies[0].Delivered() || !slices.Contains(h.told(), "HELO relay.example") || r.TLS.None != queue.NoTLSNotOffered {
			t.Errorf("%+v, told %q", r, h.told())
		}
	})
}

func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c`, `"\"\\"@c`, `"a"@b`, "a..b@c", `""@c`, "a@[::1]", "ü@ü.example", "a@b> NOTIFY=NEVER", `"v@evil> X=Y"@ok`, "a\r\n@b"} {
		f.Add(s, s, s)
	}
	p := &peer{size: true, dsn: true, eightBitMIME: true}
	f.Fuzz(func(t *testing.T, path, envID, orcpt string) {
		m, ok := parseMailbox(path)
		if !ok {
			return
		}
		for _, utf8 := range []bool{false, true} {
			if m.utf8Domain && !utf8 && !asciiDomain(m) {
				continue
			}
			e := &queue.Envelope{EnvID: envID, Recipients: []queue.Recipient{{ORcpt: orcpt}}}
			checkCommand(t, string(appendMail(nil, e, e.Body, 1, m, p, utf8)), "MAIL FROM:<", []string{"SIZE=", "SMTPUTF8", "ENVID="})
			checkCommand(t, string(appendRcpt(nil, &e.Recipients[0], m, p, utf8)), "RCPT TO:<", []string{"ORCPT="})
		}
		printed := string(appendMailbox(nil, m, true))
		if again, ok := parseMailbox(printed); len(printed) <= maxMailbox && (!ok || again != m) {
			t.Fatalf("%q goes out as %q, which reads %+v instead of %+v", path, printed, again, m)
		}
		if string(appendMailbox(nil, m, true)) != printed || len(printed) > 2*len(path)+2 {
			t.Fatalf("%q goes out as %q", path, printed)
		}
	})
}

// checkCommand reads a command as a receiver does, and wants one path and no other parameters.
func checkCommand(t *testing.T, line, prefix string, params []string) {
	t.Helper()
	body, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(body, "\r\n\x00\t\x7f") || strings.ContainsAny(body, "\u0085\u2028\u2029") {
		t.Fatalf("%q is not one line", line)
	}
	rest, ok := strings.CutPrefix(body, prefix)
	if !ok {
		t.Fatalf("%q", line)
	}
	end := closingBracket(rest)
	if end < 0 {
		t.Fatalf("%q has no path", line)
	}
	for word := range strings.FieldsSeq(rest[end+1:]) {
		if !slices.ContainsFunc(params, func(p string) bool { return strings.HasPrefix(word, p) }) {
			t.Fatalf("%q has the parameter %q", line, word)
		}
	}
	// A receiver that knows no quotes sees the same path unless it is quoted.
	if !strings.Contains(rest[:end], `"`) && strings.ContainsAny(rest[:end], "<> ") {
		t.Fatalf("%q", line)
	}
}

// closingBracket is where the path ends, quoted strings heeded.
func closingBracket(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}
