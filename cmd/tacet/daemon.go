package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"tacet/logging"
	"tacet/queue"
	"tacet/queue/pebblestore"
	"tacet/relay"
	"tacet/relay/aggregate/dmarcrpt"
	"tacet/relay/aggregate/tlsrpt"
	"tacet/relay/auth"
	"tacet/relay/content"
	"tacet/relay/inbound"
	"tacet/relay/outbound"
	"tacet/relay/quota"
	"tacet/relay/recipients"
	"tacet/relay/reputation"
	"tacet/relay/tlspolicy/mtasts"
)

// deps is what a daemon needs from outside its config.
type deps struct {
	ops       *logging.Operations // nil: it says nothing of itself
	inherited []net.Listener      // opened by systemd
	govern    bool                // the process is this daemon alone: it may choose its processors
}

// daemon is a running relay: all parts, put together. The parts are made in
// the order of the fields and ended in reverse.
type daemon struct {
	config *Config // guarded by mu
	ops    *logging.Operations

	routes     routes
	processors *processors
	store      *pebblestore.Store
	journal    *logging.Log
	admins     *logging.Audit
	incidents  *logging.Incidents
	policies   *mtasts.Cache
	reports    *tlsrpt.Collector   // nil: none are made
	dmarc      *dmarcrpt.Collector // likewise
	ledger     *reputation.Ledger
	client     *outbound.Client
	relay      *relay.Relay
	users      *auth.Users              // nil without submission
	quota      *quota.Meter             // of users; nil without submission
	strangers  atomic.Int64             // transactions refused for their sender
	authors    atomic.Int64             // messages refused for their From field
	selftest   atomic.Pointer[oneLogin] // of a self-test that runs; nil: none does
	certs      certificates
	server     *inbound.Server
	edge       gatekeeper
	ports      []port

	mu      sync.Mutex                    // one reload at a time
	rules   atomic.Pointer[content.Rules] // in effect
	kick    atomic.Pointer[relay.Relay]
	dwell   dwell
	people  atomic.Pointer[recipients.Directory] // who exists in the relay domains; nil: nobody knows
	failed  chan error                           // gets one error when the relay cannot go on
	endRun  context.CancelFunc
	tasks   sync.WaitGroup // everything that runs until stop
	running sync.WaitGroup // relay.Run alone
	undo    []func() error // what ends the parts, in the order they were made
}

// port is one listener as it was opened.
type port struct {
	net.Listener
	kind inbound.Listener
}

