package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tacet/relay/content"
	"tacet/relay/route"
)

// value is where one key's value goes. set takes what the TOML reader made
// of it (string, int64, bool, []any …); its error says what is allowed.
// String is the present value as TOML.
type value interface {
	set(v any) error
	String() string
}

// textValue is a string that check finds nothing wrong with.
type textValue struct {
	p     *string
	check func(string) error
}

func (t textValue) set(v any) error {
	s, ok := v.(string)
	if !ok {
		return errors.New("want a text in quotation marks")
	}
	if err := t.check(s); err != nil {
		return err
	}
	*t.p = s
	return nil
}
func (t textValue) String() string { return quote(*t.p) }

// numberValue is a whole number within bounds.
type numberValue struct {
	p      *int
	lo, hi int64
}

func (n numberValue) set(v any) error {
	i, ok := v.(int64)
	if !ok || i < n.lo || i > n.hi {
		return fmt.Errorf("want a whole number from %d to %d", n.lo, n.hi)
	}
	*n.p = int(i)
	return nil
}
func (n numberValue) String() string { return strconv.Itoa(*n.p) }

type boolValue struct{ p *bool }

func (b boolValue) set(v any) error {
	on, ok := v.(bool)
	if !ok {
		return errors.New("want true or false")
	}
	*b.p = on
	return nil
}
func (b boolValue) String() string { return strconv.FormatBool(*b.p) }

// enumValue is one of a closed list; a name's index is the value.
type enumValue[E ~int | ~uint8] struct {
	p     *E
	names []string
}

func (e enumValue[E]) set(v any) error {
	s, _ := v.(string)
	for i, name := range e.names {
		if s == name {
			*e.p = E(i)
			return nil
		}
	}
	return fmt.Errorf("want one of %s", quoteAll(e.names))
}
func (e enumValue[E]) String() string { return quote(e.names[*e.p]) }

// Size is a number of octets, written "50MB": decimal units, as SIZE counts.
type Size int64

func (s Size) String() string { return formatOctets(int64(s)) }

type sizeValue struct {
	p      *Size
	lo, hi Size
}

func (s sizeValue) set(v any) error {
	text, _ := v.(string)
	n, err := parseOctets(text)
	if err != nil || Size(n) < s.lo || Size(n) > s.hi {
		return fmt.Errorf("want a size such as \"50MB\", from %v to %v (kB, MB, GB; KiB, MiB, GiB)", s.lo, s.hi)
	}
	*s.p = Size(n)
	return nil
}
func (s sizeValue) String() string { return quote(s.p.String()) }

// Rate is octets a second, written "500B/s".
type Rate int64

func (r Rate) String() string { return formatOctets(int64(r)) + "/s" }

type rateValue struct {
	p      *Rate
	lo, hi Rate
}

func (r rateValue) set(v any) error {
	text, _ := v.(string)
	octets, perSecond := strings.CutSuffix(text, "/s")
	n, err := parseOctets(octets)
	if err != nil || !perSecond || Rate(n) < r.lo || Rate(n) > r.hi {
		return fmt.Errorf("want a rate such as \"500B/s\" or \"4kB/s\", from %v to %v", r.lo, r.hi)
	}
	*r.p = Rate(n)
	return nil
}
func (r rateValue) String() string { return quote(r.p.String()) }

// Frequency is how often something may happen, written "10/s". The zero value
// is no limit.
type Frequency struct {
	times int
	per   time.Duration
}

// every is the time from one to the next; 0: none.
func (f Frequency) every() time.Duration {
	if f.times == 0 {
		return 0
	}
	return f.per / time.Duration(f.times)
}

func (f Frequency) String() string {
	switch f.per {
	case time.Second:
		return strconv.Itoa(f.times) + "/s"
	case time.Minute:
		return strconv.Itoa(f.times) + "/m"
	case time.Hour:
		return strconv.Itoa(f.times) + "/h"
	}
	return ""
}

