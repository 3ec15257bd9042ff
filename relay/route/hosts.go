package route

import (
	"net/netip"
	"strings"
)

// hostsFile looks names up in hosts(5), which is read anew when it changes.
type hostsFile struct{ file watchedFile }

func newHostsFile(path string) *hostsFile {
	if path == "" {
		path = "/etc/hosts"
	}
	return &hostsFile{watchedFile{path: path}}
}

// addrs returns the addresses of host, a name in lower case.
func (h *hostsFile) addrs(host string) (v4, v6 []netip.Addr) {
	for _, a := range watched(&h.file, parseHosts)[host] {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

func parseHosts(text string) map[string][]netip.Addr {
	hosts := make(map[string][]netip.Addr)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if len(hosts[name]) < keepAddrs {
				hosts[name] = append(hosts[name], a.Unmap())
			}
		}
	}
	return hosts
}
