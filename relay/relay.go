package relay

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Journal takes the records of the relay log. *logging.Log fills it.
type Journal interface {
	// Write adds one record. An error says that the record is lost.
	Write(*logging.Record) error
	// Secure waits, in bounded time, until the records written before survive
	// the end of the process.
	Secure()
	// Err is nil while records are being written: an error says that mail must
	// not be taken now, because it would go unrecorded; nor delivered, unless it is
	// logging.ErrBacklog or logging.ErrClosed.
	Err() error
}

// Config is what the core needs to know. It may be replaced while the relay runs.
type Config struct {
	Hostname        string                  // in Received fields and reports
	Postmaster      queue.ForwardPath       // takes what is addressed to <Postmaster>, and signs reports
	TrustedNetworks []netip.Prefix          // may submit without AUTH
	Relays          func(queue.Domain) bool // tells relay domains, those of an mx listener; nil: there are none
	Schedule        queue.Schedule
	LogIncoming     bool                           // the log names clients outside, too
	Sites           []netip.Prefix                 // where the other site's relay comes from, whose queue IDs are recorded; none: nowhere
	Directory       Directory                      // of their mailboxes; nil: all exist
	Primaries       map[queue.Destination]struct{} // where mail for relay domains waits; nil: nowhere
	PrimarySchedule queue.Schedule                 // of what waits there
	ProbeEvery      time.Duration                  // while one of them cannot be reached; 0: 30 s
	Prober          Prober                         // looks for them; nil: they are probed by messages, as all destinations
	ReportLanguage  Language
	Charger         Charger // counts what users send; nil: nobody does
	Concurrency     int     // deliveries at a time to one destination; 0: 20
	MaxHops         int     // Received fields of a message that is still taken; 0: 50

	Checks      []Inspection // of content, in their order; none: content passes unseen
	SpoolDir    string       // where large content stands, encrypted and nameless, while it is checked; empty: the system's
	Signer      Check        // of mail that the relay itself writes: reports; nil: it goes unsigned
	CheckFailed func(error)  // a check could not do its work; must not block; nil: no one hears
}

// Relay is the core between the listeners, the queue and the transport.
type Relay struct {
	config    atomic.Pointer[Config]
	store     queue.Store
	admin     queue.Admin
	router    Router
	transport Transport
	journal   Journal
	began     time.Time                      // what arrived before is an earlier process's
	past      atomic.Pointer[logging.Recall] // what may be told a second time; nil: nothing, and so without a crash

	heads  sync.Pool // *[]byte of headBuffer octets, for content being read
	bodies sync.Pool // *[]byte of queue.InMemory octets

	owing sync.Map // by queue.ID: messages for which reports came to be gathered in this process

	mu      sync.Mutex
	lanes   map[queue.Destination]*lane
	paces   map[queue.Destination]*pace // of destinations that are sent to at a rate
	stopped bool
	looks   atomic.Int64  // when Run looks next at what is due, Unix nanoseconds
	kick    chan struct{} // wakes Run's timer loop: something falls due earlier than it knows
	workers sync.WaitGroup
	running context.Context // of the workers; set by Run

	Stats Stats
}

// New makes a relay. Nothing is delivered before Run.
func New(c Config, store queue.Store, admin queue.Admin, router Router, transport Transport, journal Journal) *Relay {
	r := &Relay{
		store: store, admin: admin, router: router, transport: transport, journal: journal,
		lanes: make(map[queue.Destination]*lane),
		paces: make(map[queue.Destination]*pace),
		kick:  make(chan struct{}, 1),
		began: time.Now(),
	}
	r.heads.New = func() any { return new(make([]byte, headBuffer)) }
	r.bodies.New = func() any { return new(make([]byte, queue.InMemory)) }
	r.Reload(c)
	return r
}

// Reload replaces the configuration, and asks the router anew what destinations
// are held to; what is under way goes on under the old one.
func (r *Relay) Reload(c Config) {
	if c.Concurrency <= 0 {
		c.Concurrency = 20
	}
	if c.ProbeEvery <= 0 {
		c.ProbeEvery = defaultProbeEvery
	}
	if c.MaxHops <= 0 {
		c.MaxHops = 50
	}
	r.config.Store(&c)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		r.hold(l)
	}
}

// Stats counts what the relay did since it started. It has no names in it.
type Stats struct {
	Accepted  atomic.Int64 // messages taken from clients
	Octets    atomic.Int64 // their content
	Reports   atomic.Int64 // DSNs made
	Delivered atomic.Int64 // recipients
	Deferred  atomic.Int64 // attempts, by recipient
	Failed    atomic.Int64 // recipients refused for good
	Expired   atomic.Int64 // recipients
	Rejected  atomic.Int64 // refusals to clients, auth and TLS failures included
	Unchecked atomic.Int64 // content checks that failed to do their work
	Panics    atomic.Int64 // attempts that ended in one
	Unlogged  atomic.Int64 // records that the journal lost
	Unsettled atomic.Int64 // attempts whose outcome the store could not record
}
