package logging

import (
	"context"
	"iter"
	"net/netip"
	"regexp"
	"strings"
)

// Records gives what the log has about a person, oldest first, as that person
// may have it: other people's addresses are masked up to their domain, and
// the user and the client belong to whoever sent the message.
func (p Person) Records(ctx context.Context, dir, keyDir string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if p == (Person{}) {
			yield(Line{}, errNobody)
			return
		}
		enc := newEncoder()
		for line, err := range Read(ctx, ReadOptions{Dir: dir, KeyDir: keyDir, Filter: Filter{person: &p}}) {
			switch {
			case GoesOn(err):
				continue
			case err != nil:
				yield(Line{}, err)
				return
			}
			own := p.own(line.Record)
			if !yield(enc.line(&own), nil) {
				return
			}
		}
	}
}

// own is the person's part of a record.
func (p *Person) own(r Record) Record {
	sent := p.isAddress(r.Sender) || p.isUser(r.User)
	if !sent {
		r.User, r.Client = "", netip.Addr{}
		r.Sender = p.Mask(r.Sender)
	}
	r.Recipient = p.Mask(r.Recipient)
	r.Subject = p.MaskText(r.Subject)
	headers := make([]HeaderField, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = HeaderField{h.Name, p.MaskText(h.Value)}
	}
	r.Headers = headers
	return r
}

// Mask is an address as the person may see it: their own whole, of another's
// the domain.
func (p *Person) Mask(address string) string {
	if address == "" || p.isAddress(address) {
		return address
	}
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return ellipsis + address[at:]
	}
	return ellipsis
}

// MaskText masks the addresses in a text.
func (p *Person) MaskText(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	return addressInText.ReplaceAllStringFunc(s, p.Mask)
}

// addressInText finds what looks like an address, and rather too much than too little.
var addressInText = regexp.MustCompile(`("[^"]*"|[^\s<>,;:"()\[\]@]+)@[^\s<>,;:"()@]+`)
