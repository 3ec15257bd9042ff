package logging

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// forbiddenIn gives the first rune of s that must not stand in the log: by
// another definition than that of the code under test.
func forbiddenIn(s string) (rune, bool) {
	if !utf8.ValidString(s) {
		return utf8.RuneError, true
	}
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Bidi_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
			return r, true
		}
	}
	return 0, false
}

// wantCleanLine wants one line of valid JSON whose strings hold nothing forbidden.
func wantCleanLine(t *testing.T, line []byte) {
	t.Helper()
	text, ok := strings.CutSuffix(string(line), "\n")
	if !ok || strings.Contains(text, "\n") {
		t.Fatalf("not one line: %q", line)
	}
	if r, bad := forbiddenIn(text); bad {
		t.Fatalf("%U stands raw in %q", r, line)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if s, ok := token.(string); ok {
			if r, bad := forbiddenIn(s); bad {
				t.Fatalf("%U in the parsed value %q", r, s)
			}
		}
	}
	if _, err := ParseLine([]byte(text)); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// nasty is texts that would forge lines, colour the terminal, turn the
// direction of reading, hide, or break the encoding.
var nasty = []string{
	"a\r\n{\"time\":\"2026\"}", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\u202etxt.exe", "\u2066\u2069", "a\u200bb\u200c\u200d\ufeff",
	"\u00ad\u061c\u180e\u2060\u2064", "\x00\x01\x7f", "\u0085\u009b31m", "\u2028\u2029", "\xff\xfe\xc0\x80\xed\xa0\x80", "\xf4\x90\x80\x80", "tail\xe2\x82",
	"\U000e0041\U000e007f", "\ufe0f\ufe00\U000e0100", "\u115f\u3164\uffa0", `quote " and \ back`, "\u034f", "\ufff9\ufffb", "\U0001d173",
	strings.Repeat("\u202e", 1000), strings.Repeat("x", 1<<20), strings.Repeat("\x1b", 1<<20), strings.Repeat("ü", 500),
}

func TestInjection(t *testing.T) {
	for _, text := range nasty {
		for e := Event(1); e < eventEnd; e++ {
			r := full(e)
			r.User, r.Sender, r.Recipient, r.Subject, r.ID, r.RemoteID = text, text, text, text, text, text
			r.Headers = []HeaderField{{text, text}, {"Subject", text}}
			wantCleanLine(t, encodeLine(t, r))
			r.Subject = Subject([]byte(text))
			wantCleanLine(t, encodeLine(t, r))
			var shown strings.Builder
			if err := Format(&shown, Line{Record: *r}, Style{Headers: true, Location: time.UTC}); err != nil {
				t.Fatal(err)
			}
			if r, bad := forbiddenIn(strings.ReplaceAll(shown.String(), "\n", "")); bad {
				t.Fatalf("%U reaches the terminal: %.200q", r, shown.String())
			}
		}
	}
}

func TestVisible(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"plain", 10, "plain"},
		{"Grüße, 東京 👍", 20, "Grüße, 東京 👍"},
		{"\x1b[31m", 20, `\x1b[31m`},
		{"a\r\n\tb", 20, `a\r\n\tb`},
		{"\u202e\u0085\U000e0041", 40, `\u202e\u0085\U000e0041`},
		{"\xffü\xc3", 20, `\xffü\xc3`},
		{`back\slash`, 20, `back\slash`},
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abcde…"},
		{"abcde\x1b", 6, "abcde…"},
		{"ab\x1bg", 6, "ab…"},
		{"\x1b\x1b", 4, "…"},
		{"ü", 1, "ü"},
		{"üü", 1, "…"},
		{"", 1, ""},
	} {
		got, cut := appendVisible(nil, c.in, c.limit)
		if string(got) != c.want || cut != strings.Contains(c.want, ellipsis) {
			t.Errorf("%q: got %q, %v; want %q", c.in, got, cut, c.want)
		}
		if again, cut := appendVisible(nil, string(got), c.limit); cut || string(again) != string(got) {
			t.Errorf("%q: a second pass makes it %q", got, again)
		}
	}
}

