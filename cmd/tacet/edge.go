package main

import (
	"strings"

	"tacet/relay/edge"
	"tacet/relay/route"
)

// guard judges clients of mx listeners, nil if the config does not ask for it.
func (c *Config) guard(lists edge.Lists) *edge.Guard {
	e := &c.Edge
	if len(e.AddressLists)+len(e.DomainLists)+e.Connections+e.Messages == 0 && e.Greylist == 0 && !e.Helo {
		return nil
	}
	own := []string{strings.ToLower(c.Hostname)}
	for domain := range route.NewDomains(c.Relay.Domains) {
		own = append(own, domain)
	}
	return edge.New(edge.Config{
		AddressLists: e.AddressLists, DomainLists: e.DomainLists, Helo: e.Helo, Own: own,
		Greylist: e.Greylist, Connections: e.Connections, Messages: e.Messages, Lists: lists,
	})
}
