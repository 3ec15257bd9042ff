package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
)

func newLogTrace(c *console) *cobra.Command {
	var here bool
	q := logQuery{last: -1, trace: true}
	cmd := &cobra.Command{
		Use:   "trace ID|ADDRESS",
		Short: "Tell everything about a mail",
		Long: `Tell everything that the log has about a mail: all its records over all days, in
order, whoever of its recipients they are of.

It is named by its queue ID, or found by an address or a domain ("@example.org") on either
side; then all mails of that address are told, the oldest first. --since, --until and the
other filters choose by one record of a mail; the whole mail is told then.

A queue ID may be the next hop's, too. If the config has another site (site.command), the
trace of an ID goes on there; --here leaves it at this one.`,
		Example: `  tacet log trace 06KBXQ3T5J8ZV1Q2
  tacet log trace bob@example.net --since 2d
  tacet log trace @example.net --event failed
  tacet log trace 06KBXQ3T5J8ZV1Q2 --json | jq -c .status`,
		Args: takes("an ID or an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := queue.ParseID(args[0]); err == nil || isRemoteID(args[0]) {
				q.id = args[0]
			} else if strings.Contains(args[0], "@") {
				q.address = args[0]
			} else {
				return wrongUsage("%s is neither a queue ID nor an address: ask with \"@\", as in anna@example.org or @example.org", quote(args[0]))
			}
			t := tracePrinter{c: c, show: c.logPrinter(true)}
			if err := c.readLog(cmd, &q, t.add); err != nil {
				return err
			}
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			found := false
			if q.id != "" && !here && len(config.Site.Command) > 0 {
				if t.records > 0 {
					if err := t.end(); err != nil {
						return err
					}
				}
				if found, err = c.traceAtSite(cmd.Context(), config, t.atSite(q.id)); err != nil {
					return err
				}
			} else if t.records > 0 {
				return t.end()
			}
			if t.records == 0 && !found {
				return errors.New(traceNothing)
			}
			return nil
		},
	}
	q.addTo(cmd)
	cmd.Flags().BoolVar(&here, "here", false, "of this site alone")
	return cmd
}

// isRemoteID tells whether a word may be the queue ID of another server.
func isRemoteID(s string) bool {
	return len(s) >= 5 && len(s) <= 64 && strings.ContainsAny(s, "0123456789") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// atSite is by what the other site may know the mails that were told: the ID that was asked
// for, and those that the next hop gave.
func (t *tracePrinter) atSite(asked string) []string {
	ids := []string{asked}
	for _, id := range t.ids {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// tracePrinter prints records mail by mail, each with how it stands.
type tracePrinter struct {
	c       *console
	show    func(logging.Line) error
	id      string
	ids     []string // of the mails told, with those that the next hops gave
	records int
	mails   int
	open    map[string]bool // recipients without a terminal record
	first   time.Time
	last    time.Time
	ended   int
}

func (t *tracePrinter) add(line logging.Line) error {
	for _, id := range []string{line.ID, line.RemoteID} {
		if id != "" && len(t.ids) < maxSiteIDs && !slices.Contains(t.ids, id) {
			t.ids = append(t.ids, id)
		}
	}
	if t.c.json {
		t.records++
		return t.show(line)
	}
	if t.records == 0 || line.ID != t.id || line.ID == "" {
		if err := t.outcome(); err != nil {
			return err
		}
		t.id, t.open, t.ended, t.first = line.ID, make(map[string]bool), 0, line.Time
		t.mails++
		head := line.ID
		if head == "" {
			head = "no message"
		}
		if _, err := fmt.Fprintln(t.c.out, newPalette(t.c.out).bold(head)); err != nil {
			return err
		}
	}
	t.records++
	t.last = line.Time
	switch {
	case line.Event.Terminal():
		t.ended++
		delete(t.open, line.Recipient)
	case line.Event == logging.Accepted, line.Event == logging.Deferred:
		t.open[line.Recipient] = true
	}
	return t.show(line)
}

// maxSiteIDs bounds what the other site is asked for.
const maxSiteIDs = 20

// outcome says how the mail that was told stands.
func (t *tracePrinter) outcome() error {
	if t.records == 0 {
		return nil
	}
	text := ""
	switch {
	case t.id == "":
	case len(t.open) == 0 && t.ended > 0:
		text = "  done after " + shortDuration(t.last.Sub(t.first))
	case len(t.open) > 0:
		text = "  open for " + plural(len(t.open), "recipient")
	}
	if text != "" {
		text = newPalette(t.c.out).dim(text) + "\n"
	}
	_, err := fmt.Fprintln(t.c.out, text)
	return err
}

func (t *tracePrinter) end() error {
	if t.c.json {
		return nil
	}
	if err := t.outcome(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.c.out, "%s, %s\n", plural(t.mails, "mail"), plural(t.records, "record"))
	return err
}
