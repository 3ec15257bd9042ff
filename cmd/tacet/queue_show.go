package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tacet/queue"
)

func newQueueShow(c *console) *cobra.Command {
	var content bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one message's envelope and how its delivery stands",
		Long: `Show one queued message: its envelope, and for each recipient the state, the attempts
so far, when the next one is due, and what the next hop said to the last one.

Content is shown only with --content, and only while an incident is open on this very
message: tacet incident open --ticket T --scope id=ID --with-content.`,
		Example: `  tacet queue show 06KBXQ3T5J8ZV1Q2
  tacet queue show 06KBXQ3T5J8ZV1Q2 --json | jq '.recipients[] | {recipient, reply}'`,
		Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := queue.ParseID(args[0])
			if err != nil {
				return wrongUsage("%s: %w; `tacet queue list` shows them", quote(args[0]), err)
			}
			if content {
				return c.showContent(cmd.Context(), id)
			}
			op, err := c.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer op.Close()
			m, err := op.Show(cmd.Context(), id)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if c.json {
				return c.printJSON(m)
			}
			return m.print(c.out, time.Now())
		},
	}
	cmd.Flags().BoolVar(&content, "content", false, "show the content, under an incident")
	return cmd
}

// print writes the message as a person reads it.
func (m message) print(w io.Writer, now time.Time) error {
	out := &lineWriter{w: w}
	out.line("message   %s", m.ID)
	out.line("arrived   %s (%s ago)", m.Arrived.Local().Format("2006-01-02 15:04:05 MST"), shortDuration(now.Sub(m.Arrived)))
	out.line("size      %s", shortOctets(m.Size))
	out.line("sender    %s", printable(m.Sender))
	if m.User != "" {
		out.line("user      %s", printable(m.User))
	}
	for _, r := range m.Recipients {
		out.line("")
		out.line("recipient %s", printable(r.Recipient))
		out.line("  state   %s, %s", r.State, plural(r.Attempts, "attempt"))
		if !r.NextAttempt.IsZero() {
			when := "due now"
			if wait := r.NextAttempt.Sub(now); wait > 0 {
				when = "in " + shortDuration(wait)
			}
			out.line("  next    %s (%s)", r.NextAttempt.Local().Format("2006-01-02 15:04:05 MST"), when)
		}
		if r.Reason != "" {
			out.line("  reason  %s: %s", r.Reason, r.Meaning)
		}
		if r.Code != 0 {
			out.line("  reply   %d %s %s", r.Code, r.Enhanced, printable(r.Reply))
		}
	}
	return out.err
}

// lineWriter prints lines until the first error.
type lineWriter struct {
	w   io.Writer
	err error
}

func (l *lineWriter) line(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format+"\n", args...)
	}
}
