package tlspolicy

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"tacet/queue"
	"tacet/relay"
)

// dane finds what the host of hop is held to by its TLSA records, or nil. It
// is asked only for names that DNSSEC vouches for (RFC 7672 §2.2.1).
func (r *Resolver) dane(ctx context.Context, route *relay.Route, hop *relay.Hop) *relay.Hold {
	bases, err := r.bases(ctx, hop)
	if err != nil {
		return bogus()
	}
	for _, base := range bases {
		name := "_" + strconv.Itoa(int(hop.Addr.Port())) + "._tcp." + base
		records, authentic, err := r.dns.TLSA(ctx, name)
		switch {
		case err != nil: // RFC 7672 §2.1.2: without an answer the host can't be used
			return bogus()
		case authentic && len(records) > 0:
			return holdOf(route, hop, base, name, records)
		}
	}
	return nil
}

func bogus() *relay.Hold {
	return &relay.Hold{Refused: queue.CauseDNSTemporary, Failure: relay.FailedDNSSEC}
}

// bases are the TLSA base domains of a host, in the order to ask them: behind
// a CNAME the name at its end first (RFC 7672 §2.1.3, §2.2.2). A host whose address
// DNSSEC does not vouch for has none (§2.2.2), unless it vouches for the alias itself.
func (r *Resolver) bases(ctx context.Context, hop *relay.Hop) ([]string, error) {
	alias := hop.Canonical != hop.Name
	switch {
	case hop.Canonical == "":
		return nil, nil
	case hop.Authentic && alias:
		return []string{hop.Canonical, hop.Name}, nil
	case hop.Authentic:
		return []string{hop.Name}, nil
	case !alias:
		return nil, nil
	}
	authentic, err := r.dns.Alias(ctx, hop.Name)
	if err != nil || !authentic {
		return nil, err
	}
	return []string{hop.Name}, nil
}

// holdOf makes a hold of the records at name.
func holdOf(route *relay.Route, hop *relay.Hop, base, name string, records []relay.TLSA) *relay.Hold {
	h := &relay.Hold{Base: base}
	for _, t := range records {
		h.Policy = append(h.Policy, fmt.Sprintf("%s. IN TLSA %d %d %d %X", name, t.Usage, t.Selector, t.Matching, t.Data))
		if t.Usable() {
			h.TLSA = append(h.TLSA, t)
		}
	}
	if len(h.TLSA) == 0 { // RFC 7672 §2.2: TLS without verification
		h.Require, h.Failure = true, relay.FailedTLSA
		return h
	}
	h.By = relay.HeldByDANE
	h.TLSA = slices.DeleteFunc(h.TLSA, outdone(slices.Clone(h.TLSA)))
	// RFC 7672 §3.2.2; the domain's own name counts because its MX records are authentic.
	h.Names = []string{base}
	for _, name := range []string{hop.Name, route.Domain} {
		if name != "" && !slices.Contains(h.Names, name) {
			h.Names = append(h.Names, name)
		}
	}
	return h
}

// outdone tells which records have one of a stronger digest beside them, of
// the same usage and selector (RFC 7671 §9). Whole certificates and keys stay.
func outdone(all []relay.TLSA) func(relay.TLSA) bool {
	return func(t relay.TLSA) bool {
		return t.Matching == 1 && slices.ContainsFunc(all, func(other relay.TLSA) bool {
			return other.Usage == t.Usage && other.Selector == t.Selector && other.Matching == 2
		})
	}
}
