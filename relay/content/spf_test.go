package content

import (
	"fmt"
	"strings"
	"testing"
)

// Whatever a domain publishes, it costs the look-ups of RFC 7208 §4.6.4 at most: one for the record itself
// and ten more, of which two may find nothing. The library leaves out 31 of the 203
// cases of the suite that came with the RFC; none of them is a limit. By what it does in place of a permanent error:
//
//   - it goes on where names hold odd characters or slashes, or end in no top-level domain: such a name
//     is then not found;
//   - it does not look at what stands behind the term that matched: no later term can count;
//   - it reads no exp=, a text for people, which is never asked for here;
//   - it takes "unknown" for %{p}, as is allowed (RFC 7208 §7.3): the name would cost look-ups of the client's choice;
//   - it does not ask for the record type SPF, which RFC 7208 §3.1 has ended.
func TestSPFLimits(t *testing.T) {
	includes := func(n int, last string) zone {
		z := zone{}
		for i := range n {
			z[fmt.Sprintf("i%d.example", i)] = []string{fmt.Sprintf("v=spf1 include:i%d.example -all", i+1)}
		}
		z[fmt.Sprintf("i%d.example", n)] = []string{last}
		return z
	}
	one := func(record string) zone { return zone{"i0.example": {record}} }
	const good = "v=spf1 ip4:192.0.2.1 -all"
	for name, c := range map[string]struct {
		dns    zone
		result string
		most   int // look-ups, that of the HELO name among them
	}{
		"ten includes":       {includes(10, good), "pass", 11},
		"eleven includes":    {includes(11, good), "permerror", 11},
		"endless includes":   {includes(1000, good), "permerror", 11},
		"itself":             {one("v=spf1 include:i0.example ip4:192.0.2.1"), "permerror", 11},
		"itself, redirected": {one("v=spf1 redirect=i0.example"), "permerror", 11},
		"two of each": {zone{"i0.example": {"v=spf1 include:i1.example include:i1.example -all"}, "i1.example": {"v=spf1 include:i0.example include:i0.example"}},
			"permerror", 11},
		"two void":             {one("v=spf1 a:a.example a:b.example ip4:192.0.2.1 -all"), "pass", 3},
		"three void":           {one("v=spf1 a:a.example a:b.example a:c.example ip4:192.0.2.1 -all"), "permerror", 4},
		"a thousand addresses": {one("v=spf1" + strings.Repeat(" a:there.example", 1000) + " ip4:192.0.2.1"), "permerror", 11},
		"validated name":       {one("v=spf1 exists:%{p}.example ip4:192.0.2.1 -all"), "pass", 2},
		"explained":            {one("v=spf1 -all exp=why.example"), "fail", 1},
		"long names":           {one("v=spf1 exists:" + strings.Repeat("%{d}.", 200) + "example -all"), "fail", 2},
		"early match":          {one("v=spf1 ip4:192.0.2.1 nonsense:"), "pass", 1},
		"two records":          {zone{"i0.example": {good, good}}, "permerror", 1},
	} {
		dns := &names{txt: c.dns, a: map[string]string{"there.example": "203.0.113.9"}}
		v := &Verifier{Hostname: "mx.example.net", DNS: dns}
		r := v.spf(t.Context(), incoming("secret.person@i0.example", ""))
		if string(r.result) != c.result || len(dns.asked) > c.most {
			t.Errorf("%s: %s after %d look-ups, want %s after %d", name, r.result, len(dns.asked), c.result, c.most)
		}
		if asked := strings.Join(dns.asked, " "); strings.Contains(asked, "secret") || strings.Contains(asked, "why") {
			t.Errorf("%s: asked for %.300s", name, asked)
		}
	}
}
