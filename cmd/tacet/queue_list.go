package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tacet/queue"
)

func newQueueList(c *console) *cobra.Command {
	var f filterFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List queued messages, oldest first",
		Long: `List queued messages, oldest first: one line for each, with its ID, its age, its size,
its sender, the recipients that are still owed it, their state, when the next
attempt is due, and why the last one did not succeed. What is due waits for its turn
at the next hop, or for one that cannot be reached to answer again: that is probed.

The filters narrow the list; a message passes if it passes all that are given.`,
		Example: `  tacet queue list
  tacet queue list --sender anna@example.org
  tacet queue list --sender '<>' --older 1d
  tacet queue list --recipient-domain example.net --state held
  tacet queue list --json | jq -r '.recipients[].recipient' | sort | uniq -c`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(); err != nil {
				return err
			}
			op, err := c.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer op.Close()
			t := queueTable{out: c.out, now: time.Now(), width: terminalWidth(c.out)}
			for m, err := range op.List(cmd.Context(), f.listFilter) {
				if err != nil {
					return err
				}
				if c.json {
					err = c.printJSON(m)
				} else {
					err = t.add(m)
				}
				if err != nil {
					return fmt.Errorf("printing the queue: %w", err)
				}
			}
			if c.json {
				return nil
			}
			return t.end()
		},
	}
	f.bind(cmd)
	return cmd
}

// queueTable prints messages in columns. It gathers some to see how wide they
// need to be, and then prints as messages come: a long queue is never held in memory.
type queueTable struct {
	out    io.Writer
	now    time.Time
	width  int // of the terminal; 0: no limit
	rows   [][]string
	wide   []int
	total  int
	octets int64
}

// gatherRows is how many messages the widths of the columns are taken from.
const gatherRows = 200

func (t *queueTable) add(m message) error {
	t.total++
	t.octets += m.Size
	t.rows = append(t.rows, row(m, t.now))
	if len(t.rows) < gatherRows && t.wide == nil {
		return nil
	}
	return t.flush()
}

func (t *queueTable) end() error {
	if t.total == 0 {
		_, err := fmt.Fprintln(t.out, "The queue is empty.")
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.out, "%s, %s\n", plural(t.total, "message"), shortOctets(t.octets))
	return err
}

func (t *queueTable) flush() error {
	header := []string{"ID", "AGE", "SIZE", "SENDER", "RECIPIENTS LEFT", "STATE", "NEXT", "REASON"}
	if t.wide == nil {
		t.rows = append([][]string{header}, t.rows...)
		t.wide = make([]int, len(header))
		for _, cells := range t.rows {
			for i, cell := range cells {
				t.wide[i] = min(max(t.wide[i], utf8.RuneCountInString(cell)), 40)
			}
		}
	}
	for _, cells := range t.rows {
		var b strings.Builder
		for i, cell := range cells {
			if i == len(cells)-1 {
				b.WriteString(cell)
				break
			}
			cell = cut(cell, t.wide[i])
			pad := strings.Repeat(" ", t.wide[i]-utf8.RuneCountInString(cell))
			if i == 1 || i == 2 { // numbers end alike
				b.WriteString(pad + cell + "  ")
			} else {
				b.WriteString(cell + pad + "  ")
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if t.width > 0 {
			line = cut(line, t.width)
		}
		if _, err := fmt.Fprintln(t.out, line); err != nil {
			return err
		}
	}
	t.rows = t.rows[:0]
	return nil
}

// row is one message as cells.
func row(m message, now time.Time) []string {
	left := m.left()
	to, state, next, why := "-", "-", "", ""
	if m.Damaged {
		state, why = "damaged", "set aside, for it does not match its checksum"
	}
	if len(left) > 0 {
		first := left[0]
		for _, r := range left[1:] {
			// What comes next is what an operator wants to see.
			if r.State == queue.Waiting.String() && (first.State != r.State || r.NextAttempt.Before(first.NextAttempt)) {
				first = r
			}
		}
		to, state = printable(first.Recipient), first.State
		if len(left) > 1 {
			to = fmt.Sprintf("%s +%d", to, len(left)-1)
		}
		if first.State == queue.Waiting.String() {
			next = "due"
			if wait := first.NextAttempt.Sub(now); wait > 0 {
				next = "in " + shortDuration(wait)
			}
		}
		why = first.why()
	}
	return []string{m.ID, shortDuration(now.Sub(m.Arrived)), shortOctets(m.Size), printable(m.Sender), to, state, next, why}
}

// why is what the last attempt came to, in one line.
func (r messageRecipient) why() string {
	if r.Code == 0 {
		return r.Meaning
	}
	said := fmt.Sprintf("%d %s", r.Code, r.Enhanced)
	return strings.TrimSpace(strings.TrimSpace(said) + " " + printable(cmp.Or(r.Reply, r.Meaning)))
}

// cut shortens a text to width runes, with a mark where something is missing.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	runes := []rune(s)
	return string(runes[:max(width-1, 0)]) + "…"
}
