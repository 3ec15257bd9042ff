package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tacet/logging"
)

func newLogVerify(c *console) *cobra.Command {
	var audit bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that the log holds what it may and forgets what it must",
		Long: `Check that the log holds what it may and forgets what it must. It reads every day that is
kept and ends with 1 if

  - a day, or a field of it, can still be read that is past its retention,
  - an encrypted day does not verify: changed, cut off or mixed up,
  - a day that is over stands there in plain, a key has no file or a file no key,
  - a line is not by the contract, or is of another day,
  - a file or a folder is open to others than it should be.

With --audit it checks the chain of the audit records too: that none was changed,
removed, added or cut off.`,
		Example: `  tacet log verify
  tacet log verify --audit
  tacet log verify --json | jq '.faults[]'`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return c.verifyLog(ctx, config, audit)
		},
	}
	cmd.Flags().BoolVar(&audit, "audit", false, "check the audit log too")
	return cmd
}

// verified is what was found, as JSON.
type verified struct {
	OK      bool            `json:"ok"`
	Days    int             `json:"days"`
	Records int             `json:"records"`
	Actions int             `json:"audit_records,omitempty"`
	Faults  []logging.Fault `json:"faults"`
}

func (c *console) verifyLog(ctx context.Context, config *Config, audit bool) error {
	rec, err := newRecorder(ctx, config)
	if err != nil {
		return err
	}
	defer rec.Close()
	found, err := logging.Verify(ctx, config.logOptions())
	act := logging.Action{What: logging.VerbVerify, Scope: []logging.Scope{logging.ScopeAll}, Matched: found.Records, Failed: err != nil || len(found.Faults) > 0}
	if err := rec.record(context.WithoutCancel(ctx), act); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("verifying the log: %w", err)
	}
	result := verified{Days: found.Days, Records: found.Records, Faults: found.Faults}
	if audit {
		n, faults, err := config.audit().Verify()
		if err != nil {
			return fmt.Errorf("verifying the audit log: %w", err)
		}
		result.Actions, result.Faults = n, append(result.Faults, faults...)
	}
	result.OK = len(result.Faults) == 0
	if c.json {
		if result.OK {
			result.Faults = []logging.Fault{}
		}
		if err := c.printJSON(result); err != nil {
			return err
		}
	} else {
		for _, f := range result.Faults {
			fmt.Fprintf(c.out, "%s: %s\n", f.File, f.Problem)
		}
		fmt.Fprintf(c.out, "%s on %s", plural(result.Records, "record"), plural(result.Days, "day"))
		if audit {
			fmt.Fprintf(c.out, ", %s", plural(result.Actions, "audit record"))
		}
		fmt.Fprintf(c.out, ": %s\n", plural(len(result.Faults), "fault"))
	}
	if !result.OK {
		return errSilent
	}
	return nil
}
