package main

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"tacet/relay/content"
	"tacet/relay/route"
)

// The checks of textual values. Each error says what is allowed.

// hostname takes a domain name that DNS can carry; an IDN in either form.
func hostname(s string) error {
	want := errors.New("want a host name such as \"relay.example.org\"")
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil || ascii == "" || len(ascii) > 253 {
		return want
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "-0123456789abcdefghijklmnopqrstuvwxyz") != "" {
			return want
		}
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return want
	}
	return nil
}

// ownName takes a host name as it stands on the wire: an IDN in its ASCII form.
func ownName(s string) error {
	if hostname(s) != nil || strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		return errors.New("want a host name such as \"relay.example.org\", an internationalised one as \"xn--…\"")
	}
	return nil
}

// routeDomain takes what selects recipient domains.
func routeDomain(s string) error {
	if _, err := route.ParsePattern(s); err != nil {
		return errors.New("want a domain such as \"example.net\", \".example.net\" for its subdomains, or \"*\" for all")
	}
	return nil
}

// selector takes what stands before "._domainkey" in the name of a DKIM key (RFC 6376 §3.1).
func selector(s string) error {
	if hostname(s+".example") != nil || strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		return errors.New("want a selector of letters, digits and hyphens such as \"s2026a\"")
	}
	return nil
}

func ruleName(s string) error {
	if !content.RuleName(s) {
		return errors.New("want a name of up to 40 letters, digits, \"-\" and \"_\"")
	}
	return nil
}

func headerName(s string) error {
	if s == "" || len(s) > 76 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return errors.New("want the name of a header field such as \"Subject\"")
	}
	return nil
}

func pattern(s string) error {
	if _, err := regexp.Compile(s); err != nil || len(s) > 4096 {
		return errors.New("want a regular expression of RE2 (golang.org/s/re2syntax): it has no look-around and no back references")
	}
	return nil
}

// scannerAddress takes a local socket, or an address and port.
func scannerAddress(s string) error {
	if _, _, err := splitScanner(s); err != nil {
		return errors.New("want \"unix:/run/clamav/clamd.ctl\" or \"tcp:127.0.0.1:3310\"")
	}
	return nil
}

// splitScanner splits "unix:/path" and "tcp:address:port".
func splitScanner(s string) (network, address string, err error) {
	network, address, _ = strings.Cut(s, ":")
	host, port, found := cutPort(address)
	if network == "unix" && strings.HasPrefix(address, "/") && !strings.ContainsAny(address, "\x00\n") || network == "tcp" && found && port > 0 && host != "" {
		return network, address, nil
	}
	return "", "", errors.New("no socket")
}

// elsewhere tells whether a scanner is on another machine.
func elsewhere(s string) bool {
	network, address, err := splitScanner(s)
	if err != nil || network == "unix" {
		return false
	}
	host, _, _ := cutPort(address)
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback()
}

func mailbox(s string) error {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || hostname(s[at+1:]) != nil || strings.ContainsAny(s, "<> \t\r\n") || !utf8.ValidString(s) {
		return errors.New("want a mailbox such as \"postmaster@example.org\"")
	}
	return nil
}

func filename(s string) error {
	if s == "" || strings.ContainsAny(s, "\x00\n") {
		return errors.New("want a path such as \"/etc/tacet/file\"; leave the key out for its default")
	}
	return nil
}

func anyText(s string) error {
	if s == "" || strings.ContainsAny(s, "\x00\r\n") {
		return errors.New("want a text on one line")
	}
	return nil
}

func listenAddress(s string) error {
	want := errors.New("want an IP address and a port such as \"0.0.0.0:25\", \"[::1]:587\" or \":25\" for all addresses")
	host, port, found := cutPort(s)
	if !found || port == 0 && !strings.HasSuffix(s, ":0") {
		return want
	}
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return want
	}
	return nil
}

func loopbackAddress(s string) error {
	if s == "" {
		return nil
	}
	if addr, err := netip.ParseAddrPort(s); err != nil || !addr.Addr().IsLoopback() {
		return errors.New("want a loopback address and a port such as \"127.0.0.1:9587\"; metrics are never offered to the network")
	}
	return nil
}

// nextHop takes what the router does.
func nextHop(s string) error {
	if _, err := route.ParseNextHop(s); err != nil {
		return errors.New("want \"smarthost.example:587\" for a domain's MX, \"[smarthost.example]:587\" or \"[192.0.2.1]:25\" for that very host, or \"\" for the MX of the recipient's domain")
	}
	return nil
}

// cutPort splits "host:port" and "[address]:port".
func cutPort(s string) (host string, port uint16, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		return "", 0, false
	}
	host = s[:i]
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		if host, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return "", 0, false
		}
	} else if strings.Contains(host, ":") {
		return "", 0, false
	}
	return host, uint16(n), true
}

// texts goes over a list as the TOML reader gives it; ok is false once, for
// whatever is not a list of texts.
func texts(v any) iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		items, isList := v.([]any)
		if !isList {
			yield("", false)
			return
		}
		for _, item := range items {
			if s, ok := item.(string); !yield(s, ok) || !ok {
				return
			}
		}
	}
}

// list writes a list as TOML.
func list[T any](items []T, text func(T) string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(text(item))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}
