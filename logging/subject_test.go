package logging

import (
	"strings"
	"testing"
	"time"
)

func TestSubject(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", " Angebot 4711\r\n", "Angebot 4711"},
		{"empty", "", ""},
		{"spaces alone", " \r\n", ""},
		{"folded", " one\r\n two\r\n\tthree", "one two three"},
		{"q", "=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=", "Grüße aus Köln"},
		{"b", "=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"},
		{"b without padding", "=?UTF-8?B?R3LDvMOfZQ?=", "Grüße"},
		{"words joined", "=?utf-8?q?a?= =?utf-8?q?b?=\r\n =?utf-8?q?c?=", "abc"},
		{"word and text", "Re: =?utf-8?q?=C3=BC?= end", "Re: ü end"},
		{"character split between words", "=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3?= =?utf-8?q?=9Fe?=", "Grüße"},
		{"character split between base64 words", "=?utf-8?b?w6TD?=\r\n =?utf-8?b?tg==?=", "äö"},
		{"language", "=?utf-8*de?q?Gr=C3=BCn?=", "Grün"},
		{"raw spaces within a word", "=?utf-8?q?two words?=", "two words"},
		{"words without a space between", "=?utf-8?q?a?==?utf-8?q?b?=", "ab"},
		{"latin1", "=?iso-8859-1?q?Gr=FC=DFe?=", "Grüße"},
		{"windows-1252", "=?windows-1252?q?=80_5?=", "€ 5"},
		{"koi8-r", "=?koi8-r?b?8NLJ18XU?=", "Привет"},
		{"windows-1251", "=?windows-1251?q?=CF=F0=E8=E2=E5=F2?=", "Привет"},
		{"gb18030", "=?gb18030?b?xOO6ww==?=", "你好"},
		{"gb2312", "=?gb2312?b?xOO6ww==?=", "你好"},
		{"big5", "=?big5?b?p0Gmbg==?=", "你好"},
		{"shift_jis", "=?shift_jis?b?k/qWew==?=", "日本"},
		{"iso-2022-jp", "=?iso-2022-jp?b?GyRCRnxLXBsoQg==?= =?iso-2022-jp?b?GyRCOGwbKEI=?=", "日本語"},
		{"euc-kr", "=?euc-kr?b?x9GxuQ==?=", "한국"},
		{"unknown charset", "=?x-klingon?q?Qapla?=", "=?x-klingon?q?Qapla?="},
		{"unknown encoding", "=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
		{"broken base64", "=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="},
		{"broken escape", "=?utf-8?q?a=G1b=?=", "a=G1b="},
		{"without end", "=?utf-8?q?abc", "=?utf-8?q?abc"},
		{"encoded twice", "=?utf-8?q?=3D=3Futf-8=3Fq=3F=C3=BC=3F=3D?=", "ü"},
		{"question", "=?", "=?"},
		{"raw utf-8", "Grüße", "Grüße"},
		{"raw latin1", "Gr\xfc\xdfe", `Gr\xfc\xdfe`},
		{"ansi", "\x1b[31mred", `\x1b[31mred`},
		{"encoded ansi", "=?utf-8?q?=1B[31mred?=", `\x1b[31mred`},
		{"encoded line end", "=?utf-8?q?a=0D=0ABcc:_x?=", `a\r\nBcc: x`},
		{"encoded bidi", "=?utf-8?b?4oCudHh0?=", `\u202etxt`},
		{"bare cr", "a\rb", `a\rb`},
		{"tab", "a\tb", "a b"},
		{"pictograph", "=?utf-8?b?4p2k77iP?=", "❤"},
		{"utf-16 is not undone", "=?utf-16?q?a?=", `=?utf-16?q?a?=`},
	} {
		if got := Subject([]byte(c.in)); got != c.want {
			t.Errorf("%s: %q: got %q want %q", c.name, c.in, got, c.want)
		}
	}
}

func TestSubjectIsCut(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("a", 201),
		strings.Repeat("ü", 201),
		"=?utf-8?q?" + strings.Repeat("=C3=BC", 300) + "?=",
		strings.Repeat("=?utf-8?q?=C3=BC?= ", 300),
	} {
		got := Subject([]byte(in))
		if n := len([]rune(got)); n != limitSubject || !strings.HasSuffix(got, ellipsis) {
			t.Errorf("%.40q: %d characters, %q", in, n, got)
		}
	}
	if got := Subject([]byte(strings.Repeat("a", 200))); got != strings.Repeat("a", 200) {
		t.Errorf("200 characters were cut to %q", got)
	}
}

// TestSubjectOfAMegabyte bounds the work on what a hostile sender can send: it is a matter of
// milliseconds, or of minutes where it grows with the square of the length.
func TestSubjectOfAMegabyte(t *testing.T) {
	for _, part := range []string{"=?", "=?utf-8?q?", "=?utf-8?q?a?= ", "=?a?q?", "\r\n ", "\x1b", "=?iso-2022-jp?b?GyRC?= ", "=?utf-8?b?" + strings.Repeat("A", 4000)} {
		raw := []byte(strings.Repeat(part, 1<<20/len(part)))
		begin := time.Now()
		Subject(raw)
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%.20q: %v", part, took)
		}
	}
}

func TestPlainSubjectAllocatesOnce(t *testing.T) {
	raw := []byte(" Angebot 4711 vom letzten Dienstag\r\n")
	if n := testing.AllocsPerRun(100, func() { Subject(raw) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
