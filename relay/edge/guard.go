package edge

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Config says what a [Guard] looks at. The zero one looks at nothing.
type Config struct {
	AddressLists []string // zones that list clients' addresses (RFC 5782)
	DomainLists  []string // zones that list senders' domains
	Helo         bool     // the client's name must be one, and not ours
	Own          []string // names that no client has: our hostname and relay domains, lower case

	Greylist    time.Duration // how long a new sender waits; 0: not at all
	Connections int           // of one client network in a minute; 0: no limit
	Messages    int           // of one client network in a minute; 0: no limit

	Lists Lists // asked for the zones
}

// Lists are block lists, each a DNS zone. They learn an address or a domain, and
// nothing else can be said to them.
type Lists interface {
	Client(ctx context.Context, zone string, client netip.Addr) (bool, error)
	Sender(ctx context.Context, zone string, domain queue.Domain) (bool, error)
}

// Guard judges clients. All its methods may be called at the same time.
type Guard struct {
	config      Config
	connections *rates
	messages    *rates
	grey        *greylist
}

// New makes a guard that has seen nobody yet.
func New(c Config) *Guard {
	return &Guard{config: c, connections: newRates(c.Connections), messages: newRates(c.Messages), grey: newGreylist(c.Greylist)}
}

// Connect judges that a client connects at all.
func (g *Guard) Connect(client netip.Addr) error {
	if g.connections.allow(client) {
		return nil
	}
	return &relay.Rejection{Code: 421, Enhanced: queue.Enhanced{4, 7, 0}, Class: relay.ClassLimit, Ground: relay.GroundRate,
		Text: "Too many connections from your network in a short time, try again later", Close: true}
}

// Sender judges a client that says MAIL.
func (g *Guard) Sender(ctx context.Context, client netip.Addr, helo string, from queue.ReversePath) error {
	if g.config.Helo && !g.goodHelo(helo, client) {
		return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassPolicy, Ground: relay.GroundHelo,
			Text: "The name in EHLO must be your own full host name or address"}
	}
	if !g.messages.allow(client) {
		return &relay.Rejection{Code: 450, Enhanced: queue.Enhanced{4, 7, 0}, Class: relay.ClassLimit, Ground: relay.GroundRate,
			Text: "Too much mail from your network in a short time, try again later"}
	}
	if g.listed(ctx, client, from.Domain()) {
		return &relay.Rejection{Code: 554, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassPolicy, Ground: relay.GroundListed,
			Text: "Your address or the sender's domain is on a block list that is used here"}
	}
	return nil
}

// Recipient judges a recipient that all else has let through.
func (g *Guard) Recipient(client netip.Addr, from queue.ReversePath, to queue.ForwardPath) error {
	if g.grey.allow(network(client), strings.ToLower(string(from)), strings.ToLower(string(to)), time.Now()) {
		return nil
	}
	return &relay.Rejection{Code: 450, Enhanced: queue.Enhanced{4, 7, 1}, Class: relay.ClassPolicy, Ground: relay.GroundGreylist,
		Text: "Greylisted: try again in a few minutes"}
}

// goodHelo tells whether a client may call itself so: a full host name or its
// own address, and none of ours (RFC 5321 §4.1.4 forbids to refuse for more).
func (g *Guard) goodHelo(name string, client netip.Addr) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(strings.TrimPrefix(inner, "ipv6:"))
		return ok && err == nil && a.Unmap() == client.Unmap()
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	if slices.Contains(g.config.Own, name) {
		return false
	}
	dot := strings.IndexByte(name, '.')
	return dot > 0 && dot < len(name)-1 && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && c < 0x80
	})
}

// network is what clients are counted by: an IPv4 address, or the /64 that one
// IPv6 client has to itself.
func network(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