// startDaemon starts the relay that config describes. When it returns, the
// listeners take connections. ctx bounds the start alone: end the daemon with stop.
func startDaemon(ctx context.Context, config *Config, with deps) (_ *daemon, err error) {
	d := &daemon{config: config, ops: with.ops, failed: make(chan error, 1)}
	d.certs.ops = with.ops
	defer func() {
		if err != nil {
			err = errors.Join(err, d.unwind())
		}
	}()
	for _, step := range []func(context.Context) error{
		d.openStore, func(context.Context) error { return d.takeProcessors(with.govern) },
		d.openJournal, d.recordGrants, d.openIncidents,
		d.openPolicies, d.openReports, d.openLedger, d.openUsers, d.assemble, d.loadCertificate,
		func(ctx context.Context) error { return d.listen(ctx, with.inherited) },
		d.openControl, d.openMetrics,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	d.run()
	d.ops.Log(logging.OpReady)
	return d, nil
}

// made notes how a part that was just made is ended.
func (d *daemon) made(end func() error) { d.undo = append(d.undo, end) }

// unwind ends the parts that were made, the newest first.
func (d *daemon) unwind() error {
	var faults []error
	for len(d.undo) > 0 {
		last := len(d.undo) - 1
		faults = append(faults, d.undo[last]())
		d.undo = d.undo[:last]
	}
	return errors.Join(faults...)
}

// openStore opens the queue, and with it takes the lock that keeps a second
// daemon out.
func (d *daemon) openStore(ctx context.Context) error {
	if err := makeFolder("data_dir", d.config.DataDir); err != nil {
		return err
	}
	dns := d.config.lookups()
	router, err := d.config.router(dns)
	if err != nil {
		return err
	}
	d.routes.use(router, dns)
	d.store, err = openStore(ctx, d.config, d.routes.Destination, func(o *pebblestore.Options) {
		o.Events = d.storeEvent
		o.Wake = func() {
			if r := d.kick.Load(); r != nil {
				r.Kick()
			}
		}
		o.Fatal = func() { d.fail(errors.New("the queue's disk does not take writes; what was accepted is on it")) }
	})
	if err != nil {
		return err
	}
	d.ops.Log(logging.OpStoreOpened)
	d.made(d.store.Close)
	return nil
}

// openStore opens the queue of a config.
func openStore(ctx context.Context, config *Config, destination func(queue.ForwardPath) queue.Destination, more func(*pebblestore.Options)) (*pebblestore.Store, error) {
	master, err := config.masterKey(ctx, askPerson)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	options := pebblestore.Options{Dir: config.queueDir(), KeyDir: config.keyDir(), Destination: destination, MasterKey: master}
	if more != nil {
		more(&options)
	}
	store, err := pebblestore.Open(options)
	if errors.Is(err, queue.ErrLocked) {
		return nil, fmt.Errorf("another tacet runs on %s: end it first, or use another data_dir: %w", config.DataDir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the queue in %s: %w", config.DataDir, config.wrongKey(err))
	}
	return store, nil
}

// storeEvent tells the operator of the queue's trouble.
func (d *daemon) storeEvent(e pebblestore.Event) {
	switch e.Kind {
	case pebblestore.EventDiskFull:
		d.ops.Log(logging.OpDiskFull)
	case pebblestore.EventDiskRoom:
		d.ops.Log(logging.OpDiskOK)
	case pebblestore.EventDamaged:
		d.ops.Log(logging.OpMessageDamaged)
	case pebblestore.EventSalvaging:
		d.ops.Log(logging.OpStoreSalvaging, logging.Count(e.Salvaged.Messages)) // as far as it is
		notify(salvagePatience)
	case pebblestore.EventSalvaged:
		d.ops.Log(logging.OpStoreSalvaged, logging.Count(e.Salvaged.Messages))
	case pebblestore.EventFailed:
		d.ops.Log(logging.OpStoreFailed, logging.Err(e.Err))
	default:
		d.ops.Log(logging.OpTaskFailed, logging.Err(e.Err))
	}
}

// fail reports that the relay cannot go on. The first reason counts.
func (d *daemon) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
}

// makeFolder makes a folder that the relay's group may read, whatever the umask.
// One that is there keeps its mode.
func makeFolder(name, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o750); err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	if err := os.Chmod(path, 0o750); err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	return nil
}

func (d *daemon) openJournal(context.Context) error {
	if err := makeFolder("log.dir", d.config.Log.Dir); err != nil {
		return err
	}
	log, err := openJournal(d.config, d.ops)
	if err != nil {
		return err
	}
	d.journal, d.admins = log, d.config.audit()
	d.made(log.Close)
	return nil
}

func openJournal(config *Config, ops *logging.Operations) (*logging.Log, error) {
	options := config.logOptions()
	options.Operations = ops
	log, err := logging.Open(options)
	if err != nil {
		return nil, fmt.Errorf("opening the log in %s: %w", config.Log.Dir, err)
	}
	return log, nil
}

// logOptions is the log of a config.
func (c *Config) logOptions() logging.Options {
	return logging.Options{
		Dir: c.Log.Dir, KeyDir: c.logKeyDir(), LiveSealed: c.Log.Live == LiveSealed, Retention: c.Log.Retention,
		RetentionSubject: c.Log.RetentionSubject, RetentionClient: c.Log.RetentionClient, RetentionUser: c.Log.RetentionUser,
		RetentionLogins: c.Log.RetentionLogins,
	}
}

// journal is the relay log in the words of the core.
type journal struct{ *logging.Log }

// Ready implements relay.Journal.
func (j journal) Ready() error { return j.Err() }

// assemble puts the core together with those who deliver for it.
func (d *daemon) assemble(context.Context) error {
	core, err := d.core(d.config)
	if err != nil {
		return err
	}
	out := d.config.outbound(&d.routes)
	out.Tracer = tracer{d.incidents}
	if d.reports != nil {
		out.Observer = d.reports
	}
	d.client = outbound.New(out, d.held())
	d.made(func() error { d.client.Close(); return nil })
	d.relay = relay.New(d.withPrimary(core, d.config), d.store, d.store, &d.routes, d.processors.paced(d.client), journal{d.journal})
	d.kick.Store(d.relay)
	return nil
}

