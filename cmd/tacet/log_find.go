package main

import (
	"github.com/spf13/cobra"

	"tacet/logging"
)

func newLogFind(c *console) *cobra.Command {
	q := logQuery{last: -1}
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Find records in the relay log",
		Long: `Find records in the relay log, over all days that are kept, oldest first.

A record passes if it passes all that is given. Upper and lower case are alike. Days that
are over are encrypted on the disk; they are read like the running one. That you
looked, by what, and how many records were found is recorded in the audit log.`,
		Example: `  tacet log find --address bob@example.net --since 7d
  tacet log find --sender @example.org --event deferred,failed
  tacet log find --reason greylisted --since 2026-05-04 --until 2026-05-05
  tacet log find --host 192.0.2.0/24 --event failed
  tacet log find --user anna --lines 20
  tacet log find --event failed --since 1d --json | jq -r .status.reason | sort | uniq -c`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.last == 0 || q.last < -1 {
				return wrongUsage("--lines wants a number from 1")
			}
			found, print := false, c.logPrinter(true)
			err := c.readLog(cmd, &q, func(line logging.Line) error {
				found = true
				return print(line)
			})
			if err == nil && !found {
				c.note("no record in the log matches")
			}
			return err
		},
	}
	q.addTo(cmd)
	cmd.Flags().IntVarP(&q.last, "lines", "n", -1, "the newest so many; without it all")
	return cmd
}
