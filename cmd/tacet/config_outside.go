package main

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tacet/relay"
	"tacet/relay/content"
)

// HashListConfig is one [[hash_list]].
type HashListConfig struct {
	Name, Purpose      string
	Attachments, Links string // zones; empty: not asked
	LinkForm           content.LinkForm
	Answers            []netip.Prefix
	Action             content.Listed
	Called
}

// newHashList is what a [[hash_list]] without keys says.
func newHashList() HashListConfig { return HashListConfig{Called: outside5s()} }

// PyzorConfig is [pyzor].
type PyzorConfig struct {
	Address, Purpose string
	Threshold        int
	Action           content.Listed
	Called
}

// outside5s is how a service outside is called by default: its absence holds up no mail.
func outside5s() Called { return Called{Timeout: 5 * time.Second, OnFailure: FailAccept} }

// keys are those of one [[hash_list]].
func (h *HashListConfig) keys() []key {
	return append([]key{
		{"name", textValue{&h.Name, serviceName}, "what the service is called in the ledger, in privacy texts and in the X-Listed-By field"},
		{"purpose", textValue{&h.Purpose, purposeText}, "why it is asked, in your words, for the privacy report, statement and record. There is no list without it"},
		{"attachments", textValue{&h.Attachments, zoneName}, "DNS zone that is asked about attachments, such as \"_file.KEY.hbl.dq.spamhaus.net\". It learns the SHA-256 of each, of 20 at most"},
		{"links", textValue{&h.Links, zoneName}, "DNS zone that is asked about links, such as \"_url.KEY.hbl.dq.spamhaus.net\". It learns the SHA-256 of each without its query, of 20 at most, from the first 512 KiB of text; not of links without a path or with an address in it"},
		{"link_form", enumValue[content.LinkForm]{&h.LinkForm, []string{"host-path", "url"}}, "what of a link is hashed: \"host/Path\", as Spamhaus has it, or \"https://host/path\" in lower case, as SpamAssassin's HashBL has it"},
		{"answers", prefixesValue{&h.Answers}, "those that mean a digest is listed, such as [\"127.0.3.10\"]; empty: each in 127.0.0.0/8, but for refusals"},
		{"action", enumValue[content.Listed]{&h.Action, listedActions()}, "of mail with something that is listed: marked by the field X-Listed-By, held for an operator, or refused"},
	}, h.Called.keys()...)
}

// keys are those of [pyzor].
func (p *PyzorConfig) keys() []key {
	return append([]key{
		{"address", textValue{&p.Address, hostPort}, "host and UDP port of a Pyzor server, such as \"public.pyzor.org:24441\", that learns a SHA-1 of the text of mail. Empty: none is asked"},
		{"purpose", textValue{&p.Purpose, purposeText}, "why it is asked, in your words, for the privacy report, statement and record. Needed where there is an address"},
		{"threshold", numberValue{&p.Threshold, 1, 1_000_000}, "reports of the text, with nobody vouching for it, that make it listed"},
		{"action", enumValue[content.Listed]{&p.Action, listedActions()}, "of mail whose text is listed: marked by the field X-Listed-By, held for an operator, or refused"},
	}, p.Called.keys()...)
}

func listedActions() []string { return []string{"mark", "hold", "reject"} }

// validateOutside checks that nobody outside is asked without a purpose.
func (c *Config) validateOutside(f *faults) {
	seen := make(map[string]bool)
	for i, h := range c.HashLists {
		path := join(hashListTables, strconv.Itoa(i))
		line := c.source.lines[path]
		given := func(key string) bool { return c.source.given(join(path, key)) }
		switch {
		case !given("name") || !given("purpose"):
			f.also(line, "a [[hash_list]] needs a name and a purpose: nobody outside is asked without them")
		case !given("attachments") && !given("links"):
			f.also(line, "a [[hash_list]] needs a zone: give attachments, links or both")
		case seen[h.Name] && h.Name != "":
			f.also(line, "hash_list.name = %q is given twice: the ledger keeps them apart by it", h.Name)
		}
		seen[h.Name] = true
	}
	if c.Pyzor.Address != "" && c.Pyzor.Purpose == "" {
		f.also(c.source.lines["pyzor.address"], "pyzor.address without pyzor.purpose: nobody outside is asked without a purpose")
	}
	if len(c.Edge.AddressLists)+len(c.Edge.DomainLists) > 0 && c.Edge.ListsPurpose == "" {
		f.also(max(c.source.lines["edge.address_lists"], c.source.lines["edge.domain_lists"]),
			"edge.address_lists and edge.domain_lists need edge.lists_purpose: nobody outside is asked without a purpose")
	}
}

// outsideWarnings say what is allowed of services outside and yet seldom meant.
func (c *Config) outsideWarnings() (w []string) {
	for _, h := range c.HashLists {
		if h.Scope != relay.IncomingOnly && len(c.Relay.Domains) > 0 {
			w = append(w, "hash_list "+quote(h.Name)+" is told hashes of what users send, too: scope = \"incoming\" leaves that out")
		}
	}
	if c.Pyzor.Address == "" {
		return w
	}
	if c.Pyzor.Scope != relay.IncomingOnly && len(c.Relay.Domains) > 0 {
		w = append(w, "pyzor.address is told hashes of what users send, too: scope = \"incoming\" leaves that out")
	}
	if c.Pyzor.Action == content.ListedReject {
		w = append(w, "pyzor.action = \"reject\": what many report may be a newsletter that someone here wants")
	}
	return w
}