type frequencyValue struct{ p *Frequency }

func (f frequencyValue) set(v any) error {
	text, ok := v.(string)
	if ok && text == "" {
		*f.p = Frequency{}
		return nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || n < 1 || n > 100_000 || per == 0 {
		return errors.New("want a rate such as \"10/s\", \"100/m\" or \"1000/h\", or \"\" for none")
	}
	*f.p = Frequency{n, per}
	return nil
}
func (f frequencyValue) String() string { return quote(f.p.String()) }

// octetUnit is a unit of sizes. The decimal ones come first: they are what is printed.
type octetUnit struct {
	name   string
	octets int64
}

func octetUnits() []octetUnit {
	return []octetUnit{
		{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"GB", 1_000_000_000}, {"MB", 1_000_000}, {"kB", 1000}, {"KB", 1000}, {"B", 1},
	}
}

func parseOctets(s string) (int64, error) {
	for _, u := range octetUnits() {
		digits, found := strings.CutSuffix(s, u.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.octets {
			return 0, errors.New("not a size")
		}
		return n * u.octets, nil
	}
	return 0, errors.New("not a size")
}

func formatOctets(n int64) string {
	for _, u := range octetUnits() {
		if u.name != "KB" && n >= u.octets && n%u.octets == 0 {
			return strconv.FormatInt(n/u.octets, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// durationValue is a time such as "90s", "1h30m" or "5d" within bounds.
type durationValue struct {
	p      *time.Duration
	lo, hi time.Duration
}

func (d durationValue) set(v any) error {
	text, _ := v.(string)
	wait, err := parseDuration(text)
	if err != nil || wait < d.lo || wait > d.hi {
		return fmt.Errorf("want a duration such as \"90s\", \"5m\" or \"2d\", from %s to %s", formatDuration(d.lo), formatDuration(d.hi))
	}
	*d.p = wait
	return nil
}
func (d durationValue) String() string { return quote(formatDuration(*d.p)) }

type durationsValue struct {
	p      *[]time.Duration
	lo, hi time.Duration
}

func (d durationsValue) set(v any) error {
	want := fmt.Errorf("want a list of durations such as [\"5m\", \"1h\"], each from %s to %s", formatDuration(d.lo), formatDuration(d.hi))
	var waits []time.Duration
	for text, ok := range texts(v) {
		wait, err := parseDuration(text)
		if !ok || err != nil || wait < d.lo || wait > d.hi {
			return want
		}
		waits = append(waits, wait)
	}
	if len(waits) == 0 {
		return want
	}
	*d.p = waits
	return nil
}
func (d durationsValue) String() string { return list(*d.p, formatDuration) }

// parseDuration reads what time.ParseDuration does, with whole days in front.
func parseDuration(s string) (time.Duration, error) {
	var wait time.Duration
	if count, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(count, 10, 16)
		if err != nil {
			return 0, errors.New("not a duration")
		}
		wait = time.Duration(n) * day
		if s = rest; s == "" {
			return wait, nil
		}
	}
	rest, err := time.ParseDuration(s)
	if err != nil || rest < 0 || s == "0" {
		return 0, errors.New("not a duration")
	}
	return wait + rest, nil
}

// formatDuration writes a duration with the largest units that fit, as a
// person would: "5d", "4h", "1h30m".
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := d / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.size
		}
	}
	return b.String()
}

type prefixesValue struct{ p *[]netip.Prefix }

func (n prefixesValue) set(v any) error {
	networks := []netip.Prefix{}
	for text, ok := range texts(v) {
		network, err := netip.ParsePrefix(text)
		if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if !ok || err != nil {
			return errors.New("want a list of networks such as [\"192.0.2.0/24\", \"2001:db8::/32\"]")
		}
		if network != network.Masked() {
			return fmt.Errorf("%q has bits set beyond its length; want %q or a single address without \"/\"", text, network.Masked())
		}
		networks = append(networks, network)
	}
	*n.p = networks
	return nil
}
func (n prefixesValue) String() string { return list(*n.p, netip.Prefix.String) }

type resolversValue struct{ p *[]netip.AddrPort }

func (r resolversValue) set(v any) error {
	resolvers := []netip.AddrPort{}
	for text, ok := range texts(v) {
		addr, err := route.ParseServer(text)
		if !ok || err != nil {
			return errors.New("want a list of addresses such as [\"127.0.0.1:53\", \"[2001:db8::53]:53\"]")
		}
		resolvers = append(resolvers, addr)
	}
	*r.p = resolvers
	return nil
}
func (r resolversValue) String() string { return list(*r.p, netip.AddrPort.String) }

// readersValue is a list of users and, with "@", of groups.
type readersValue struct{ p *[]string }

func (r readersValue) set(v any) error {
	readers := []string{}
	for text, ok := range texts(v) {
		name := strings.TrimPrefix(text, "@")
		if !ok || name == "" || len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(",:@\"/", c) }) {
			return errors.New("want a list of users and groups such as [\"anna\", \"@mailadmins\"]")
		}
		readers = append(readers, text)
	}
	*r.p = readers
	return nil
}
func (r readersValue) String() string { return list(*r.p, func(s string) string { return s }) }

