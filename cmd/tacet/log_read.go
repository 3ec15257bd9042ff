package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
)

// logQuery is what a command wants of the log.
type logQuery struct {
	logFilter
	last   int // the newest so many; negative: all
	follow bool
	trace  bool // all records of each message that matches, message by message

	showIncidents bool // tell of those that are open
	sum           bool // what the lines say is counted up, and no line shown
}

// reading is what becomes of the lines.
func (q *logQuery) reading() reading {
	switch {
	case q.follow:
		return following
	case q.sum:
		return summing
	}
	return showing
}

// options is the query in the words of the log.
func (q *logQuery) options(config *Config) (logging.ReadOptions, error) {
	filter, err := q.filter(time.Now())
	return logging.ReadOptions{
		Dir: config.Log.Dir, KeyDir: config.logKeyDir(), Filter: filter, Last: q.last, Follow: q.follow,
	}, err
}

// lines reads the files themselves.
func (q *logQuery) lines(ctx context.Context, o logging.ReadOptions) iter.Seq2[logging.Line, error] {
	if !q.trace {
		return logging.Read(ctx, o)
	}
	return func(yield func(logging.Line, error) bool) {
		for m, err := range logging.Trace(ctx, o) {
			if err != nil {
				yield(logging.Line{}, err)
				return
			}
			for _, line := range m.Lines {
				if !yield(line, nil) {
					return
				}
			}
		}
	}
}

// readLog has what the query finds handed to do, in order, and puts on record
// who looked by what, and how much was found. Who may open the files reads
// them; others ask the daemon, which knows what they may see.
func (c *console) readLog(cmd *cobra.Command, q *logQuery, do func(logging.Line) error) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	o, err := q.options(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !mayReadFiles(config) {
		return c.askForLog(ctx, config, q, do)
	}
	rec, err := newRecorder(ctx, config)
	if err != nil {
		return err
	}
	defer rec.Close()
	if q.showIncidents {
		c.watchIncidents(ctx, config, q.follow)
	}
	return c.eachLine(recorded(q.lines(ctx, o), q.reading(), func(found int, failed bool) error {
		return rec.record(context.WithoutCancel(ctx), logging.Action{What: logging.VerbLogRead, Scope: q.scopes(), Matched: found, Failed: failed})
	}), do)
}

// mayReadFiles tells whether the log and its keys are open to this process.
func mayReadFiles(config *Config) bool {
	if os.Geteuid() == 0 {
		return true
	}
	for _, dir := range []string{config.Log.Dir, config.logKeyDir()} {
		if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
			return false
		}
	}
	return true
}

// askForLog has the daemon read the log: as much as this user may see.
func (c *console) askForLog(ctx context.Context, config *Config, q *logQuery, do func(logging.Line) error) error {
	daemon, err := dialControl(ctx, config.controlSocket())
	if errors.Is(err, errNoDaemon) {
		return fmt.Errorf("the log in %s is not open to this user, and no daemon runs that could be asked: run the command as root or as the relay's user", config.Log.Dir)
	}
	if err != nil {
		return err
	}
	defer daemon.Close()
	return c.eachLine(daemon.readLog(ctx, q), do)
}

// eachLine hands on the lines.
func (c *console) eachLine(lines iter.Seq2[logging.Line, error], do func(logging.Line) error) error {
	for line, err := range lines {
		switch {
		case errors.Is(err, errNotRecorded):
			return err
		case logging.GoesOn(err):
			c.note("%v", err)
			continue
		case err != nil:
			return fmt.Errorf("reading the relay log: %w", err)
		}
		if err := do(line); err != nil {
			return err
		}
	}
	return nil
}
