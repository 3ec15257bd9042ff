package content

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// parts walks a text and describes its leaves.
func parts(t testing.TB, text string) (found []string, err error) {
	t.Helper()
	err = walk(t.Context(), message(crlf(text)), func(p *Part) error {
		found = append(found, fmt.Sprintf("%s %q %s %d", p.Type, p.Names, Kinds()[p.Kind], p.Size))
		return nil
	})
	return found, err
}

const mixed = "Content-Type: multipart/mixed; boundary=\"b\"\n\npreamble\n--b\nContent-Type: text/html\n\n<p>\n--b\n" +
	"Content-Type: application/pdf; name=\"x.exe\"\nContent-Transfer-Encoding: base64\n\nTVoAAA==\n--b--\nepilogue\n"

func TestWalk(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"plain":   {"Subject: x\n\nbody\n", []string{`text/plain [] other 4`}},
		"nothing": {"", []string{`text/plain [] other 0`}},
		"mixed":   {mixed, []string{`text/html [] other 3`, `application/pdf ["x.exe"] program 4`}},
		"message": {"Content-Type: message/rfc822\n\n" + mixed, []string{`text/html [] other 3`, `application/pdf ["x.exe"] program 4`}},
		"no end":  {strings.TrimSuffix(mixed, "--b--\nepilogue\n"), []string{`text/html [] other 3`, `application/pdf ["x.exe"] program 4`}},
		"outer ends inner": {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\na\n--o\n\nb\n--o--\n",
			[]string{`text/plain [] other 1`, `text/plain [] other 1`}},
		"header only": {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: application/zip; name=a.zip\n--o--\n", []string{`application/zip ["a.zip"] other 0`}},
		"uuencoded":   {"Subject: x\n\nbegin 644 Evil.EXE\nM\nend\n", []string{`text/plain ["evil.exe"] other 26`}},
		"quoted":      {"Content-Transfer-Encoding: quoted-printable\n\n=4D=5A=\n=3d\n", []string{`text/plain [] program 3`}},
	} {
		got, err := parts(t, c.text)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// A file name is seen in every reading that a client has of it.
func TestFileNames(t *testing.T) {
	for disposition, want := range map[string]string{
		`attachment; filename=evil.exe`:                                  "evil.exe",
		`attachment; filename="evil.exe. . "`:                            "evil.exe",
		`attachment; filename="=?utf-8?B?ZXZpbC5leGU=?="`:                "evil.exe",
		`attachment; filename*=utf-8''evil%2Eexe`:                        "evil.exe",
		`attachment; filename="=?windows-1252?Q?evil=2Eexe?="`:           "evil.exe",
		`attachment; filename="=?utf-16be?B?AGUAdgBpAGwALgBlAHgAZQ==?="`: "evil.exe",
		`attachment; filename*0="ev"; filename*1="il.exe"`:               "evil.exe",
		`attachment; filename*0*=utf-8''ev; filename*1*=il%2Eexe`:        "evil.exe",
		`attachment; filename="a.txt"; filename*=utf-8''evil.exe`:        "evil.exe",
		"attachment; filename=\"evil\u202e.exe\"":                        "evil.exe",
		`attachment (x); (y) filename=evil.exe`:                          "evil.exe",
		"attachment;\r\n filename=\"evil.exe\"":                          "evil.exe",
	} {
		h, err := readPartHeader([]byte("Content-Disposition: " + disposition + "\r\n"))
		if err != nil || !slices.Contains(h.names, want) {
			t.Errorf("%s: %q, %v", disposition, h.names, err)
		}
	}
}

// What can be read in two ways is refused, not read in one.
func TestAmbiguous(t *testing.T) {
	multi := func(field string) string { return "Content-Type: multipart/mixed; " + field + "\n\n--b\n\nx\n--b--\n" }
	for name, text := range map[string]string{
		"two types":          "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=b\n\nx\n",
		"two encodings":      "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\nx\n",
		"two boundaries":     multi("boundary=b; boundary=c"),
		"no boundary":        multi("charset=x"),
		"empty boundary":     multi(`boundary=""`),
		"long boundary":      multi("boundary=" + strings.Repeat("b", 71)),
		"boundary in blanks": multi(`boundary="b "`),
		"open quote":         multi(`boundary="b`),
		"behind the quote":   multi(`boundary="b"x`),
		"quote within":       multi(`boundary=b"x"`),
		"prefix boundary":    "Content-Type: multipart/mixed; boundary=b\n\n--bx\n\nx\n--b--\n",
		"boundary alike":     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb--\n--b--\n",
		"encoded multipart":  "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\nLS1iCg==\n",
		"unknown encoding":   "Content-Transfer-Encoding: x-uuencode\n\nx\n",
		"junk in base64":     "Content-Transfer-Encoding: base64\n\nTVo*AAA==\n",
		"behind the padding": "Content-Transfer-Encoding: base64\n\nTVoAAA==TVoA\n",
		"no field":           "Content-Type: multipart/mixed; boundary=b\n\n--b\nno field\nContent-Type: x/y; name=a.exe\n\nx\n--b--\n",
		"blank before colon": "Content-Type : text/html\n\nx\n",
		"partial":            "Content-Type: message/partial; id=x; number=1\n\nx\n",
		"external":           "Content-Type: message/external-body; access-type=URL\n\nx\n",
		"control character":  "Content-Type: text/plain; name=\"a\x01.exe\"\n\nx\n",
	} {
		if got, err := parts(t, text); !errors.Is(err, errAmbiguous) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// patience is what a bomb may take on a busy machine, with the race detector on.
const patience = time.Minute

// Bombs end at a limit, in little time.
func TestBombs(t *testing.T) {
	var deep strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=x%dx\n\n--x%dx\n", i, i)
	}
	for name, text := range map[string]string{
		"deep":          deep.String(),
		"deep messages": strings.Repeat("Content-Type: message/rfc822\n\n", 100000),
		"many parts":    "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n", 500000),
		"part header":   "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + strings.Repeat("X: y\n", 500000),
		"endless name":  "Content-Type: text/plain; name=" + strings.Repeat("x", 200000) + "\n\n",
		"part line":     "Content-Type: multipart/mixed; boundary=b\n\n--b\nX: " + strings.Repeat("x", 5<<20) + "\n",
	} {
		start := time.Now()
		if _, err := parts(t, text); !errors.Is(err, errTooDeep) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > patience {
			t.Errorf("%s took %v", name, took)
		}
	}
	start := time.Now()
	long := "Subject: x\n\n" + strings.Repeat("x", 10<<20) + "\n" + strings.Repeat("\n", 100_000)
	if got, err := parts(t, long); err != nil || len(got) != 1 || time.Since(start) > patience {
		t.Errorf("long lines: %q, %v, %v", got, err, time.Since(start))
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(crlf(mixed))
	f.Add(crlf("Content-Type: message/rfc822\n\n" + mixed))
	f.Add("Content-Transfer-Encoding: base64\r\n\r\nTVoAAA==\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		err := walk(t.Context(), relay.NewMessage(&queue.Envelope{}, &relay.Session{}, []byte(text)), func(p *Part) error {
			if n++; len(p.Names) > maxNames || p.Type == "" || p.Size > int64(len(text)) {
				t.Errorf("%+v", p)
			}
			return nil
		})
		if err != nil && !errors.Is(err, errAmbiguous) && !errors.Is(err, errTooDeep) {
			t.Errorf("%q: %v", text, err)
		}
		if n > maxParts {
			t.Errorf("%d parts", n)
		}
	})
}

