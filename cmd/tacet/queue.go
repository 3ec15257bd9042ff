package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
)

// operator is what the queue commands ask for: of the running daemon, or of
// the store itself when none is running.
type operator interface {
	List(ctx context.Context, f listFilter) iter.Seq2[message, error]
	Show(ctx context.Context, id queue.ID) (message, error)
	Pick(ctx context.Context, verb logging.Verb, f listFilter) (picked, error)
	Perform(ctx context.Context, token string, progress func(done int)) (acted, error)
	Shape(ctx context.Context, by string, limit int, f listFilter, progress func(read int)) (shape, error)
	QueueActions
	Erase(ctx context.Context, e *erasure) (erased, error)
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
	offline, err := openOffline(config)
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
		Short: "Look at the queue and act on it: list, stats, show, retry, hold, release, delete",
		Long: `Look at the messages that wait for delivery, and act on them.

The running daemon answers; what is done is recorded in the relay log and under
your name in the audit log. With no daemon running the commands open the queue
themselves. None of them shows content, unless an incident is open on the message.`,
		Example: `  tacet queue list
  tacet queue list --recipient-domain example.net --older 1h
  tacet queue stats
  tacet queue show 06KBXQ3T5J8ZV1Q2
  tacet queue retry --all`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newQueueList(c), newQueueStats(c), newQueueShow(c), newQueueRetry(c),
		newQueueAction(c, action{
			name: "hold", short: "Keep messages from delivery", done: "held",
			long: "Keep messages from delivery until they are released. One under delivery at this moment is held\nafter that attempt. A held message does not expire.",
			act:  operator.Hold, verb: logging.VerbQueueHold, confirmed: true,
		}),
		newQueueAction(c, action{
			name: "release", short: "Let held messages go on", done: "released",
			long: "Let held messages go on: they are due at once.",
			act:  operator.Release, verb: logging.VerbQueueRelease,
		}),
		newQueueAction(c, action{
			name: "delete", short: "Remove messages for good", done: "deleted",
			long: "Remove messages from the queue for good. Their senders get no report, and nothing of the\nmessages can be read again.",
			act:  operator.Delete, verb: logging.VerbQueueDelete, confirmed: true,
		}))
	return cmd
}

func newQueueRetry(c *console) *cobra.Command {
	var many manyFlags
	cmd := &cobra.Command{
		Use:   "retry {ID... | FILTER | --all}",
		Short: "Make messages due now",
		Long: `Make waiting messages due now, whatever their schedule says: those named, those that pass
the filters, or with --all everything. Held messages stay held.`,
		Example: `  tacet queue retry 06KBXQ3T5J8ZV1Q2
  tacet queue retry --next-hop example.net
  tacet queue retry --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			byFilter, err := many.choose(args)
			switch {
			case err != nil:
				return err
			case many.all:
				return c.retryAll(cmd.Context())
			case byFilter:
				return c.actOnMany(cmd.Context(), &many, logging.VerbQueueRetry, "retry", "due now")
			}
			return c.actOn(cmd.Context(), args, "due now", operator.Retry)
		},
	}
	many.bindMany(cmd, false)
	return cmd
}

func (c *console) retryAll(ctx context.Context) error {
	op, err := c.operator(ctx)
	if err != nil {
		return err
	}
	defer op.Close()
	n, err := op.RetryAll(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]int{"messages": n})
	}
	_, err = fmt.Fprintln(c.out, plural(n, "message"), "due now")
	return err
}

// action is a queue command that does one thing to each message that is named
// or that passes the filters.
type action struct {
	name, short, long, done string
	act                     func(operator, context.Context, queue.ID) error
	verb                    logging.Verb
	confirmed               bool // it asks before it acts on many
}

func newQueueAction(c *console, a action) *cobra.Command {
	var many manyFlags
	ask := ""
	if a.confirmed {
		ask = " More than one are counted first, and you\nare asked, unless you say --yes."
	}
	cmd := &cobra.Command{
		Use:   a.name + " {ID... | FILTER | --all}",
		Short: a.short,
		Long: a.long + `

Name the messages, or choose them by filters: a message passes if it passes all that are
given, and the whole message is acted on.` + ask,
		Example: fmt.Sprintf(`  tacet queue %[1]s 06KBXQ3T5J8ZV1Q2
  tacet queue %[1]s --sender anna@example.org --older 1d
  tacet queue %[1]s --recipient-domain example.net`, a.name),
		RunE: func(cmd *cobra.Command, args []string) error {
			byFilter, err := many.choose(args)
			if err != nil {
				return err
			}
			if byFilter {
				return c.actOnMany(cmd.Context(), &many, a.verb, a.name, a.done)
			}
			return c.actOn(cmd.Context(), args, a.done, a.act)
		},
	}
	many.bindMany(cmd, a.confirmed)
	return cmd
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
