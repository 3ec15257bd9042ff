package logging

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// How much of a dialogue is kept in memory, while an incident is open, until
// it is known whether the incident wants it.
const (
	sessionRing = 4 << 10  // octets of lines outside of transactions
	mailRing    = 8 << 10  // octets of lines of the transaction under way
	maxHeld     = 16 << 20 // octets of all dialogues together; beyond it nothing is kept back
	maxSaid     = 2 << 10  // octets of a line
)

// Dialogue is the SMTP dialogue of one connection, on the way to the incidents
// that want it. It is used by one goroutine at a time. A line is either part of a
// transaction or of the session around it. An incident gets a
// transaction, and what the session had said before, once all of its target
// holds for it; what never matches is forgotten at the end of its transaction.
type Dialogue struct {
	all     *Incidents
	number  uint64
	inbound bool
	peer    netip.Addr
	host    string // of a next hop
	user    string // of a client

	changes uint64 // of all, when views was made
	views   []view

	seq     int
	session ring
	mail    ring
	open    bool // a transaction is
	about   transaction
	focus   string // the recipient that lines are about
}

// transaction is what is known of the transaction under way.
type transaction struct {
	id, user, sender string
	client           netip.Addr
}

// view is the dialogue as one incident sees it.
type view struct {
	in    *incident
	after int  // the number of the last line it has, or must not have
	hit   bool // a recipient of the transaction matches
}

// said is one line.
type said struct {
	at      time.Time
	seq     int
	by      byte
	outside bool // of a transaction
	focus   string
	text    string
}

// ring holds the latest lines.
type ring struct {
	lines []said
	size  int
}

// Dialogue begins the dialogue of a connection, or returns nil if no open
// incident can match it.
func (all *Incidents) Dialogue(inbound bool, peer netip.Addr, host string) *Dialogue {
	d := &Dialogue{all: all, inbound: inbound, peer: peer.Unmap(), host: strings.ToLower(host)}
	if d.refresh(); !slices.ContainsFunc(d.views, func(v view) bool { return d.possible(v.in) }) {
		return nil
	}
	d.number = all.sessions.Add(1)
	return d
}

// refresh takes over which incidents are open. One that was opened since gets
// only what is said from now on.
func (d *Dialogue) refresh() {
	changes := d.all.changes.Load()
	if changes == d.changes {
		return
	}
	d.changes = changes
	old := d.views
	d.views = nil
	for _, in := range d.all.list() {
		v := view{in: in, after: d.seq}
		if i := slices.IndexFunc(old, func(o view) bool { return o.in == in }); i >= 0 {
			v = old[i]
		}
		d.views = append(d.views, v)
	}
}

// possible tells whether the incident can match the connection at all.
func (d *Dialogue) possible(in *incident) bool {
	s := &in.target
	if d.inbound {
		return s.NextHop == "" && s.ID == "" && (!s.Client.IsValid() || s.Client == d.peer)
	}
	return s.NextHop == "" || s.NextHop == d.host || s.NextHop == d.peer.String()
}

// matches tells whether all of the incident's target holds now.
func (d *Dialogue) matches(v *view) bool {
	s := &v.in.target
	client, user := d.peer, d.user
	if !d.inbound {
		client, user = d.about.client, d.about.user
	}
	return d.possible(v.in) &&
		(!s.Client.IsValid() || s.Client == client) &&
		(s.User == "" || s.User == user) &&
		(s.ID == "" || d.open && s.ID == d.about.id) &&
		(s.Sender == "" || d.open && d.fromSender(s.Sender)) &&
		(s.Recipient == "" || d.open && v.hit)
}

func (d *Dialogue) fromSender(pattern string) bool {
	if pattern == "<>" {
		return d.about.sender == ""
	}
	return matchAddress(pattern, d.about.sender)
}

// User says who the client has logged in as.
func (d *Dialogue) User(name string) {
	d.user = name
	d.pass()
}

// Begin begins a transaction.
func (d *Dialogue) Begin(id, user string, client netip.Addr, sender string) {
	d.End()
	d.open = true
	d.about = transaction{id: id, user: user, sender: sender, client: client.Unmap()}
}