func TestRules(t *testing.T) {
	exe := base64.StdEncoding.EncodeToString([]byte("MZ\x90 a program"))
	mail := crlf("From: a@example.org\nSubject: =?utf-8?B?QnV5IG5vdw==?=\nComments: =?koi8-r?Q?buy_later?=\n" + strings.Replace(mixed, "TVoAAA==", exe, 1))
	pattern := regexp.MustCompile
	for name, c := range map[string]struct {
		rule Rule
		want string
	}{
		"field":           {Rule{Field: "subject", Pattern: pattern(`(?i)buy now`)}, "550 content"},
		"field, raw":      {Rule{Field: "subject", Pattern: pattern(`utf-8`)}, "550 content"},
		"another charset": {Rule{Field: "comments", Pattern: pattern(`buy later`)}, "550 content"},
		"no such field":   {Rule{Field: "x-y", Pattern: pattern(``)}, ""},
		"name":            {Rule{Attachment: pattern(`\.exe$`)}, "550 content"},
		"other name":      {Rule{Attachment: pattern(`\.scr$`)}, ""},
		"kind":            {Rule{Kinds: []Kind{KindArchive, KindProgram}}, "550 content"},
		"other kind":      {Rule{Kinds: []Kind{KindArchive}}, ""},
		"name and kind":   {Rule{Attachment: pattern(`\.pdf$`), Kinds: []Kind{KindProgram}}, ""},
		"larger":          {Rule{Larger: 100}, "552 size"},
		"not larger":      {Rule{Larger: 1 << 20}, ""},
		"all must hold":   {Rule{Field: "subject", Pattern: pattern(`buy`), Larger: 100}, ""},
		"another scope":   {Rule{Scope: relay.IncomingOnly, Larger: 1}, ""},
		"same scope":      {Rule{Scope: relay.SubmissionOnly, Larger: 1}, "552 size"},
	} {
		rule := c.rule
		rule.Name, rule.Action = "it", ActionReject
		r := NewRules([]Rule{rule})
		v, err := r.Check(t.Context(), message(mail))
		got := ""
		if v.Rejection != nil {
			got = fmt.Sprintf("%d %s", v.Rejection.Code, map[relay.Class]string{relay.ClassContent: "content", relay.ClassSize: "size"}[v.Rejection.Class])
		}
		if err != nil || got != c.want || r.hits[0].Load() != int64(min(len(c.want), 1)) {
			t.Errorf("%s: %q, %v, %d hits; want %q", name, got, err, r.hits[0].Load(), c.want)
		}
	}
}

