package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"tacet/queue"
)

// operator is what the queue commands ask for: of the running daemon, or of
// the store itself when none is running.
type operator interface {
	List(ctx context.Context, f listFilter) iter.Seq2[message, error]
	Show(ctx context.Context, id queue.ID) (message, error)
	QueueActions
	Close() error
}

// operator finds the running daemon or else opens the store.
func (c *console) operator(ctx context.Context) (operator, error) {
	config, err := LoadConfig(c.config)
	if err != nil {
		return nil, err
	}
	client, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		return client, nil
	}
	if !errors.Is(err, errNoDaemon) {
		return nil, err
	}
	offline, err := openOffline(ctx, config)
	if errors.Is(err, queue.ErrLocked) {
		return nil, fmt.Errorf("a daemon holds the queue but does not answer on %s yet: try again in a moment", config.controlSocket())
	}
	if err != nil {
		return nil, err
	}
	c.note("no daemon is running: working on the queue in %s itself", config.queueDir())
	return offline, nil
}

func newQueue(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Look at the queue and act on it: list, show, retry, hold, release, delete",
		Long: `Look at the messages that wait for delivery, and act on them.

The running daemon answers; what is done is recorded in the relay log and under
your name in the audit log. With no daemon running the commands open the queue
themselves. None of them shows content, unless an incident is open on the message.`,
		Example: `  tacet queue list
  tacet queue list --recipient-domain example.net --older 1h
  tacet queue show 06KBXQ3T5J8ZV1Q2
  tacet queue retry --all`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newQueueList(c), newQueueShow(c), newQueueRetry(c),
		newQueueAction(c, action{
			name: "hold", short: "Keep messages from delivery", done: "held",
			long: "Keep messages from delivery until they are released. One under delivery at this moment is held\nafter that attempt. A held message does not expire.",
			act:  operator.Hold,
		}),
		newQueueAction(c, action{
			name: "release", short: "Let held messages go on", done: "released",
			long: "Let held messages go on: they are due at once.",
			act:  operator.Release,
		}),
		newQueueAction(c, action{
			name: "delete", short: "Remove messages for good", done: "deleted",
			long: "Remove messages from the queue for good. Their senders get no report, and nothing of the\nmessages can be read again.",
			act:  operator.Delete,
		}))
	return cmd
}

func newQueueRetry(c *console) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry {ID... | --all}",
		Short: "Make messages due now",
		Long: `Make waiting messages due now, whatever their schedule says: those named, or with
--all everything. Held messages stay held.`,
		Example: `  tacet queue retry 06KBXQ3T5J8ZV1Q2
  tacet queue retry --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return wrongUsage("name the messages, or use --all for everything")
			}
			if !all {
				return c.actOn(cmd.Context(), args, "due now", operator.Retry)
			}
			op, err := c.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer op.Close()
			n, err := op.RetryAll(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]int{"messages": n})
			}
			_, err = fmt.Fprintln(c.out, plural(n, "message"), "due now")
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "everything that waits")
	return cmd
}

// action is a queue command that does one thing to each message named.
type action struct {
	name, short, long, done string
	act                     func(operator, context.Context, queue.ID) error
}

func newQueueAction(c *console, a action) *cobra.Command {
	return &cobra.Command{
		Use:   a.name + " ID...",
		Short: a.short,
		Long:  a.long,
		Example: fmt.Sprintf(`  tacet queue %[1]s 06KBXQ3T5J8ZV1Q2
  tacet queue list --sender anna@example.org --json | jq -r .id | xargs tacet queue %[1]s`, a.name),
		Args: atLeastOneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.actOn(cmd.Context(), args, a.done, a.act)
		},
	}
}

// actOn does one thing to each message named, and goes on after one that fails.
func (c *console) actOn(ctx context.Context, args []string, done string, act func(operator, context.Context, queue.ID) error) error {
	ids := make([]queue.ID, len(args))
	for i, arg := range args {
		var err error
		if ids[i], err = queue.ParseID(arg); err != nil {
			return wrongUsage("%s: %w; `tacet queue list` shows them", quote(arg), err)
		}
	}
	op, err := c.operator(ctx)
	if err != nil {
		return err
	}
	defer op.Close()
	var faults []error
	for _, id := range ids {
		if err := act(op, ctx, id); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", id, err))
			continue
		}
		if c.json {
			c.printJSON(map[string]string{"id": id.String(), "done": done})
		} else {
			fmt.Fprintln(c.out, id, done)
		}
	}
	return errors.Join(faults...)
}

func atLeastOneID(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUsage("%s needs an ID; `tacet queue list` shows them", cmd.CommandPath())
	}
	return nil
}
