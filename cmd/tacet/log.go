package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tacet/logging"
)

func newLog(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read the relay log",
		Long: `Read the relay log: who sent what to whom, where it went, and how it ended.

The log is one JSON object a line in relay-YYYY-MM-DD.jsonl (UTC) under log.dir, so that
every tool that reads lines of JSON reads it too.`,
		Example: `  tacet log tail
  tacet log tail --follow
  tacet log tail -n 1000 --json | jq 'select(.status.event == "deferred")'`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newLogTail(c))
	return cmd
}

func newLogTail(c *console) *cobra.Command {
	var n int
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest lines of the relay log",
		Long: `Print the newest lines of the relay log, for people or with --json as they stand in the
file. With --follow go on with what is written from then on, over midnight too,
until Ctrl-C.`,
		Example: `  tacet log tail
  tacet log tail -n 100
  tacet log tail -f
  tacet log tail -f --json | jq -c '[.status.event, .recipient]'`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 {
				return wrongUsage("--lines wants a number from 0")
			}
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if err := c.recordByCommand(ctx, config, logging.VerbLogRead, logging.ScopeTime); err != nil {
				return err
			}
			return c.tailLog(ctx, config, n, follow)
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 10, "how many lines")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	return cmd
}

func (c *console) tailLog(ctx context.Context, config *Config, n int, follow bool) error {
	if n == 0 && !follow {
		return nil
	}
	c.watchIncidents(ctx, config, follow)
	show := c.logPrinter()
	for line, err := range logging.Read(ctx, logging.ReadOptions{Dir: config.Log.Dir, Last: n, Follow: follow}) {
		switch {
		case errors.Is(err, logging.ErrLine):
			c.note("%v", err)
		case err != nil:
			return fmt.Errorf("reading the relay log: %w", err)
		default:
			if err := show(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// logPrinter prints a line of the log in the form that was asked for.
func (c *console) logPrinter() func(logging.Line) error {
	style := logging.Style{Colour: newPalette(c.out).on}
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
