package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"tacet/queue"
)

// isTerminal tells whether a person looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth is how many columns w has; 0 if it is no terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// palette is the colours of a terminal, or nothing at all elsewhere.
type palette struct{ on bool }

// newPalette gives colours to a terminal, unless NO_COLOR is set (no-color.org).
func newPalette(w io.Writer) palette {
	return palette{on: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p palette) paint(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) bold(s string) string { return p.paint("1", s) }
func (p palette) dim(s string) string  { return p.paint("2", s) }
func (p palette) cyan(s string) string { return p.paint("36", s) }

// wrap breaks a line that is wider than the terminal between its parts, which
// are two spaces or more apart, and indents what follows. Only the first two
// columns, time and event, keep their width. Colours take no room.
func wrap(line string, width, indent int) string {
	if width <= 0 || visibleWidth(line) <= width {
		return line
	}
	var b strings.Builder
	column := 0
	for i, p := range parts(line) {
		gap, n := min(p.gap, 2), visibleWidth(p.text)
		if i <= 2 {
			gap = p.gap
		}
		if i > 0 && column+gap+n > width {
			b.WriteByte('\n')
			column, gap = 0, indent
		}
		b.WriteString(strings.Repeat(" ", gap))
		b.WriteString(p.text)
		column += gap + n
	}
	return b.String()
}

// part is a piece of a line and how many spaces stand before it.
type part struct {
	gap  int
	text string
}

// parts splits a line where two spaces or more stand outside of quotation marks.
func parts(line string) []part {
	var found []part
	quoted, begin, gap := false, 0, 0
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(line[i:], "  "):
			found = append(found, part{gap, line[begin:i]})
			gap = len(line[i:]) - len(strings.TrimLeft(line[i:], " "))
			begin = i + gap
			i = begin - 1
		}
	}
	return append(found, part{gap, line[begin:]})
}

// visibleWidth is how many columns a line takes, less its colours.
func visibleWidth(line string) int {
	n, hidden := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			hidden = true
		case hidden:
			hidden = r != 'm'
		default:
			n++
		}
	}
	return n
}

// printable is a text from the network as a terminal may see it: without
// control, format and bidirectional characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// shortDuration is a duration as a glance takes it in: its two largest units.
func shortDuration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < day:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d/day), int(d.Hours())%24)
}

// shortOctets is a size as a glance takes it in.
func shortOctets(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// enhanced writes an enhanced status code as it stands in a reply.
func enhanced(e queue.Enhanced) string { return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2]) }
