package route

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsServer answers on loopback over UDP and TCP from records in zone-file
// form. The first label of a name can switch to a fault:
//
//	servfail refused  that code
//	silent            no answer
//	truncated         over UDP cut off, over TCP whole
//	strayid strayname answers of another query first, then the right one
//	flood             strays only, over UDP
//	noedns            FORMERR where the query has EDNS
//	garbage           octets that are no message
type dnsServer struct {
	addr netip.AddrPort
	rrs  []dns.RR
	ad   bool

	arrived chan struct{} // has room for one: a query has come

	mu   sync.Mutex
	udp  int
	tcp  int
	seen []*dns.Msg
}

func newDNSServer(t *testing.T, records ...string) *dnsServer {
	t.Helper()
	s := &dnsServer{ad: true, arrived: make(chan struct{}, 1)}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		s.rrs = append(s.rrs, rr)
	}
	pc, ln := listenBoth(t)
	s.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, srv := range []*dns.Server{
		{PacketConn: pc, Handler: s.handler(true)},
		{Listener: ln, Handler: s.handler(false)},
	} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	return s
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return pc, ln
		}
		ln.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func (s *dnsServer) handler(udp bool) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		s.mu.Lock()
		if udp {
			s.udp++
		} else {
			s.tcp++
		}
		s.seen = append(s.seen, q)
		s.mu.Unlock()
		select {
		case s.arrived <- struct{}{}:
		default:
		}
		fault, _, _ := strings.Cut(q.Question[0].Name, ".")
		m := s.answer(q)
		switch {
		case fault == "servfail":
			m.Rcode = dns.RcodeServerFailure
		case fault == "refused":
			m.Rcode = dns.RcodeRefused
		case fault == "silent":
			return
		case fault == "garbage":
			w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0xff, 1})
			return
		case fault == "noedns" && q.IsEdns0() != nil:
			m = &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: dns.RcodeFormatError}}
		case fault == "truncated" && udp:
			m.Truncated = true
			m.Answer = nil
		case fault == "strayid" && udp:
			stray := s.forged(q)
			stray.Id++
			w.WriteMsg(stray)
		case fault == "strayname" && udp:
			stray := s.forged(q)
			stray.Question[0].Name = "other.example."
			w.WriteMsg(stray)
		case fault == "flood" && udp:
			for i := range 3 * maxStrays {
				stray := s.forged(q)
				stray.Id += uint16(i + 1)
				w.WriteMsg(stray)
			}
			return
		}
		w.WriteMsg(m)
	}
}

// forged is what an attacker would have the stub believe.
func (s *dnsServer) forged(q *dns.Msg) *dns.Msg {
	m := (&dns.Msg{}).SetReply(q)
	rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 203.0.113.66")
	m.Answer = []dns.RR{rr}
	return m
}

// answer is what a recursive resolver would answer.
func (s *dnsServer) answer(q *dns.Msg) *dns.Msg {
	m := (&dns.Msg{}).SetReply(q)
	m.RecursionAvailable = true
	s.mu.Lock()
	m.AuthenticatedData = s.ad
	s.mu.Unlock()
	name := q.Question[0].Name
	exists := false
	for range 12 {
		next := ""
		for _, rr := range s.rrs {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			exists = true
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
			if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				next = c.Target
			}
		}
		if next == "" {
			break
		}
		name, exists = next, false
		if strings.HasPrefix(name, "elsewhere.") {
			return m // a forwarder that leaves the chain open
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if !exists || len(m.Answer) == 0 {
		soa, _ := dns.NewRR("example. 300 IN SOA ns.example. host.example. 1 3600 600 86400 30")
		m.Ns = []dns.RR{soa}
	}
	return m
}

// queries returns what was asked so far.
func (s *dnsServer) queries() []*dns.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// authentic sets the AD bit of the answers to come.
func (s *dnsServer) authentic(ad bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ad = ad
}

func (s *dnsServer) counts() (udp, tcp int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.udp, s.tcp
}

// stubFor makes a stub that asks servers, and is as patient with each as a busy machine needs.
func stubFor(addrs ...netip.AddrPort) *Stub {
	s := NewStub(StubConfig{Servers: addrs})
	s.conf.fixed.timeout = time.Minute
	return s
}