// A rule in test mode only counts; one that holds lets the message in.
func TestRuleActions(t *testing.T) {
	r := NewRules([]Rule{{Name: "t", Larger: 1}, {Name: "h", Larger: 1, Action: ActionHold}})
	v, err := r.Check(t.Context(), message(signedText))
	if err != nil || v.Rejection != nil || !v.Hold {
		t.Errorf("%+v, %v", v, err)
	}
	for name, hits := range r.Hits {
		if hits != 1 {
			t.Errorf("%s: %d hits", name, hits)
		}
	}
	structure := crlf("Content-Type: text/plain\nContent-Type: text/html\n\nx\n")
	v, err = NewRules([]Rule{{Name: "a", Attachment: regexp.MustCompile("x")}}).Check(t.Context(), message(structure))
	if err != nil || v.Rejection == nil || v.Rejection.Ground != relay.GroundHeader || v.Rejection.Class != relay.ClassContent {
		t.Errorf("ambiguous: %+v, %v", v, err)
	}
	if v, err = r.Check(t.Context(), message(structure)); err != nil || v.Rejection != nil {
		t.Errorf("no rule looks at parts: %+v, %v", v, err)
	}
}

// Many rules, and a header as large as they come, take little time; and no longer than there is.
func TestRuleCost(t *testing.T) {
	rules := make([]Rule, 10_000)
	for i := range rules {
		rules[i] = Rule{Name: "r", Field: "subject", Pattern: regexp.MustCompile(fmt.Sprintf("(?i)(a+)+%d$|buy.*now", i))}
	}
	many := NewRules(rules)
	ordinary := message("From: a@example.org\r\nSubject: =?utf-8?Q?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?=\r\n\r\n" + strings.Repeat("x", 10<<20))
	start := time.Now()
	if v, err := many.Check(t.Context(), ordinary); err != nil || v.Rejection != nil || time.Since(start) > patience {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	huge := message("Subject:" + strings.Repeat(" =?utf-8?Q?a?=\r\n", 60_000) + "\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start = time.Now()
	if _, err := many.Check(ctx, huge); err == nil || time.Since(start) > patience {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