type domainsValue struct{ p *[]string }

func (d domainsValue) set(v any) error {
	domains := []string{}
	for text, ok := range texts(v) {
		if !ok || hostname(text) != nil {
			return errors.New("want a list of domain names such as [\"example.org\"]")
		}
		domains = append(domains, strings.ToLower(text))
	}
	*d.p = domains
	return nil
}
func (d domainsValue) String() string { return list(*d.p, func(s string) string { return s }) }

// hostsValue is a list of hosts, each that very one.
type hostsValue struct{ p *[]string }

func (h hostsValue) set(v any) error {
	hosts := []string{}
	for text, ok := range texts(v) {
		if _, err := route.ParseHost(text); !ok || err != nil {
			return errors.New("want a list of hosts such as [\"mail.example.org\", \"192.0.2.1\", \"[2001:db8::1]:2525\"]")
		}
		hosts = append(hosts, text)
	}
	*h.p = hosts
	return nil
}
func (h hostsValue) String() string { return list(*h.p, func(s string) string { return s }) }

// dateValue is a day, written "2026-12-01"; its beginning in UTC.
type dateValue struct{ p *time.Time }

func (d dateValue) set(v any) error {
	text, _ := v.(string)
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return errors.New("want a day in quotation marks, such as \"2026-12-01\"")
	}
	*d.p = at
	return nil
}

func (d dateValue) String() string {
	if d.p.IsZero() {
		return `""`
	}
	return quote(d.p.Format(time.DateOnly))
}

// kindsValue is a list of kinds of attachments.
type kindsValue struct{ p *[]string }

func (k kindsValue) set(v any) error {
	kinds := []string{}
	for text, ok := range texts(v) {
		if !ok || !slices.Contains(content.Kinds(), text) {
			return fmt.Errorf("want a list of %s", quoteAll(content.Kinds()))
		}
		kinds = append(kinds, text)
	}
	*k.p = kinds
	return nil
}

func (k kindsValue) String() string { return list(*k.p, func(s string) string { return s }) }

// wordsValue is a command and its arguments.
type wordsValue struct{ p *[]string }

func (w wordsValue) set(v any) error {
	words := []string{}
	for text, ok := range texts(v) {
		if !ok || text == "" {
			return errors.New("want a command and its arguments such as [\"ssh\", \"mx2.example.org\", \"tacet\"]")
		}
		words = append(words, text)
	}
	*w.p = words
	return nil
}
func (w wordsValue) String() string { return list(*w.p, func(s string) string { return s }) }
