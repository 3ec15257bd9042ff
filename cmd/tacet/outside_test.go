package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// outsideWorld is the world that a relay may ask: a DNS server and a Pyzor server. Every
// packet that reaches one of them is kept as it came.
type outsideWorld struct {
	dns, pyzor string // addresses

	mu       sync.Mutex
	listed   map[string]string // name → address
	reports  int               // of every text
	silent   bool
	dnsAsked [][]byte
	texts    [][]byte
}

// newOutside starts both servers on loopback.
func newOutside(t *testing.T) *outsideWorld {
	t.Helper()
	o := &outsideWorld{listed: make(map[string]string)}
	o.dns = o.serve(t, &o.dnsAsked, o.answerDNS)
	o.pyzor = o.serve(t, &o.texts, o.answerPyzor)
	return o
}

// serve answers datagrams until the test ends.
func (o *outsideWorld) serve(t *testing.T, kept *[][]byte, answer func([]byte) []byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			o.mu.Lock()
			*kept = append(*kept, append([]byte(nil), buf[:n]...))
			reply, silent := answer(buf[:n]), o.silent
			o.mu.Unlock()
			if !silent {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func (o *outsideWorld) answerDNS(packet []byte) []byte {
	var q dns.Msg
	if err := q.Unpack(packet); err != nil || len(q.Question) != 1 {
		return nil
	}
	var reply dns.Msg
	reply.SetReply(&q)
	if address, ok := o.listed[strings.TrimSuffix(q.Question[0].Name, ".")]; ok {
		reply.Answer = append(reply.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(address)})
	} else {
		reply.Rcode = dns.RcodeNameError
	}
	b, err := reply.Pack()
	if err != nil {
		return nil
	}
	return b
}

func (o *outsideWorld) answerPyzor(packet []byte) []byte {
	thread := regexp.MustCompile(`\nThread: (\d+)\n`).FindSubmatch(packet)
	if thread == nil {
		return nil
	}
	return fmt.Appendf(nil, "Code: 200\nDiag: OK\nPV: 2.1\nThread: %s\nCount: %d\nWL-Count: 0\n\n", thread[1], o.reports)
}

// set changes what the world knows.
func (o *outsideWorld) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// names are those that the DNS was asked for, in their order.
func (o *outsideWorld) names(t *testing.T) (names []string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, packet := range o.dnsAsked {
		var q dns.Msg
		if err := q.Unpack(packet); err != nil || len(q.Question) != 1 {
			t.Errorf("no question: %x", packet)
			continue
		}
		names = append(names, q.Question[0].Name)
	}
	return names
}

// config asks all of it.
func (o *outsideWorld) config(action string) string {
	return fmt.Sprintf(`[dns]
resolvers = [%[1]q]
[edge]
address_lists = ["ip.test"]
domain_lists = ["dom.test"]
lists_purpose = "to keep spammers out"
[[hash_list]]
name = "Hash List"
purpose = "to keep malware out"
attachments = "_file.key.hash.test"
links = "_url.key.hash.test"
answers = ["127.0.3.10"]
action = %[3]q
timeout = "30s"
[pyzor]
address = %[2]q
purpose = "to keep bulk mail out"
action = %[3]q
timeout = "30s"
`, o.dns, o.pyzor, action)
}

// The packets that may leave, whole: what varies in them is a digest, an address, a domain, a
// number or the signature of the anonymous user.
var (
	digestName  = regexp.MustCompile(`^[a-z2-7]{52}\._(file|url)\.key\.hash\.test\.$`)
	clientName  = regexp.MustCompile(`^([0-9]{1,3}\.){4}ip\.test\.$`)
	senderName  = regexp.MustCompile(`^far\.example\.dom\.test\.$`)
	pyzorPacket = regexp.MustCompile(`^Op: check\nOp-Digest: [0-9a-f]{40}\nThread: [0-9]{4,5}\nPV: 2\.1\nUser: anonymous\nTime: [0-9]{10}\nSig: [0-9a-f]{40}\n\n$`)
)

// shapes checks every packet, octet by octet, and counts them by shape.
func (o *outsideWorld) shapes(t *testing.T) (digests, clients, senders, texts int) {
	t.Helper()
	for i, name := range o.names(t) {
		switch {
		case digestName.MatchString(name):
			digests++
		case clientName.MatchString(name):
			clients++
		case senderName.MatchString(name):
			senders++
		default:
			t.Errorf("the DNS was asked for %q", name)
		}
		packet := o.dnsAsked[i]
		var want dns.Msg
		want.SetQuestion(name, dns.TypeA)
		want.Id, want.AuthenticatedData = uint16(packet[0])<<8|uint16(packet[1]), true
		want.SetEdns0(1232, true)
		if b, err := want.Pack(); err != nil || string(b) != string(packet) {
			t.Errorf("a packet to the DNS has more than its question: %x, want %x, %v", packet, b, err)
		}
	}
	for _, packet := range o.texts {
		if !pyzorPacket.Match(packet) {
			t.Errorf("the Pyzor server got %q", packet)
		}
		texts++
	}
	return digests, clients, senders, texts
}
