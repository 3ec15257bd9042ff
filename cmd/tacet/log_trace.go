package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
)

func newLogTrace(c *console) *cobra.Command {
	q := logQuery{last: -1, trace: true}
	cmd := &cobra.Command{
		Use:   "trace ID|ADDRESS",
		Short: "Tell everything about a mail",
		Long: `Tell everything that the log has about a mail: all its records over all days, in
order, whoever of its recipients they are of.

It is named by its queue ID, or found by an address or a domain ("@example.org") on either
side; then all mails of that address are told, the oldest first. --since, --until and the
other filters choose by one record of a mail; the whole mail is told then.`,
		Example: `  tacet log trace 06KBXQ3T5J8ZV1Q2
  tacet log trace bob@example.net --since 2d
  tacet log trace @example.net --event failed
  tacet log trace 06KBXQ3T5J8ZV1Q2 --json | jq -c .status`,
		Args: takes("an ID or an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := queue.ParseID(args[0]); err == nil {
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
			if t.records == 0 {
				return errors.New("the log has nothing of it")
			}
			return t.end()
		},
	}
	q.addTo(cmd)
	return cmd
}

// tracePrinter prints records mail by mail, each with how it stands.
type tracePrinter struct {
	c       *console
	show    func(logging.Line) error
	id      string
	records int
	mails   int
	open    map[string]bool // recipients without a terminal record
	first   time.Time
	last    time.Time
	ended   int
}

func (t *tracePrinter) add(line logging.Line) error {
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
