package main

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	line := "\x1b[2m17:30:54\x1b[0m  \x1b[32mdelivered\x1b[0m    anna@example.org       → bob@example.net   \"two  spaces\"  via 127.0.0.1 TLS1.3"
	want := "\x1b[2m17:30:54\x1b[0m  \x1b[32mdelivered\x1b[0m    anna@example.org\n" +
		"    → bob@example.net  \"two  spaces\"\n    via 127.0.0.1 TLS1.3"
	if got := wrap(line, 40, 4); got != want {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
	for _, width := range []int{0, 200} {
		if got := wrap(line, width, 4); got != line {
			t.Errorf("%d columns: %q", width, got)
		}
	}
}

// Nothing is lost by wrapping but space.
func TestWrapKeepsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringMatching(`[a-z" ]{0,60}`).Draw(t, "line")
		width := rapid.IntRange(0, 40).Draw(t, "width")
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if got := wrap(line, width, 3); squeeze(got) != squeeze(line) {
			t.Fatalf("%q became %q", line, got)
		}
	})
}

func TestShortTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 26 * time.Hour: "1d02h", 3*time.Hour + 5*time.Minute: "3h05m",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 25_000_000: "25.0 MB", 3_000_000_000: "3.0 GB"} {
		if got := shortOctets(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := printable("a\x1b[31mb\u202ec\nd"); got != "a\uFFFD[31mb\uFFFDc\uFFFDd" {
		t.Errorf("got %q", got)
	}
}