// serviceName takes what may stand in a header field and in a list of names.
func serviceName(s string) error {
	if s == "" || len(s) > 60 || strings.TrimSpace(s) != s || strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789 -._") != "" {
		return errors.New("want a name such as \"Spamhaus HBL\": up to 60 letters, digits, blanks, \"-\", \".\" and \"_\"")
	}
	return nil
}

func purposeText(s string) error {
	if strings.TrimSpace(s) == "" || len(s) > 300 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("want a purpose in words, such as \"to refuse known malware\", of up to 300 octets in one line")
	}
	return nil
}

// zoneName takes a DNS zone; other than a host name it may have labels that begin with "_".
func zoneName(s string) error {
	labels := strings.Split(s, ".")
	for i := range labels {
		labels[i] = strings.TrimPrefix(labels[i], "_")
	}
	if s == strings.ToLower(s) && len(s) <= 180 && hostname(strings.Join(labels, ".")) == nil && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-._") == "" {
		return nil
	}
	return errors.New("want a DNS zone in lower case such as \"_file.key.hbl.dq.spamhaus.net\"")
}

// hostPort takes a host name or an IP address, and a port.
func hostPort(s string) error {
	host, port, found := cutPort(s)
	_, err := netip.ParseAddr(host)
	if found && port > 0 && (err == nil || hostname(host) == nil) {
		return nil
	}
	return errors.New("want a host and a port such as \"public.pyzor.org:24441\"")
}

// outsideParties are the services that are told a digest, an address or a domain.
func (c *Config) outsideParties() (parties []policyParty) {
	add := func(who, what, purpose string) {
		parties = append(parties, policyParty{who, what + ". Purpose: " + purpose})
	}
	if len(c.Edge.AddressLists) > 0 {
		add(withoutKeys(strings.Join(c.Edge.AddressLists, ", ")), "the addresses of clients that bring mail for relay domains", c.Edge.ListsPurpose)
	}
	if len(c.Edge.DomainLists) > 0 {
		add(withoutKeys(strings.Join(c.Edge.DomainLists, ", ")), "the domains of senders to relay domains", c.Edge.ListsPurpose)
	}
	for _, h := range c.HashLists {
		add(h.Name, "hashes (SHA-256) of "+strings.Join(h.hashed("attachments", "links"), " and ")+scopeSuffix(h.Scope)+", by the DNS", h.Purpose)
	}
	if c.Pyzor.Address != "" {
		add("the Pyzor server "+c.Pyzor.Address, "a hash (SHA-1) of the text"+scopeSuffix(c.Pyzor.Scope), c.Pyzor.Purpose)
	}
	return parties
}

// hashed are the words for what the list is asked about.
func (h *HashListConfig) hashed(attachments, links string) (words []string) {
	if h.Attachments != "" {
		words = append(words, attachments)
	}
	if h.Links != "" {
		words = append(words, links)
	}
	return words
}

func scopeSuffix(s relay.Scope) string {
	switch s {
	case relay.SubmissionOnly:
		return " of mail that users send"
	case relay.IncomingOnly:
		return " of mail for relay domains"
	}
	return " of mail"
}

// withoutKeys leaves a customer's key out of zones, as some operators of lists have one
// in them: privacy texts are for others to read.
func withoutKeys(zones string) string {
	return regexp.MustCompile(`\b[a-z0-9]{20,}\.`).ReplaceAllString(zones, "(key).")
}

// fingerprinted tells whether digests of mail go to anyone.
func (c *Config) fingerprinted() bool { return len(c.HashLists) > 0 || c.Pyzor.Address != "" }

// askedOutside says in whole sentences who is asked about what, and why.
func (c *Config) askedOutside(l language) string {
	var sentences []string
	if len(c.Edge.AddressLists) > 0 {
		sentences = append(sentences, fmt.Sprintf(l.listsAddress, withoutKeys(l.join(c.Edge.AddressLists)), c.Edge.ListsPurpose))
	}
	if len(c.Edge.DomainLists) > 0 {
		sentences = append(sentences, fmt.Sprintf(l.listsDomain, withoutKeys(l.join(c.Edge.DomainLists)), c.Edge.ListsPurpose))
	}
	for _, h := range c.HashLists {
		sentences = append(sentences, fmt.Sprintf(l.digests, h.Name, l.join(h.hashed(l.attachments, l.links)), h.Purpose))
	}
	if c.Pyzor.Address != "" {
		host, _, _ := cutPort(c.Pyzor.Address)
		sentences = append(sentences, fmt.Sprintf(l.digests, "Pyzor ("+host+")", l.text, c.Pyzor.Purpose))
	}
	if !c.fingerprinted() {
		sentences = append(sentences, l.noDigests)
	}
	return strings.Join(sentences, " ")
}
