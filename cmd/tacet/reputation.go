package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"tacet/relay"
	"tacet/relay/content"
	"tacet/relay/reputation"
	"tacet/relay/route"
)

// ledgerFile is where what was asked of whom is kept, in data_dir.
const ledgerFile = "asked"

// openLedger opens the ledger of what is asked of services outside.
func (d *daemon) openLedger(context.Context) error {
	ledger, err := reputation.OpenLedger(d.config.sealed(ledgerFile), d.taskFailed)
	d.taskFailed(err) // what can't be read is counted anew
	d.ledger = ledger
	d.made(ledger.Close)
	return nil
}

// fingerprints are the checks that ask services outside about digests.
func (c *Config) fingerprints(ledger *reputation.Ledger) (all []relay.Inspection) {
	if !c.fingerprinted() {
		return nil
	}
	dns := c.stub() // of its own: what waits for a list keeps no delivery waiting
	lists := reputation.NewLists(dns, ledger)
	for _, h := range c.HashLists {
		f := content.Fingerprints{Name: h.Name, LinkForm: h.LinkForm, Action: h.Action, Strict: h.OnFailure == FailDefer}
		list := reputation.HashList{Lists: lists, Service: h.Name, Answers: h.Answers}
		if list.Zone = h.Attachments; list.Zone != "" {
			list.Kind = reputation.Attachment
			f.Attachments = list
		}
		if list.Zone = h.Links; list.Zone != "" {
			list.Kind = reputation.Link
			f.Links = list
		}
		all = append(all, h.inspection(content.NewFingerprints(f)))
	}
	if p := &c.Pyzor; p.Address != "" {
		all = append(all, p.inspection(content.NewFingerprints(content.Fingerprints{
			Name: "Pyzor", Action: p.Action, Strict: p.OnFailure == FailDefer,
			Text: &reputation.Pyzor{
				Service: "Pyzor " + p.Address, Ledger: ledger, Threshold: int64(p.Threshold),
				Dial: func(ctx context.Context) (net.Conn, error) { return dialUDP(ctx, dns, p.Address) },
			},
		})))
	}
	return all
}

var errNoPyzorAddress = errors.New("the Pyzor server's name has no address")

// dialUDP connects to a host and port. A name is looked up with the resolvers of the config.
func dialUDP(ctx context.Context, dns *route.Stub, address string) (net.Conn, error) {
	host, port, _ := cutPort(address)
	ip, err := netip.ParseAddr(host)
	if err != nil {
		found, err := dns.Addrs(ctx, host)
		if err != nil {
			return nil, err
		}
		addrs := append(found.V4[:len(found.V4):len(found.V4)], found.V6...)
		if len(addrs) == 0 {
			return nil, errNoPyzorAddress
		}
		ip = addrs[0]
	}
	return new(net.Dialer).DialContext(ctx, "udp", net.JoinHostPort(ip.String(), strconv.Itoa(int(port))))
}

// A implements reputation.Resolver, with the resolvers in use.
func (r *routes) A(ctx context.Context, name string, ask func()) ([]netip.Addr, error) {
	return r.dns.Load().A(ctx, name, ask)
}
