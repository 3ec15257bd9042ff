package logging

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The limits of incidents.
const (
	DefaultIncident = 4 * time.Hour
	LongestIncident = 72 * time.Hour
	MaxIncident     = 10 << 20 // octets of one incident's file
	MaxIncidents    = 3        // open at a time
)

// The errors of incidents.
var (
	ErrNoIncident   = errors.New("no such incident is open")
	ErrManyIncident = fmt.Errorf("%d incidents are open already: close one first", MaxIncidents)
)

// Target chooses what an incident records. All that is set must hold, and
// something must be set. Addresses and names compare without regard to case, but for
// the user's; "@example.org" stands for every address of that domain.
type Target struct {
	Recipient string // an address, or "@" and a domain
	Sender    string // likewise; "<>" is the null reverse-path
	User      string
	Client    netip.Addr
	NextHop   string // host name or IP address
	ID        string // queue ID
}

// ParseTarget reads terms such as "recipient=anna@example.org".
func ParseTarget(terms []string) (Target, error) {
	var s Target
	if len(terms) == 0 {
		return s, errors.New("an incident needs a scope, such as recipient=anna@example.org")
	}
	seen := make(map[string]bool)
	for _, term := range terms {
		key, value, _ := strings.Cut(term, "=")
		if seen[key] {
			return s, fmt.Errorf("the scope has %s twice", key)
		}
		if value == "" || len(value) > limitAddress {
			return s, errors.New("a scope is one of recipient=, sender=, user=, client=, next= or id= and a value")
		}
		seen[key] = true
		if err := s.set(key, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *Target) set(key, value string) error {
	switch key {
	case "recipient", "sender":
		at := strings.LastIndexByte(value, '@')
		if (at < 0 || at == len(value)-1) && !(key == "sender" && value == "<>") {
			return fmt.Errorf("%s= wants an address, or @ and a domain", key)
		}
		if key == "sender" {
			s.Sender = value
		} else {
			s.Recipient = value
		}
	case "user":
		s.User = value
	case "client":
		ip, err := netip.ParseAddr(value)
		if err != nil {
			return errors.New("client= wants one IP address")
		}
		s.Client = ip.Unmap()
	case "next":
		s.NextHop = strings.ToLower(strings.Trim(value, "[]"))
	case "id":
		if !token(value) {
			return errors.New("id= wants a queue ID")
		}
		s.ID = strings.ToUpper(value)
	default:
		return errors.New("a scope is one of recipient=, sender=, user=, client=, next= or id= and a value")
	}
	return nil
}

// Terms gives the target as [ParseTarget] reads it.
func (s Target) Terms() []string {
	var terms []string
	add := func(key, value string) {
		if value != "" {
			terms = append(terms, key+"="+value)
		}
	}
	add("recipient", s.Recipient)
	add("sender", s.Sender)
	add("user", s.User)
	if s.Client.IsValid() {
		add("client", s.Client.String())
	}
	add("next", s.NextHop)
	add("id", s.ID)
	return terms
}

// Scopes gives by what the target chooses, for the audit record.
func (s Target) Scopes() []Scope {
	var by []Scope
	for _, one := range []struct {
		set   bool
		scope Scope
	}{
		{s.Recipient != "", ScopeRecipient}, {s.Sender != "", ScopeSender}, {s.User != "", ScopeUser},
		{s.Client.IsValid(), ScopeClient}, {s.NextHop != "", ScopeNextHost}, {s.ID != "", ScopeID},
	} {
		if one.set {
			by = append(by, one.scope)
		}
	}
	return by
}

// IncidentRequest is what an incident is opened with.
type IncidentRequest struct {
	Ticket      string // the occasion: letters, digits, "-", "." and "_"
	Target      Target
	For         time.Duration // 0: DefaultIncident
	WithContent bool
	By          string // the person
}

// Incident describes an incident that is open.
type Incident struct {
	ID          string    `json:"id"`
	Ticket      string    `json:"ticket"`
	By          string    `json:"by"`
	Opened      time.Time `json:"opened"`
	Deadline    time.Time `json:"deadline"`
	Scope       []string  `json:"scope"`
	WithContent bool      `json:"with_content"`
	Lines       int       `json:"lines"`
	Octets      int64     `json:"octets"`
	Full        bool      `json:"full"` // it has reached MaxIncident, or its disk takes no more
}

// Incidents keeps SMTP dialogues for an occasion: what matches an open
// incident, and nothing else, goes to a file of its own, sealed under a key
// that only this process has. The end of an incident, or of the process however it
// ends, leaves nothing that anyone could read. All methods may be
// called at the same time.
type Incidents struct {
	dir   string
	ops   *Operations
	ended func(Incident)

	active   atomic.Int32  // incidents open
	changes  atomic.Uint64 // counts openings and closings
	sessions atomic.Uint64 // numbers connections
	held     atomic.Int64  // octets in the rings of all dialogues

	mu      sync.Mutex
	open    []*incident
	watched chan struct{} // closed when the list changes: the watcher looks again
	closed  bool
	watcher sync.WaitGroup
}

// IncidentOptions say where incidents are kept.
type IncidentOptions struct {
	Dir        string // of their files; everything in it belongs to them
	Operations *Operations
	Ended      func(Incident) // told of each incident that ended by its deadline or with the process; may be nil
}

// OpenIncidents destroys what an earlier process may have left, before
// anything else, and returns with no incident open.
func OpenIncidents(o IncidentOptions) (*Incidents, error) {
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, fmt.Errorf("incidents: destroying those of an earlier run: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("incidents: %w", err)
	}
	if err := syncFolder(o.Dir); err != nil {
		return nil, fmt.Errorf("incidents: %w", err)
	}
	return &Incidents{dir: o.Dir, ops: o.Operations, ended: o.Ended}, nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Active tells whether an incident is open. It costs one atomic load.
func (all *Incidents) Active() bool { return all.active.Load() != 0 }

// Open opens an incident.
func (all *Incidents) Open(req IncidentRequest) (Incident, error) {
	if req.For == 0 {
		req.For = DefaultIncident
	}
	switch {
	case req.Ticket == "" || !token(req.Ticket) || len(req.Ticket) > limitID:
		return Incident{}, errors.New("an incident needs a ticket: letters, digits, \"-\", \".\" and \"_\"")
	case len(req.Target.Scopes()) == 0:
		return Incident{}, errors.New("an incident needs a scope")
	case req.For < time.Minute || req.For > LongestIncident:
		return Incident{}, fmt.Errorf("an incident is open for a minute to %d hours", LongestIncident/time.Hour)
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.closed:
		return Incident{}, ErrClosed
	case len(all.open) >= MaxIncidents:
		return Incident{}, ErrManyIncident
	}
	now := time.Now()
	in := &incident{target: req.Target, about: Incident{
		ID: strings.ToLower(rand.Text()[:10]), Ticket: req.Ticket, By: req.By,
		Opened: now.UTC().Round(0), Deadline: now.Add(req.For).UTC().Round(0),
		Scope: req.Target.Terms(), WithContent: req.WithContent,
	}, until: now.Add(req.For)}
	if err := in.create(all.dir); err != nil {
		return Incident{}, fmt.Errorf("incidents: %w", err)
	}
	all.open = append(all.open, in)
	all.change()
	all.ops.Log(OpIncidentOpened, Until(in.about.Deadline))
	return in.about, nil
}

// change tells everyone that the list is another one. all.mu is held.
func (all *Incidents) change() {
	all.active.Store(int32(len(all.open)))
	all.changes.Add(1)
	if all.watched != nil {
		close(all.watched)
		all.watched = nil
	}
	if len(all.open) > 0 {
		changed := make(chan struct{})
		all.watched = changed
		all.watcher.Go(func() { all.watch(changed) })
	}
}

// watch ends incidents at their deadline, until the list changes. A clock that
// was set is found out within a minute: an incident ends when either clock says so, and also
// if the wall clock has fallen behind the opening.
func (all *Incidents) watch(changed <-chan struct{}) {
	for {
		wait := time.Minute
		for _, in := range all.list() {
			wait = min(wait, time.Until(in.until))
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
			timer.Stop()
			return
		case <-timer.C:
		}
		now := time.Now()
		for _, in := range all.list() {
			if wall := now.Round(0); !now.Before(in.until) || !wall.Before(in.about.Deadline) || wall.Before(in.about.Opened) {
				if was, err := all.Close(in.about.ID); !errors.Is(err, ErrNoIncident) {
					all.tell(was)
				}
			}
		}
	}
}

// tell tells of an incident that no person has ended.
func (all *Incidents) tell(was Incident) {
	if all.ended != nil {
		all.ended(was)
	}
}

func (all *Incidents) list() []*incident {
	all.mu.Lock()
	defer all.mu.Unlock()
	return slices.Clone(all.open)
}

// List describes the open incidents, the oldest first.
func (all *Incidents) List() []Incident {
	list := []Incident{}
	for _, in := range all.list() {
		list = append(list, in.describe())
	}
	return list
}

// find gives an open incident.
func (all *Incidents) find(id string) (*incident, error) {
	for _, in := range all.list() {
		if in.about.ID == id {
			return in, nil
		}
	}
	return nil, ErrNoIncident
}

// Get describes one open incident, or returns [ErrNoIncident].
func (all *Incidents) Get(id string) (Incident, error) {
	in, err := all.find(id)
	if err != nil {
		return Incident{}, err
	}
	return in.describe(), nil
}

// Content tells whether the content of the queued message is open to view: an
// incident with content has this very message as its scope.
func (all *Incidents) Content(id string) (Incident, bool) {
	for _, in := range all.list() {
		if in.about.WithContent && in.target.ID == id {
			return in.describe(), true
		}
	}
	return Incident{}, false
}

// Close ends an incident and destroys what it has kept. It returns what the incident was.
func (all *Incidents) Close(id string) (Incident, error) {
	all.mu.Lock()
	i := slices.IndexFunc(all.open, func(in *incident) bool { return in.about.ID == id })
	if i < 0 {
		all.mu.Unlock()
		return Incident{}, ErrNoIncident
	}
	in := all.open[i]
	all.open = slices.Delete(slices.Clone(all.open), i, i+1)
	all.change()
	all.mu.Unlock()
	err := in.destroy()
	was := in.describe()
	all.ops.Log(OpIncidentClosed, Count(was.Lines))
	if err != nil {
		all.ops.Log(OpTaskFailed, Err(err))
		return was, fmt.Errorf("incidents: its key is destroyed, its file is not: %w", err)
	}
	return was, nil
}

// CloseAll ends every incident, and none is opened any more.
func (all *Incidents) CloseAll() error {
	all.mu.Lock()
	all.closed = true
	all.mu.Unlock()
	var faults []error
	for _, in := range all.list() {
		was, err := all.Close(in.about.ID)
		if errors.Is(err, ErrNoIncident) {
			continue
		}
		faults = append(faults, err)
		all.tell(was)
	}
	all.watcher.Wait()
	return errors.Join(faults...)
}
