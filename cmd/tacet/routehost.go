package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// wayHost is one address of one host on the way.
type wayHost struct {
	Host    string    `json:"host"`
	Address string    `json:"address"`
	Alias   string    `json:"alias_of,omitempty"`
	DNSSEC  bool      `json:"dnssec"` // of the address
	DANE    []string  `json:"dane,omitempty"`
	Wanted  string    `json:"wanted"` // as in the log's tls.out, or opportunistic
	Shown   *wayShown `json:"shown,omitempty"`
	Fault   *wayFault `json:"fault,omitempty"`
}

// wayShown is what a host showed when it was greeted.
type wayShown struct {
	Version     string          `json:"version,omitempty"`
	Cipher      string          `json:"cipher,omitempty"`
	Verified    string          `json:"verified,omitempty"`
	None        string          `json:"none,omitempty"`
	Certificate *wayCertificate `json:"certificate,omitempty"`
	RequireTLS  bool            `json:"requiretls"`
	Size        int64           `json:"size,omitempty"`
}

// wayCertificate is a certificate, and what is wrong with it.
type wayCertificate struct {
	Names  []string  `json:"names"`
	Issuer string    `json:"issuer"`
	Until  time.Time `json:"until"`
	Fault  string    `json:"fault,omitempty"`
}

func (w *wayfinder) host(ctx context.Context, d queue.Destination, route *relay.Route, hop relay.Hop, connect bool) wayHost {
	wanted, refused := w.client.Held(route, hop)
	h := wayHost{Host: hop.Name, Address: hop.Addr.String(), DNSSEC: hop.Authentic, Wanted: relay.Protection(queue.TLS{Wanted: wanted}).Wanted.String()}
	if hop.Canonical != hop.Name {
		h.Alias = hop.Canonical
	}
	switch {
	case route.TLS == relay.TLSNone:
		h.Wanted = "none"
	case h.Wanted == "":
		h.Wanted = "opportunistic"
	}
	if hop.Hold != nil && (hop.Hold.By == relay.HeldByDANE || hop.Hold.Require) {
		h.DANE = hop.Hold.Policy
	}
	if refused != queue.CauseNone {
		h.Fault = faultOf(queue.Reply{Stage: queue.StageRoute, Cause: refused})
		return h
	}
	if connect {
		w.look(ctx, d, route, hop, &h)
	}
	return h
}

// look greets the host and adds what it shows.
func (w *wayfinder) look(ctx context.Context, d queue.Destination, route *relay.Route, hop relay.Hop, h *wayHost) {
	look := w.client.Look(ctx, d, route, hop)
	if look.Reply != (queue.Reply{}) {
		h.Fault = faultOf(look.Reply)
	}
	words := relay.Protection(look.TLS)
	h.Shown = &wayShown{None: words.None.String(), RequireTLS: look.RequireTLS, Size: look.Size}
	if words.Version != 0 {
		h.Shown.Version = strings.TrimPrefix(tls.VersionName(words.Version), "TLS ")
		h.Shown.Cipher, h.Shown.Verified = tls.CipherSuiteName(words.Cipher), words.Verified.String()
	}
	if cert := look.Certificate; cert != nil {
		h.Shown.Certificate = &wayCertificate{
			Names: cert.DNSNames, Issuer: cert.Issuer.String(), Until: cert.NotAfter.UTC(), Fault: look.Failure.String(),
		}
		if len(cert.DNSNames) == 0 {
			h.Shown.Certificate.Names = []string{cert.Subject.CommonName}
		}
	}
}

// print writes the host for people. What stands in a certificate was written by
// others, and is shown as such.
func (h *wayHost) print(out *lineWriter) {
	out.line("")
	out.line("  %s  %s", h.Host, h.Address)
	if h.Alias != "" {
		out.line("    alias of    %s", h.Alias)
	}
	if _, err := netip.ParseAddr(h.Host); err != nil {
		out.line("    address     %s", strings.TrimPrefix(vouched(h.DNSSEC), ", "))
	}
	for _, record := range h.DANE {
		out.line("    TLSA        %s", record)
	}
	out.line("    held to     %s", heldTo(h.Wanted))
	if s := h.Shown; s != nil {
		switch {
		case s.Version != "":
			out.line("    shows       TLS %s, %s, verified: %s", s.Version, s.Cipher, s.Verified)
		default:
			out.line("    shows       no TLS: %s", strings.ReplaceAll(s.None, "_", " "))
		}
		if c := s.Certificate; c != nil {
			names := make([]string, 0, 5)
			for _, name := range c.Names[:min(len(c.Names), 5)] {
				names = append(names, quote(name))
			}
			out.line("    certificate of %s, by %s, until %s", strings.Join(names, ", "), quote(c.Issuer), c.Until.Format(time.DateOnly))
			if c.Fault != "" {
				out.line("                %s", c.Fault)
			}
		}
		if s.RequireTLS {
			out.line("    offers      REQUIRETLS")
		}
	}
	if h.Fault != nil {
		out.line("    fault       %s", h.Fault)
	}
}

// heldTo explains a word of the log's tls.out.wanted.
func heldTo(wanted string) string {
	meaning := map[string]string{
		"none":          "TLS is switched off",
		"opportunistic": "TLS when offered, any certificate",
		"require":       "TLS, any certificate",
		"verify":        "TLS, a valid certificate for the host's name",
		"sts_testing":   "TLS when offered; what the policy asks for is tested only",
		"sts":           "TLS, a valid certificate for the host's name, as the domain's policy says",
		"dane":          "TLS, a certificate that a TLSA record describes",
	}[wanted]
	return fmt.Sprintf("%s: %s", wanted, meaning)
}
