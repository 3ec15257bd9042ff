package route

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"tacet/queue"
)

// NextHop is a next hop as an operator writes it. The zero value is the MX of
// the recipient's domain.
type NextHop struct {
	Host    string     // domain or host name: lower-case A-label, no final dot; empty for an address
	Addr    netip.Addr // in brackets; invalid for a name
	Port    uint16
	Bracket bool // the host itself, its MX records are not looked up
}

// IsZero tells whether h is the MX of the recipient's domain.
func (h NextHop) IsZero() bool { return h.Port == 0 }

// String is h as [ParseNextHop] takes it, always with brackets where they
// were and with the port; empty for the zero value.
func (h NextHop) String() string {
	if h.IsZero() {
		return ""
	}
	host := h.Host
	if h.Addr.IsValid() {
		host = h.Addr.String()
	}
	if h.Bracket {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(h.Port))
}

const smtpPort = 25

// errNextHop is what ParseNextHop returns: one text that names all that is allowed.
var errNextHop = errors.New(`a next hop is "[host]:port" or "[IP address]:port" for that very host, or "domain:port" for the domain's MX (without MX: its addresses); without ":port" it is port 25`)

// ParseNextHop reads a next hop: "[127.0.0.1]:2626", "[::1]:25",
// "[relay.example]:587", or "smarthost.example:587", whose MX records are
// looked up. The port is 25 if it is not given. An empty text is the zero NextHop.
func ParseNextHop(s string) (NextHop, error) {
	if s == "" {
		return NextHop{}, nil
	}
	host, port := s, ""
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok = strings.Cut(inner, "]")
		if !ok || port != "" && port[0] != ':' {
			return NextHop{}, errNextHop
		}
		if port == ":" {
			return NextHop{}, errNextHop
		}
		port = strings.TrimPrefix(port, ":")
		return bracketed(host, port)
	}
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && port == "" {
		return NextHop{}, errNextHop
	}
	n, err := parsePort(port)
	if err != nil {
		return NextHop{}, err
	}
	name, ok := normalDomain(host)
	if !ok {
		return NextHop{}, errNextHop
	}
	return NextHop{Host: name, Port: n}, nil
}

func bracketed(host, port string) (NextHop, error) {
	n, err := parsePort(port)
	if err != nil {
		return NextHop{}, err
	}
	h := NextHop{Port: n, Bracket: true}
	text := host
	if len(host) > 5 && strings.EqualFold(host[:5], "IPv6:") {
		text = host[5:]
	}
	if a, err := netip.ParseAddr(text); err == nil {
		h.Addr = a.Unmap()
		return h, nil
	}
	name, ok := normalDomain(host)
	if !ok {
		return NextHop{}, errNextHop
	}
	h.Host = name
	return h, nil
}

func parsePort(s string) (uint16, error) {
	if s == "" {
		return smtpPort, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errNextHop
	}
	return uint16(n), nil
}

// isNextHop tells whether d names a configured next hop, not a recipient's
// domain or address literal: no domain has a colon, and a literal ends in a bracket.
func isNextHop(d queue.Destination) bool {
	return strings.IndexByte(string(d), ':') >= 0 && d[len(d)-1] != ']'
}
