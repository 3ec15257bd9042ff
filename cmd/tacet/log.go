package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tacet/logging"
)

func newLog(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read the relay log: tail, find, trace, stats, verify",
		Long: `Read the relay log: who sent what to whom, where it went, and how it ended.

The running day is one JSON object a line in relay-YYYY-MM-DD.jsonl (UTC) under log.dir, so
that every tool that reads lines of JSON reads it too, unless log.live is "sealed". Days
that are over are compressed and encrypted; these commands read them all alike.

Root and the relay's user read the files. Others ask the daemon, which shows what
log.full_readers and log.status_readers say. Reading is recorded in the audit log: who,
by what, how many records, never which.`,
		Example: `  tacet log tail --follow
  tacet log find --address bob@example.net --since 7d
  tacet log trace 06KBXQ3T5J8ZV1Q2
  tacet log stats --since 7d
  tacet log verify`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newLogTail(c), newLogFind(c), newLogTrace(c), newLogStats(c), newLogVerify(c))
	return cmd
}

func newLogTail(c *console) *cobra.Command {
	q := logQuery{last: 10, showIncidents: true}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest lines of the relay log",
		Long: `Print the newest lines of the relay log, for people or with --json as they stand in the
file. With --follow go on with what is written from then on, over midnight too,
until Ctrl-C. The filters choose lines as those of "tacet log find" do.`,
		Example: `  tacet log tail
  tacet log tail -n 100
  tacet log tail -f
  tacet log tail -f --event deferred,failed --domain example.net
  tacet log tail -f --json | jq -c '[.status.event, .recipient]'`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.last < 0 {
				return wrongUsage("--lines wants a number from 0")
			}
			if q.last == 0 && !q.follow {
				return nil
			}
			return c.readLog(cmd, &q, c.logPrinter(false))
		},
	}
	q.addTo(cmd)
	cmd.Flags().IntVarP(&q.last, "lines", "n", 10, "how many lines")
	cmd.Flags().BoolVarP(&q.follow, "follow", "f", false, "go on with what is written from now on")
	return cmd
}

// logPrinter prints a line of the log in the form that was asked for; with date,
// the day too.
func (c *console) logPrinter(date bool) func(logging.Line) error {
	style := logging.Style{Colour: newPalette(c.out).on, Date: date}
	width := terminalWidth(c.out)
	return func(line logging.Line) error {
		var err error
		if c.json {
			_, err = c.out.Write(append(line.Raw, '\n'))
		} else {
			var text strings.Builder
			err = logging.Format(&text, line, style)
			fmt.Fprintln(c.out, wrap(strings.TrimSuffix(text.String(), "\n"), width, 10))
		}
		if err != nil {
			return fmt.Errorf("printing the log: %w", err)
		}
		return nil
	}
}
