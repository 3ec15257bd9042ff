package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"tacet/logging"
)

// stopGrace is how long what is under way may take once the relay stops.
const stopGrace = 30 * time.Second

func newServe(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the relay",
		Long: `Run the relay in the foreground, as systemd and containers want it.

SIGTERM and Ctrl-C end it: idle clients are told 421, what is under way is finished
within 30 seconds, and what is queued stays queued. SIGHUP reads certificates, users
and config again; a config with a fault changes nothing and says so. Only
` + fixedNames() + `
wait for a restart, and the reload says so of those that have changed.

Under systemd it says when it is ready, and takes over sockets that systemd has
opened for the addresses of its listeners. What it tells of itself goes to standard
error, the mail to the relay log (log.dir).`,
		Example: `  tacet serve
  tacet serve --config ./tacet.toml
  tacet check && systemctl reload tacet`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			limitMemory()
			if err := hardenProcess(); err != nil {
				return err
			}
			if err := c.containCrashes(); err != nil {
				return err
			}
			return c.serve(cmd.Context())
		},
	}
}

func (c *console) serve(ctx context.Context) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	inherited, err := activation.Listeners()
	if err != nil {
		return fmt.Errorf("taking over the sockets of systemd: %w", err)
	}
	ops := c.operations()
	defer logging.CaptureStd(ops)()
	ops.Log(logging.OpStarted, logging.Version(buildVersion().Version))
	// The signals are taken from here on, so that one that comes during the start is not lost.
	// SIGQUIT is one of them: it is no reason to print what goroutines hold.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	d, err := startDaemon(ctx, config, deps{ops: ops, inherited: present(inherited), govern: true})
	if err != nil {
		return err
	}
	notify(systemd.SdNotifyReady)
	for {
		select {
		case <-hangup:
			notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, monotonic()))
			if restart, err := d.reloadOnSignal(); err != nil {
				c.report(fmt.Errorf("the reload changed nothing: %w", err))
			} else if len(restart) > 0 {
				c.note("changes of %s take effect at a restart", strings.Join(restart, ", "))
			}
			notify(systemd.SdNotifyReady)
		case err := <-d.failed:
			// The disk under the queue does not take writes: a new process
			// begins from what is on it.
			return errors.Join(err, d.stopNow())
		case <-ctx.Done():
			notify(systemd.SdNotifyStopping)
			// The system does not tell who sent the signal. An end is never refused: a fault is an event.
			_ = d.audit(personOf(ownUID()).action(logging.VerbShutdown))
			stop() // a second signal ends the process at once
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
			defer cancel()
			return d.stop(grace)
		}
	}
}

// operations is where the relay tells of itself: JSON lines with --json.
func (c *console) operations() *logging.Operations {
	format := logging.FormatAuto
	if c.json {
		format = logging.FormatJSON
	}
	return logging.NewOperations(logging.OperationsOptions{To: c.err, Format: format})
}

// present leaves out what systemd passed that is no stream socket.
func present(all []net.Listener) []net.Listener {
	var listeners []net.Listener
	for _, l := range all {
		if l != nil {
			listeners = append(listeners, l)
		}
	}
	return listeners
}

// salvagePatience asks systemd for two minutes more. While a damaged queue is
// read around at the start, that is asked again every few seconds: a start that
// took too long for systemd would begin anew, again and again.
const salvagePatience = "EXTEND_TIMEOUT_USEC=120000000"

// notify tells systemd of a change; without systemd it does nothing. There is
// no one to tell of an error: systemd itself then finds the start too slow.
func notify(state string) { _, _ = systemd.SdNotify(false, state) }

// monotonic is the clock that systemd orders reloads by, in microseconds.
func monotonic() int64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return now.Nano() / 1000
}
