package route

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dnsPort is where recursive resolvers listen.
const dnsPort = 53

// servers is whom to ask, and how.
type servers struct {
	servers  []netip.AddrPort // at least one
	trustAD  bool             // of all of them
	rotate   bool
	timeout  time.Duration // for one try at one server
	attempts int           // rounds over all servers
}

// trusts tells whether the AD bit of server counts: the way to one on
// loopback is safe, that to others only if the operator says so.
func (r *resolvConf) trusts(s *servers, server netip.AddrPort) bool {
	return s.trustAD || server.Addr().IsLoopback() || slices.Contains(r.trusted, server)
}

// Trusted tells whether the AD bit of one of the servers counts.
func (s *Stub) Trusted() bool {
	c := s.conf.current()
	return slices.ContainsFunc(c.servers, func(server netip.AddrPort) bool { return s.conf.trusts(c, server) })
}

// ParseServer reads a DNS server's address: "127.0.0.1", "127.0.0.1:5353",
// "::1", or "[::1]:5353". The port is 53 if it is not given.
func ParseServer(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	host := s
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, errors.New(`a DNS server is an IP address, with a port if it is not 53: "127.0.0.1", "127.0.0.1:5353", "[::1]:5353"`)
	}
	return netip.AddrPortFrom(a, dnsPort), nil
}

// resolvConf gives out the servers to ask: fixed ones, or those of a file
// that is read anew when it changes.
type resolvConf struct {
	fixed   *servers
	trusted []netip.AddrPort
	file    watchedFile
}

func newResolvConf(c StubConfig) *resolvConf {
	if len(c.Servers) > 0 {
		return &resolvConf{fixed: &servers{servers: c.Servers, timeout: 5 * time.Second, attempts: 2}, trusted: c.Trusted}
	}
	path := c.ResolvConf
	if path == "" {
		path = "/etc/resolv.conf"
	}
	return &resolvConf{file: watchedFile{path: path}, trusted: c.Trusted}
}

func (r *resolvConf) current() *servers {
	if r.fixed != nil {
		return r.fixed
	}
	return watched(&r.file, parseResolvConf)
}

// maxServers is how many servers of a resolv.conf are asked.
const maxServers = 8

// parseResolvConf reads resolv.conf(5). Search domains are left out: the
// domain of a mailbox is complete.
func parseResolvConf(text string) *servers {
	s := &servers{timeout: 5 * time.Second, attempts: 2}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(s.servers) < maxServers {
				s.servers = append(s.servers, netip.AddrPortFrom(a, dnsPort))
			}
		case "options":
			for _, o := range f[1:] {
				s.option(o)
			}
		}
	}
	if len(s.servers) == 0 {
		s.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return s
}

func (s *servers) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "trust-ad":
		s.trustAD = true
	case name == "rotate":
		s.rotate = true
	case name == "timeout" && err == nil:
		s.timeout = time.Duration(min(max(n, 1), 30)) * time.Second
	case name == "attempts" && err == nil:
		s.attempts = min(max(n, 1), 5)
	}
}

// watchedFile is a small configuration file of the system.
type watchedFile struct {
	path string

	mu      sync.Mutex
	checked time.Time // when it was last looked at
	modTime time.Time
	size    int64
	parsed  any // what was made of it
}

// The limits of a watched file.
const (
	watchEvery  = 5 * time.Second
	maxFileSize = 1 << 20
)

// watched returns what parse makes of f's text, which is read anew when it
// has changed. While the file cannot be read the last good reading stands, at first an
// empty text.
func watched[T any](f *watchedFile, parse func(string) T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.parsed != nil && now.Sub(f.checked) < watchEvery {
		return f.parsed.(T)
	}
	f.checked = now
	info, err := os.Stat(f.path)
	if err == nil && (f.parsed == nil || !info.ModTime().Equal(f.modTime) || info.Size() != f.size) {
		if text, err := readAtMost(f.path, maxFileSize); err == nil {
			f.parsed, f.modTime, f.size = parse(string(text)), info.ModTime(), info.Size()
		}
	}
	if f.parsed == nil {
		return parse("")
	}
	return f.parsed.(T)
}

func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}
