package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func newQueueStats(c *console) *cobra.Command {
	var f filterFlags
	var by string
	var limit int
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show how much waits for what, and for how long",
		Long: `Show a table of what is queued: a line for each next hop (or recipient domain, or
sender), the fullest first, and in its columns how many messages have been there for
up to five minutes, ten minutes and so on. A destination that is down shows as a line
that fills from the left to the right as time goes by; a burst shows on the left alone.

A message that waits for several next hops counts in the line of each.`,
		Example: `  tacet queue stats
  tacet queue stats --by sender --older 1h
  tacet queue stats --by domain --next-hop '[192.0.2.25]:25'
  tacet queue stats --json | jq '.rows[] | select(.ages[-1] > 0) | .name'`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(); err != nil {
				return err
			}
			if _, err := newShaper(by); err != nil {
				return err
			}
			if limit < 0 {
				return wrongUsage("--limit wants a number of lines; 0 for all")
			}
			op, err := c.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer op.Close()
			bar := c.counter(0)
			full, err := op.Shape(cmd.Context(), by, limit, f.listFilter, bar.progress)
			bar.end()
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(full)
			}
			return full.print(c.out, terminalWidth(c.out), newPalette(c.out))
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&by, "by", byNextHop, "what the lines are: next-hop, domain (of recipients) or sender")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many lines, the fullest first; 0: all")
	// It fails for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{byNextHop, byDomain, bySender}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

const (
	widestName = 40
	widestBar  = 30
	leastBar   = 8 // a shorter one says nothing
)

// print writes the table. width is that of the terminal, 0 where there is none.
func (s shape) print(w io.Writer, width int, p palette) error {
	out := &lineWriter{w: w}
	if s.Total.Total == 0 {
		out.line("Nothing waits.")
		s.printDamaged(out)
		return out.err
	}
	t := shapeTable{shape: s, palette: p, name: utf8.RuneCountInString(s.title()), column: len(grouped(s.Total.Total)) + 2}
	for _, r := range append(s.Rows, s.Total) {
		t.name = max(t.name, min(utf8.RuneCountInString(printable(r.Name)), widestName))
	}
	t.column = max(t.column, 6)
	t.measure(width)
	heads := append([]string{"TOTAL"}, s.Buckets...)
	if s.Total.Held > 0 {
		heads = append(heads, "HELD")
	}
	var line strings.Builder
	line.WriteString(s.title() + strings.Repeat(" ", t.name-utf8.RuneCountInString(s.title())))
	for i, head := range heads {
		fmt.Fprintf(&line, "%*s", t.widthOf(i), head)
	}
	out.line("%s", p.bold(line.String()))
	out.line("%s", t.line(s.Total, false))
	for _, r := range s.Rows {
		out.line("%s", t.line(r, true))
	}
	if s.Others > 0 {
		out.line("%s", p.dim(fmt.Sprintf("and %s more: --limit 0 shows them", plural(s.Others, "line"))))
	}
	s.printDamaged(out)
	return out.err
}

func (s shape) printDamaged(out *lineWriter) {
	if s.Damaged > 0 {
		out.line("%s set aside as damaged", plural(s.Damaged, "message"))
	}
}

func (s shape) title() string {
	switch s.By {
	case byDomain:
		return "RECIPIENT DOMAIN"
	case bySender:
		return "SENDER"
	}
	return "NEXT HOP"
}

// shapeTable is a shape on its way to the terminal.
type shapeTable struct {
	shape
	palette
	name, column, ages, bar int // widths
}

// measure finds the widths of the ages' columns and of the bars.
func (t *shapeTable) measure(width int) {
	widest := 0
	for _, n := range t.Total.Ages {
		widest = max(widest, n)
	}
	t.ages = max(len(grouped(widest))+1, 5)
	t.bar = widestBar
	if width > 0 {
		used := t.name + t.column + t.ages*len(ageSet) + 2
		if t.Total.Held > 0 {
			used += t.ages
		}
		t.bar = min(width-used, widestBar)
	}
	if t.bar < leastBar {
		t.bar = 0
	}
}

// widthOf is the width of the i-th number.
func (t *shapeTable) widthOf(i int) int {
	if i == 0 {
		return t.column
	}
	return t.ages
}

func (t *shapeTable) line(r shapeRow, bar bool) string {
	name := cut(printable(r.Name), t.name)
	var b strings.Builder
	b.WriteString(name + strings.Repeat(" ", t.name-utf8.RuneCountInString(name)))
	fmt.Fprintf(&b, "%*s", t.column, grouped(r.Total))
	numbers := r.Ages[:]
	if t.Total.Held > 0 {
		numbers = append(numbers[:len(numbers):len(numbers)], r.Held)
	}
	for _, n := range numbers {
		if n == 0 {
			b.WriteString(strings.Repeat(" ", t.ages-1) + t.dim("·"))
			continue
		}
		fmt.Fprintf(&b, "%*s", t.ages, grouped(n))
	}
	if bar && t.bar > 0 {
		b.WriteString("  " + t.cyan(blocks(r.Total, t.Rows[0].Total, t.bar)))
	}
	return b.String()
}

// blocks is a bar for n where most takes the whole width, in eighths of a character.
func blocks(n, most, width int) string {
	eighths := max(n*width*8/max(most, 1), 1)
	b := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return b
}