// Recipient says whom the lines that follow are about: one recipient, or, if
// empty, all.
func (d *Dialogue) Recipient(address string) {
	d.focus = address
	if address == "" || !d.open {
		return
	}
	d.refresh()
	for i := range d.views {
		v := &d.views[i]
		v.hit = v.hit || v.in.target.Recipient != "" && matchAddress(v.in.target.Recipient, address)
	}
	d.pass()
}

// End ends the transaction and forgets what no incident wanted of it.
func (d *Dialogue) End() {
	d.open, d.about, d.focus = false, transaction{}, ""
	d.drop(&d.mail)
	for i := range d.views {
		d.views[i].hit = false
	}
}

// Close forgets everything.
func (d *Dialogue) Close() {
	d.End()
	d.drop(&d.session)
}

func (d *Dialogue) drop(r *ring) {
	d.all.held.Add(-int64(r.size))
	*r = ring{}
}

// Line is one line of the dialogue; by is '<' for the peer, '>' for the relay
// and '*' for a remark.
func (d *Dialogue) Line(by byte, text []byte) {
	d.refresh()
	d.seq++
	line := said{
		at: time.Now(), seq: d.seq, by: by, outside: !d.open, focus: d.focus,
		text: string(text[:min(len(text), maxSaid)]),
	}
	if d.open {
		d.keep(&d.mail, mailRing, line)
	} else {
		d.keep(&d.session, sessionRing, line)
	}
	d.pass()
}

// keep puts a line into a ring, and drops from its other end what is too much.
func (d *Dialogue) keep(r *ring, limit int, line said) {
	r.lines = append(r.lines, line)
	size := line.size()
	total := d.all.held.Add(int64(size))
	r.size += size
	for len(r.lines) > 1 && (r.size > limit || total > maxHeld) {
		size := r.lines[0].size()
		r.size -= size
		total = d.all.held.Add(-int64(size))
		r.lines = slices.Delete(r.lines, 0, 1)
	}
}

// size is what a line takes in memory, about.
func (s *said) size() int { return len(s.text) + len(s.focus) + 100 }

// pass gives each incident what it matches and does not have yet.
func (d *Dialogue) pass() {
	d.refresh()
	for i := range d.views {
		v := &d.views[i]
		if v.after == d.seq || !d.matches(v) {
			continue
		}
		for _, r := range []*ring{&d.session, &d.mail} {
			for _, line := range r.lines {
				if line.seq > v.after {
					v.in.write(d.exchange(&line, &v.in.target))
				}
			}
		}
		v.after = d.seq
	}
}

// Content is content of the transaction; it goes to those incidents only that
// are open with content.
func (d *Dialogue) Content(octets []byte) {
	d.refresh()
	for i := range d.views {
		if v := &d.views[i]; v.in.about.WithContent && d.open && d.matches(v) {
			e := d.frame(time.Now(), '>')
			if d.inbound {
				e.By = "peer"
			}
			e.Content = octets
			v.in.write(&e)
		}
	}
}

func (d *Dialogue) frame(at time.Time, by byte) Exchange {
	e := Exchange{Time: at.UTC().Round(0), Session: d.number, Leg: "out", By: "aside"}
	if d.inbound {
		e.Leg = "in"
	}
	if d.peer.IsValid() {
		e.Peer = d.peer.String()
	}
	switch by {
	case '<':
		e.By = "peer"
	case '>':
		e.By = "relay"
	}
	return e
}

// exchange is a line as the incident may keep it: what is about a recipient
// that it has nothing to do with is masked.
func (d *Dialogue) exchange(line *said, s *Target) *Exchange {
	e := d.frame(line.at, line.by)
	text := line.text
	ofMail := s.Sender != "" || s.ID != "" || s.Recipient != "" || !d.inbound && (s.User != "" || s.Client.IsValid())
	if line.focus != "" && (line.outside && ofMail || s.Recipient != "" && !matchAddress(s.Recipient, line.focus)) {
		text = masked(text)
	}
	visible, _ := appendVisible(nil, text, maxSaid)
	e.Text = string(visible)
	return &e
}

// masked is what is left of a line about somebody else's recipient.
func masked(text string) string {
	if len(text) >= 3 && text[0] >= '2' && text[0] <= '5' {
		return text[:3] + " (about another recipient)"
	}
	return "RCPT TO:<another recipient>"
}
