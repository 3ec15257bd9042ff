package logging

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Summary counts records. Its zero value is empty.
type Summary struct {
	Records     int
	First, Last time.Time
	Events      [eventEnd]int // by Event
	Reasons     map[Reason]int
	Senders     map[string]int // domains of accepted and refused senders
	Domains     map[string]Destination
	Hosts       map[string]Destination
	In, Out     map[string]int // connections' protection, as "1.3 dane" or "none: not_offered"
}

// Destination counts what became of recipients at a domain or at a host.
type Destination struct {
	Delivered int `json:"delivered"`
	Deferred  int `json:"deferred"` // attempts that are to be made again
	Failed    int `json:"failed"`   // for good: refused or expired
}

// Attempts is how many there were.
func (d Destination) Attempts() int { return d.Delivered + d.Deferred + d.Failed }

// Add counts a record.
func (s *Summary) Add(r *Record) {
	if s.Records == 0 {
		s.Reasons, s.Senders = make(map[Reason]int), make(map[string]int)
		s.Domains, s.Hosts = make(map[string]Destination), make(map[string]Destination)
		s.In, s.Out = make(map[string]int), make(map[string]int)
		s.First, s.Last = r.Time, r.Time
	}
	s.Records++
	if r.Time.Before(s.First) {
		s.First = r.Time
	}
	if r.Time.After(s.Last) {
		s.Last = r.Time
	}
	s.Events[r.Event]++
	if r.Reason != ReasonNone && r.Event != Accepted && r.Event != Delivered {
		s.Reasons[r.Reason]++
	}
	if attemptEvents.has(r.Event) {
		s.attempt(r)
		return
	}
	switch r.Event {
	case Accepted, Rejected, ContentRejected:
		if r.HasSender {
			s.Senders[cmp.Or(domainOf(r.Sender), "<>")]++
		}
	}
	if name := protection(r.In); name != "" && r.Event == Accepted {
		s.In[name]++
	}
}

func (s *Summary) attempt(r *Record) {
	if name := protection(r.Out); name != "" {
		s.Out[name]++
	}
	if domain := domainOf(r.Recipient); domain != "" {
		count(s.Domains, domain, r.Event)
	}
	if r.NextHost.IsValid() {
		count(s.Hosts, r.NextHost.String(), r.Event)
	}
}

func count(in map[string]Destination, name string, e Event) {
	d := in[name]
	switch e {
	case Delivered:
		d.Delivered++
	case Deferred:
		d.Deferred++
	default:
		d.Failed++
	}
	in[name] = d
}

func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

func protection(t TLS) string {
	switch {
	case t.Version != 0 && t.Verified != VerifiedNo:
		return versionName(t.Version) + " " + t.Verified.String()
	case t.Version != 0:
		return versionName(t.Version)
	case t.None != 0 && t.None != NoTLSNotConnected:
		return "none: " + t.None.String()
	}
	return ""
}

// Encrypted is the part of connections that were, from 0 to 1; 0 of none.
func Encrypted(by map[string]int) float64 {
	all, clear := 0, 0
	for name, n := range by {
		all += n
		if strings.HasPrefix(name, "none") {
			clear += n
		}
	}
	if all == 0 {
		return 0
	}
	return float64(all-clear) / float64(all)
}

// Slowest gives up to n destinations with deferrals, those first that need the
// most attempts for what they take.
func Slowest(by map[string]Destination, n int) []string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(by)), func(name string) bool { return by[name].Deferred == 0 })
	slices.SortStableFunc(names, func(a, b string) int {
		x, y := by[a], by[b]
		return cmp.Or(cmp.Compare(y.Deferred*x.Attempts(), x.Deferred*y.Attempts()), cmp.Compare(y.Deferred, x.Deferred))
	})
	return names[:min(n, len(names))]
}
