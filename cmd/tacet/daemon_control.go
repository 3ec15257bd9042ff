package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// newControl is what the control socket answers with.
func (d *daemon) newControl() (*control, error) {
	copies, err := newBackups(d.config, d.store)
	if err != nil {
		return nil, err
	}
	return &control{
		queue: d.store, actions: d.relay, backups: copies,
		selections: &selections{survey: d.store.Survey, destination: d.routes.Destination, actions: d.relay},
		health:     d.health, metrics: d.metricsHandler(),
		reload:      func(context.Context) ([]string, error) { return d.reload() },
		reloadUsers: d.reloadUsers,
		audit:       d.audit,
		logRead:     &logRead{d.config, d.audit},
		erase:       d.journal.Erase,
		incidents:   d.incidents,
		config:      d.printConfig,
		usage:       d.quota,
		asked:       d.ledger.Lines,
		sendCanary:  d.sendCanary,
		openContent: d.openContent,
		log:         logging.Withheld(d.ops),
	}, nil
}

// openControl answers the command line on the control socket.
func (d *daemon) openControl(context.Context) error {
	c, err := d.newControl()
	if err != nil {
		return err
	}
	l, err := listenControl(d.config.controlSocket())
	if err != nil {
		return err
	}
	d.serveHTTP(c.server(), l, logging.OpControlFailed)
	d.ops.Log(logging.OpControlUp)
	return nil
}

// openMetrics answers Prometheus on a loopback address, if one is configured.
func (d *daemon) openMetrics(ctx context.Context) error {
	address := d.config.Metrics.Address
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening at metrics.address %s: %w", address, err)
	}
	c := &control{health: d.health}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metricsHandler())
	mux.HandleFunc("GET /health", c.answerHealth)
	d.serveHTTP(&http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: logging.Withheld(d.ops),
	}, l, logging.OpTaskFailed)
	d.ops.Log(logging.OpMetricsUp, logging.Listener(addrPort(l.Addr())))
	return nil
}

func (d *daemon) serveHTTP(s *http.Server, l net.Listener, failure logging.Op) {
	d.tasks.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.ops.Log(failure, logging.Err(err))
		}
	})
	d.made(func() error {
		// The answers under way are given before what they ask of is closed.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			return s.Close()
		}
		return nil
	})
}

// health looks at everything without which mail does not flow. Its words are
// a closed list.
func (d *daemon) health() health {
	h := health{Faults: []string{}}
	fault := func(name string, bad bool) {
		if bad {
			h.Faults = append(h.Faults, name)
		}
	}
	err := d.store.Ready()
	fault("disk_full", errors.Is(err, queue.ErrFull))
	fault("queue_unwritable", err != nil && !errors.Is(err, queue.ErrFull))
	fault("queue_unread", d.store.LoadError() != nil)
	fault("queue_damaged", d.store.Corrupt())
	fault("messages_damaged", d.store.Stats().Damaged > 0)
	fault("log_unwritable", d.journal.Err() != nil)
	if pair := d.certs.current.Load(); pair != nil {
		fault("certificate_expired", time.Now().After(pair.Leaf.NotAfter))
	}
	fault("failed", len(d.failed) > 0)
	h.OK = len(h.Faults) == 0
	return h
}

// reload reads config, certificates, users and passwords again, and puts into
// effect what can change while the relay runs. On an error nothing has
// changed. restart names the keys that have changed and wait for a restart.
func (d *daemon) reload() (restart []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err != nil {
			d.ops.Log(logging.OpReloadFailed)
		}
	}()
	next, err := LoadConfig(d.config.source.path)
	if err != nil {
		return nil, err
	}
	restart = d.config.keepFixed(next)
	dns := next.lookups()
	router, err := next.router(dns)
	if err != nil {
		return nil, err
	}
	core, err := d.core(next)
	if err != nil {
		return nil, err
	}
	pair, err := d.certs.load(next)
	if err != nil {
		return nil, err
	}
	if err := d.reloadUsers(); err != nil {
		return nil, err
	}
	d.certs.use(pair)
	if d.users != nil {
		d.users.SetDefaults(next.userDefaults())
		d.quota.Remember(next.Submission.Memory)
	}
	d.config = next
	d.routes.use(router, dns)
	d.client.CloseIdle()
	d.relay.Reload(d.withPrimary(core, next))
	d.server.SetLimits(next.limits())
	d.server.Keep(next.keepsClient())
	d.reloadEdge(next)
	if err := d.store.Reroute(context.Background(), d.routes.Destination); err != nil {
		return restart, fmt.Errorf("sorting the queue by the new routes: %w", err)
	}
	d.relay.Kick()
	d.ops.Log(logging.OpReloadDone)
	return restart, nil
}

// reloadOnSignal is a reload that a signal asked for. The system does not
// tell who sent it: on record is the user that both run as.
func (d *daemon) reloadOnSignal() (restart []string, err error) {
	if d.audit(personOf(ownUID()).action(logging.VerbReload)) != nil {
		return nil, errNotRecorded
	}
	return d.reload()
}

func (d *daemon) reloadUsers() error {
	if d.users == nil {
		return nil
	}
	if err := d.users.Reload(); err != nil {
		return err
	}
	d.ops.Log(logging.OpUsersLoaded, logging.Count(d.users.Len()))
	return nil
}

// audit records an admin's action.
func (d *daemon) audit(act logging.Action) error {
	err := d.admins.Write(act)
	if err != nil {
		d.ops.Log(logging.OpAuditFailed, logging.Err(err))
	}
	return err
}