// recover has the log agree with the queue again, if there was a crash. It takes
// seconds where the log is long, so it holds up deliveries, and not those who send.
// A log that cannot be read keeps no mail from being relayed.
func (d *daemon) recover(ctx context.Context) {
	if !d.store.Crashed() {
		return
	}
	past, err := logging.RecallLast(ctx, d.config.logOptions())
	if err == nil {
		err = d.relay.Recover(ctx, past)
	}
	if err != nil && ctx.Err() == nil {
		d.ops.Log(logging.OpRecallFailed, logging.Err(err))
	}
}

// takeProcessors lets the relay choose how many processors it runs on.
func (d *daemon) takeProcessors(govern bool) error {
	if govern {
		d.processors = newProcessors(d.store.Loaded())
		d.made(func() error { d.processors.stop(); return nil })
	}
	return nil
}

// openUsers reads who may log in. A relay without submission holds no password.
func (d *daemon) openUsers(context.Context) error {
	if !d.config.hasKind(KindSubmission) {
		return nil
	}
	users, err := auth.Open(d.config.Auth.UsersFile, d.config.userDefaults())
	if err != nil {
		return err
	}
	d.users = users
	if err := d.openQuota(); err != nil {
		return err
	}
	d.ops.Log(logging.OpUsersLoaded, logging.Count(users.Len()))
	return nil
}

func (d *daemon) loadCertificate(context.Context) error {
	pair, err := d.certs.load(d.config)
	if err != nil {
		return err
	}
	d.certs.use(pair)
	return nil
}

// listen opens every listener, or takes it over from systemd.
func (d *daemon) listen(ctx context.Context, inherited []net.Listener) error {
	d.server = inbound.New(d.config.inbound(d))
	for _, l := range inherited {
		if !slices.ContainsFunc(d.config.Listeners, func(c Listener) bool { return takeOver([]net.Listener{l}, c.Address) != nil }) {
			return fmt.Errorf("systemd has opened %s, which is the address of no [[listener]]: change tacet.socket or the config", l.Addr())
		}
	}
	for _, l := range d.config.Listeners {
		listener := takeOver(inherited, l.Address)
		if listener == nil {
			var err error
			if listener, err = inbound.Listen(ctx, l.Address); err != nil {
				d.ops.Log(logging.OpListenerFailed, logging.Err(err))
				return fmt.Errorf("listening at %s: %w", l.Address, err)
			}
		}
		d.made(func() error { return ignoreClosed(listener.Close()) })
		d.ports = append(d.ports, port{listener, l.inbound()})
		d.ops.Log(logging.OpListenerUp, logging.Listener(addrPort(listener.Addr())))
	}
	return nil
}

// takeOver finds the inherited socket of an address, nil if there is none.
func takeOver(inherited []net.Listener, address string) net.Listener {
	host, number, _ := cutPort(address)
	want, _ := netip.ParseAddr(host)
	for _, l := range inherited {
		got := addrPort(l.Addr())
		all := got.Addr().IsUnspecified() && (host == "" || want.IsUnspecified())
		if got.Port() == number && (all || got.Addr() == want) {
			return l
		}
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// address is where the i-th listener of the config listens.
func (d *daemon) address(i int) netip.AddrPort { return addrPort(d.ports[i].Addr()) }

// run sets everything going.
func (d *daemon) run() {
	ctx, cancel := context.WithCancel(context.Background())
	d.endRun = cancel
	d.running.Go(func() {
		d.recover(ctx)
		d.relay.Run(ctx)
	})
	d.tasks.Go(func() { every(ctx, day, func() { d.renewCertificate(ctx) }) })
	if d.reports != nil {
		d.tasks.Go(func() { d.reports.Run(ctx) })
	}
	if d.dmarc != nil {
		d.tasks.Go(func() { d.dmarc.Run(ctx) })
	}
	if len(d.config.Relay.Domains) > 0 {
		d.tasks.Go(func() { d.watchPrimary(ctx) })
		d.tasks.Go(func() { d.keepRecipients(ctx) })
		d.tasks.Go(func() { d.keepEdge(ctx) })
	}
	for _, p := range d.ports {
		d.tasks.Go(func() {
			if err := d.server.Serve(p.Listener, p.kind); err != nil {
				d.ops.Log(logging.OpListenerFailed, logging.Listener(addrPort(p.Addr())), logging.Err(err))
				d.fail(fmt.Errorf("the listener at %s failed: %w", p.Addr(), err))
			}
		})
	}
}
