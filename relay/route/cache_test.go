package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// fakeWire answers each query with what reply says, after a while.
type fakeWire struct {
	after time.Duration
	reply func(q *dns.Msg) (*dns.Msg, error)
	asked atomic.Int32
}

func (w *fakeWire) exchange(ctx context.Context, _ netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	w.asked.Add(1)
	select {
	case <-time.After(w.after):
		return w.reply(q)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func withTTL(ttl uint32) func(*dns.Msg) (*dns.Msg, error) {
	return func(q *dns.Msg) (*dns.Msg, error) {
		m := (&dns.Msg{}).SetReply(q)
		m.Answer = []dns.RR{&dns.MX{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeMX, Class: dns.ClassINET, Ttl: ttl},
			Mx:  "mx.example.", Preference: 10,
		}}
		return m, nil
	}
}

func negative(rcode int, minimum uint32) func(*dns.Msg) (*dns.Msg, error) {
	return func(q *dns.Msg) (*dns.Msg, error) {
		m := (&dns.Msg{}).SetReply(q)
		m.Rcode = rcode
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 86400}, Minttl: minimum}}
		return m, nil
	}
}

func fakeStub(w *fakeWire) *Stub {
	s := NewStub(StubConfig{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
	s.wire = w
	return s
}

// TestCacheTTL checks for how long each kind of answer is kept.
func TestCacheTTL(t *testing.T) {
	tests := []struct {
		name  string
		reply func(*dns.Msg) (*dns.Msg, error)
		kept  time.Duration
	}{
		{"by TTL", withTTL(60), time.Minute},
		{"at least", withTTL(0), minTTL},
		{"at most", withTTL(1 << 31), maxTTL},
		{"no such name", negative(dns.RcodeNameError, 60), time.Minute},
		{"no such name, at most", negative(dns.RcodeNameError, 86400), maxNegative},
		{"no records", negative(dns.RcodeSuccess, 60), time.Minute},
		{"failure", negative(dns.RcodeServerFailure, 3600), errorTTL},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &fakeWire{reply: tc.reply}
				s := fakeStub(w)
				ask := func() int32 {
					s.MX(t.Context(), "domain.example")
					return w.asked.Load()
				}
				first := ask()
				time.Sleep(tc.kept - time.Millisecond)
				if got := ask(); got != first {
					t.Errorf("asked anew %v before the end", time.Millisecond)
				}
				time.Sleep(2 * time.Millisecond)
				if got := ask(); got == first {
					t.Errorf("not asked anew after %v", tc.kept)
				}
			})
		})
	}
}

// TestCacheSharesFlights checks that many who ask the same cost one query, and
// that those who wait outlive the one whose query it is.
func TestCacheSharesFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{after: time.Second, reply: withTTL(60)}
		s := fakeStub(w)
		first, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.MX(first, "domain.example"); !errors.Is(err, context.Canceled) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if got, err := s.MX(t.Context(), "domain.example"); err != nil || len(got.Hosts) != 1 {
					t.Errorf("one who waits: %v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		giveUp()
		wg.Wait()
		if got := w.asked.Load(); got != 2 {
			t.Errorf("%d queries, want the first and one more", got)
		}
	})
}

// TestStubTimeouts checks how long a look-up takes at most: two rounds of 5 s
// for each server.
func TestStubTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{after: time.Hour}
		s := fakeStub(w)
		start := time.Now()
		if _, err := s.MX(t.Context(), "domain.example"); !errors.Is(err, errServers) {
			t.Error(err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestCacheBounded(t *testing.T) {
	c := newCache()
	long := fmt.Sprintf("%0250d", 1)
	for i := range cacheEntries + 500 {
		q := question{fmt.Sprintf("d%d.example", i), dns.TypeMX}
		_, err := c.get(t.Context(), q, func(context.Context, question) *entry {
			e := &entry{Answer: Answer{Name: q.name, TTL: time.Minute}}
			for range keepMX {
				e.mx = append(e.mx, MX{Host: long})
			}
			return e
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	octets := 0
	for q, e := range c.entries {
		octets += e.cost(q)
	}
	if len(c.entries) > cacheEntries || c.octets > cacheOctets || c.octets != octets {
		t.Errorf("%d entries of %d octets, counted as %d", len(c.entries), octets, c.octets)
	}
	if len(c.flights) != 0 {
		t.Errorf("%d look-ups are left", len(c.flights))
	}
	small := newCache()
	for i := range cacheEntries + 500 {
		q := question{fmt.Sprintf("d%d.example", i), dns.TypeA}
		if _, err := small.get(t.Context(), q, func(context.Context, question) *entry { return &entry{err: ErrNoSuchName} }); err != nil {
			t.Fatal(err)
		}
	}
	if len(small.entries) != cacheEntries {
		t.Errorf("%d small entries, want %d", len(small.entries), cacheEntries)
	}
}

func TestResolvConf(t *testing.T) {
	got := parseResolvConf("# comment\nnameserver 192.0.2.1\nnameserver bad\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nsearch example.org\n" +
		"options ndots:5 timeout:2 attempts:3 rotate\n")
	if fmt.Sprint(got.servers) != "[192.0.2.1:53 [2001:db8::1]:53 [fe80::1%eth0]:53]" || got.timeout != 2*time.Second || got.attempts != 3 || !got.rotate || got.trustAD {
		t.Errorf("%+v", got)
	}
	odd := parseResolvConf("nameserver\noptions timeout:0 attempts:99 timeout:x\n")
	if fmt.Sprint(odd.servers) != "[127.0.0.1:53]" || odd.timeout != time.Second || odd.attempts != 5 {
		t.Errorf("%+v", odd)
	}
}

// TestResolvConfChanges checks that a changed file is read anew within
// seconds, and that the last good reading outlives the file.
func TestResolvConfChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r := newResolvConf(StubConfig{ResolvConf: path})
		check := func(want string) {
			t.Helper()
			if got := fmt.Sprint(r.current().servers); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		check("[127.0.0.1:53]") // there is no file
		write("nameserver 192.0.2.1\n", 0)
		time.Sleep(watchEvery)
		check("[192.0.2.1:53]")
		write("nameserver 192.0.2.2\n", time.Second)
		check("[192.0.2.1:53]")
		time.Sleep(watchEvery)
		check("[192.0.2.2:53]")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(watchEvery)
		check("[192.0.2.2:53]")
	})
}
