package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
)

func newLogStats(c *console) *cobra.Command {
	q := logQuery{last: -1}
	top := 10
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count what the relay log has: totals, reasons, domains, TLS",
		Long: `Count what the relay log has: the events, why mail did not go through, the domains it
came from and went to, how many connections were encrypted on either side, and the
destinations that need the most attempts. It shows domains and hosts, no addresses.

Without --since it counts the last 24 hours.`,
		Example: `  tacet log stats
  tacet log stats --since 7d --top 20
  tacet log stats --since 2026-05-01 --until 2026-06-01
  tacet log stats --domain example.net --since 30d
  tacet log stats --json | jq .reasons`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if top < 1 {
				return wrongUsage("--top wants a number from 1")
			}
			q.since, q.sum = cmp.Or(q.since, "24h"), true
			var s logging.Summary
			if err := c.readLog(cmd, &q, func(line logging.Line) error {
				s.Add(&line.Record)
				return nil
			}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(statsDocument(&s, top))
			}
			p := statsPrinter{out: c.out, colours: newPalette(c.out), bars: isTerminal(c.out), top: top}
			return p.print(&s)
		},
	}
	q.addTo(cmd)
	cmd.Flags().IntVar(&top, "top", 10, "how many domains, hosts and reasons are shown")
	return cmd
}

// logStats is the summary as JSON.
type logStats struct {
	Records  int                            `json:"records"`
	First    *time.Time                     `json:"first,omitempty"`
	Last     *time.Time                     `json:"last,omitempty"`
	Events   map[string]int                 `json:"events"`
	Reasons  map[string]int                 `json:"reasons"`
	Senders  map[string]int                 `json:"sender_domains"`
	Domains  map[string]logging.Destination `json:"recipient_domains"`
	Hosts    map[string]logging.Destination `json:"next_hosts"`
	Slowest  []string                       `json:"slowest"`
	TLS      map[string]map[string]int      `json:"tls"`
	TLSShare map[string]float64             `json:"tls_share"`
}

func statsDocument(s *logging.Summary, top int) logStats {
	doc := logStats{
		Records: s.Records, Events: map[string]int{}, Reasons: map[string]int{}, Senders: map[string]int{},
		Domains: map[string]logging.Destination{}, Hosts: map[string]logging.Destination{},
		Slowest:  logging.Slowest(s.Domains, top),
		TLS:      map[string]map[string]int{"in": s.In, "out": s.Out},
		TLSShare: map[string]float64{"in": logging.Encrypted(s.In), "out": logging.Encrypted(s.Out)},
	}
	if s.Records > 0 {
		doc.First, doc.Last = &s.First, &s.Last
	}
	for e, n := range s.Events {
		if n > 0 {
			doc.Events[logging.Event(e).String()] = n
		}
	}
	for r, n := range s.Reasons {
		doc.Reasons[r.String()] = n
	}
	for _, name := range most(s.Senders, top) {
		doc.Senders[name] = s.Senders[name]
	}
	for to, from := range map[*map[string]logging.Destination]map[string]logging.Destination{&doc.Domains: s.Domains, &doc.Hosts: s.Hosts} {
		for _, name := range append(most(attempts(from), top), logging.Slowest(from, top)...) {
			(*to)[name] = from[name]
		}
	}
	return doc
}

func attempts(by map[string]logging.Destination) map[string]int {
	n := make(map[string]int, len(by))
	for name, d := range by {
		n[name] = d.Attempts()
	}
	return n
}

// most gives the names with the greatest numbers.
func most(by map[string]int, top int) []string {
	names := slices.Sorted(maps.Keys(by))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(by[b], by[a]) })
	return names[:min(top, len(names))]
}

// statsPrinter prints the summary for people.
type statsPrinter struct {
	out     io.Writer
	colours palette
	bars    bool
	top     int
	err     error
}

func (p *statsPrinter) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

func (p *statsPrinter) print(s *logging.Summary) error {
	if s.Records == 0 {
		p.line("There are no records of that time.")
		return p.err
	}
	p.line("%s from %s to %s", plural(s.Records, "record"), s.First.Local().Format(time.DateTime), s.Last.Local().Format(time.DateTime))
	events := make(map[string]int)
	for e, n := range s.Events {
		if n > 0 {
			events[logging.Event(e).String()] = n
		}
	}
	p.chart("Events", events, len(events))
	reasons := make(map[string]int)
	for r, n := range s.Reasons {
		reasons[r.Meaning("en")] += n
	}
	p.chart("Why mail did not go through at once", reasons, p.top)
	p.destinations("Slowest destinations", s.Domains, logging.Slowest(s.Domains, p.top))
	p.destinations("Recipient domains", s.Domains, most(attempts(s.Domains), p.top))
	p.destinations("Next hosts", s.Hosts, most(attempts(s.Hosts), p.top))
	p.chart("Sender domains", s.Senders, p.top)
	p.chart(fmt.Sprintf("TLS from clients: %.1f %%", 100*logging.Encrypted(s.In)), s.In, len(s.In))
	p.chart(fmt.Sprintf("TLS to next hops: %.1f %%", 100*logging.Encrypted(s.Out)), s.Out, len(s.Out))
	return p.err
}

// widthOfName and widthOfBar are columns.
const (
	widthOfName = 40
	widthOfBar  = 24
)

func (p *statsPrinter) chart(title string, by map[string]int, top int) {
	names := most(by, top)
	if len(names) == 0 {
		return
	}
	p.line("\n%s", p.colours.bold(title))
	for _, name := range names {
		bar := ""
		if p.bars {
			bar = "  " + p.colours.cyan(strings.Repeat("▇", max(1, by[name]*widthOfBar/by[names[0]])))
		}
		p.line("  %-*s %9d%s", widthOfName, cut(printable(name), widthOfName), by[name], bar)
	}
	if more := len(by) - len(names); more > 0 {
		p.line("  %s", p.colours.dim(fmt.Sprintf("and %d more", more)))
	}
}

func (p *statsPrinter) destinations(title string, by map[string]logging.Destination, names []string) {
	if len(names) == 0 {
		return
	}
	p.line("\n%-*s %11s %9s %9s", widthOfName, p.colours.bold(title), "delivered", "deferred", "failed")
	for _, name := range names {
		d := by[name]
		p.line("  %-*s %9d %9d %9d", widthOfName, cut(printable(name), widthOfName), d.Delivered, d.Deferred, d.Failed)
	}
}