func TestVisibleLeavesScriptsAlone(t *testing.T) {
	for _, text := range []string{"Ελληνικά", "Русский", "עברית", "العربية", "हिन्दी", "ไทย", "한국어", "日本語カナ", "简体中文", "Tiếng Việt", "ქართული", "€ – „ “ … ½ №", "a\u00a0b\u3000c", "🙂🇩🇪"} {
		if got, _ := appendVisible(nil, text, 200); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestLongValuesAreCutAndCounted(t *testing.T) {
	e := newEncoder()
	r := full(ContentRejected)
	r.Subject = strings.Repeat("s", 300)
	r.User = strings.Repeat("u", 300)
	r.RemoteID = "x y" // and not allowed in this event either
	r.ID = strings.Repeat("i", 65)
	r.Code = 999
	r.Reason = 9999
	buf := e.encode(r, r.Time)
	back, err := ParseLine([]byte(strings.TrimSuffix(string(buf.bytes()), "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if n := utf8.RuneCountInString(back.Subject); n != limitSubject || !strings.HasSuffix(back.Subject, ellipsis) {
		t.Errorf("%d characters of subject: %q", n, back.Subject)
	}
	if back.ID != "" || back.Code != 0 || back.Reason != 0 || back.RemoteID != "" {
		t.Errorf("a faulty value passed: %+v", back.Record)
	}
	if e.cut.Load() != 2 {
		t.Errorf("%d counted as cut, want 2", e.cut.Load())
	}
	if e.dropped.Load() < 5 {
		t.Errorf("%d counted as dropped, want 5 and those of the event", e.dropped.Load())
	}
}

// What the encoder writes by hand is what the standard library writes.
func TestTextsAndTimesAsTheLibraryHasThem(t *testing.T) {
	for _, s := range []string{"", `"`, `\`, `a"b\c""`, "Grüße – 日本 \U0001f642", `\u202e`, `</script>`} {
		got := appendQuoted(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil || back != s || string(appendQuoted(nil, []byte(s))) != string(got) {
			t.Errorf("%q became %s: %v", s, got, err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		at := time.Unix(random.Int64N(253402300800), random.Int64N(1e9)).UTC()
		if got, want := string(appendTime(nil, at)), at.Format(timeLayout); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
}

func TestHeadersAreCutAt64KB(t *testing.T) {
	r := &Record{Event: ContentRejected, Time: time.Unix(0, 0)}
	for range 20 {
		r.Headers = append(r.Headers, HeaderField{"X-Long", strings.Repeat(`"\`, 4000)})
	}
	line := encodeLine(t, r)
	wantCleanLine(t, line)
	back, err := ParseLine(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	if !back.HeadersCut || len(back.Headers) == 0 || len(back.Headers) == 20 {
		t.Errorf("cut: %v, %d fields", back.HeadersCut, len(back.Headers))
	}
	if n := strings.Index(string(line), `"headers":`); len(line)-n-len(`"headers":`)-2 > limitHeaders {
		t.Errorf("%d octets of headers", len(line)-n)
	}
}

func TestHeadersOfOtherRejectionsAreNotWritten(t *testing.T) {
	r := &Record{Event: Rejected, Headers: []HeaderField{{"Subject", "secret"}}, HeadersCut: true}
	if line := encodeLine(t, r); strings.Contains(string(line), "secret") || strings.Contains(string(line), "headers") {
		t.Errorf("%s", line)
	}
}

func FuzzRecord(f *testing.F) {
	for _, text := range nasty {
		if len(text) < 1<<12 {
			f.Add(text, "user", uint8(6), 550, int64(0))
		}
	}
	f.Fuzz(func(t *testing.T, a, b string, event uint8, number int, seconds int64) {
		e := Event(event)%(eventEnd-1) + 1
		r := full(e)
		r.User, r.Sender, r.Recipient, r.Subject, r.ID, r.RemoteID = a, b, a, b, a, b
		r.Headers = []HeaderField{{a, b}, {b, a}}
		r.Code, r.Attempt, r.Enhanced = number, number, [3]uint16{uint16(number), uint16(event), 7}
		r.Reason, r.Stage, r.In = Reason(number), Stage(event), TLS{Version: uint16(number), Cipher: uint16(seconds), None: NoTLS(event)}
		r.Time = time.Unix(seconds, 0)
		if line := encodeLine(t, r); r.In.Version == 0 || versionName(r.In.Version) != "" {
			wantCleanLine(t, line)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, text := range nasty {
		if len(text) < 1<<12 {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("=?utf-8?q?=?= =?utf-8?b?w7w=?= =?iso-2022-jp?b?GyRC?="))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := Subject(raw)
		if r, bad := forbiddenIn(got); bad {
			t.Fatalf("%U in %q", r, got)
		}
		if n := utf8.RuneCountInString(got); n > limitSubject {
			t.Fatalf("%d characters", n)
		}
	})
}

func FuzzClassify(f *testing.F) {
	for _, r := range loadReplies(f, "*.txt") {
		f.Add(uint8(r.stage), r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2], r.text)
	}
	f.Fuzz(func(t *testing.T, stage uint8, code int, class, subject, detail uint16, text string) {
		got := Classify(Stage(stage), code, [3]uint16{class, subject, detail}, text)
		if positive := code >= 200 && code < 400; positive != (got == ReasonNone) || got >= reasonEnd {
			t.Fatalf("%d: %d", code, got)
		}
	})
}
