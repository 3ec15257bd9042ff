package outbound

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// drip says the usual answer to a state, one octet a second.
func drip(s *side, state string) {
	for _, c := range []byte(usual(state) + "\r\n") {
		if _, err := s.conn.Write([]byte{c}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// A peer that is slow and says everything is a peer.
func TestOneOctetASecond(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines, chunks} {
		for _, state := range states {
			if offer == chunks && state.name == "data" {
				continue // it is not said
			}
			t.Run(offer+"/"+state.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, h := deliver(t, claim(letter, "a@example.com"), server(offer, nil, func(s *side, at, _ string) string {
						if at != state.name {
							return ""
						}
						drip(s, at)
						return "."
					}))
					if !r.Replies[0].Delivered() || len(h.taken()) != 1 || h.dials() != 1 {
						t.Errorf("%+v, %d messages over %d connections", r.Replies[0], len(h.taken()), h.dials())
					}
				})
			})
		}
	}
}

// A peer that answers a state and then reads no more is given up on in the time
// of the step that follows.
func TestStopsReading(t *testing.T) {
	limits := Timeouts{}.withDefaults()
	type outcome struct {
		cause queue.Cause
		took  time.Duration
	}
	waits := func(d time.Duration) outcome { return outcome{queue.CauseTimeout, d} }
	want := map[string]map[string]outcome{
		lockstep: {
			"greeting": waits(limits.Command), "ehlo": waits(limits.Command), "mail": waits(limits.Command),
			"rcpt": waits(limits.Command), "data": {queue.CauseAmbiguous, limits.DataBlock}, "end": {},
		},
		pipelines: {
			"greeting": waits(limits.Command), "ehlo": waits(limits.Command), "mail": waits(limits.Command),
			"rcpt": waits(limits.DataStart), "data": {queue.CauseAmbiguous, limits.DataBlock}, "end": {},
		},
		chunks: { // the chunk went out with its commands
			"greeting": waits(limits.Command), "ehlo": {queue.CauseAmbiguous, limits.Command}, "mail": {queue.CauseAmbiguous, limits.Command},
			"rcpt": {queue.CauseAmbiguous, limits.DataEnd}, "end": {},
		},
	}
	for offer, cells := range want {
		for state, cell := range cells {
			t.Run(offer+"/"+state, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHop(t, server(offer, nil, func(s *side, at, _ string) string {
						if at != state {
							return ""
						}
						if at == "ehlo" {
							s.say((&serverSession{side: s, keywords: strings.Fields(offer)}).offers())
						} else {
							s.say(usual(at))
						}
						time.Sleep(time.Hour)
						return "-"
					}))
					c := New(Config{Dial: h.dial}, hops(1))
					begun := time.Now()
					r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
					if took := time.Since(begun); took != cell.took || r.Cause != cell.cause || r.Delivered() != (state == "end") {
						t.Errorf("after %v: %+v; want %v after %v", took, r, cell.cause, cell.took)
					}
					c.Close()
					h.wg.Wait()
				})
			})
		}
	}
}

// The same misdeeds where the session is under TLS, or on its way there: never
// in the clear, never for good, and nothing is sent.
func TestMisbehaviourUnderTLS(t *testing.T) {
	ca := newAuthority(t)
	config := ca.config(t, "a.example")
	config.SessionTicketsDisabled = true // a pipe holds no ticket while the other side writes
	for _, state := range []struct {
		name  string
		stage queue.Stage
	}{{"starttls", queue.StageTLS}, {"ehlo", queue.StageEhlo}, {"auth", queue.StageAuth}} {
		for _, deed := range misdeeds {
			t.Run(state.name+"/"+deed.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHop(t, server(pipelines+" STARTTLS AUTH_PLAIN", config, func(s *side, at, _ string) string {
						if at == state.name && (at != "ehlo" || s.tls) {
							return deed.do(s, at)
						}
						return ""
					}))
					where := hops(1)
					where.route.TLS, where.route.Auth = relay.TLSVerify, &relay.Login{User: "user", Password: "secret"}
					c := New(Config{Dial: h.dial, Roots: ca.roots()}, where)
					r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
					c.Close()
					h.wg.Wait()
					if r.Delivered() || r.Permanent() || len(h.taken()) != 0 || h.dials() != 1 || deed.code != 0 && r.Code != deed.code || r.Cause == queue.CauseNone && r.Code/100 != 4 {
						t.Errorf("%+v over %d connections", r, h.dials())
					}
				})
			})
		}
	}
}

// A kept connection on which RSET goes wrong costs no message: what could not
// have been sent over it goes over another, or waits.
func TestMisbehaviourAtRSET(t *testing.T) {
	anew := map[string]bool{
		"close": true, "reset": true, "421": true, "450": true, "550": true, "half a line and close": true,
		"unsolicited 354": true,
	}
	for _, deed := range misdeeds {
		t.Run(deed.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hostile := server(pipelines, nil, func(s *side, at, line string) string {
					switch {
					case at == "rset":
						return deed.do(s, at)
					case at == "rcpt" && s.mails == 0:
						s.mails++
						return "550 5.1.1 nobody"
					}
					return ""
				})
				h := newHop(t, hostile, server(pipelines, nil, nil))
				c := New(Config{Dial: h.dial}, hops(1))
				c.Deliver(t.Context(), claim(letter, "nobody@example.com"))
				r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
				c.Close()
				h.wg.Wait()
				if r.Delivered() != anew[deed.name] || r.Permanent() || len(h.taken()) > 1 || r.Delivered() && len(h.taken()) != 1 {
					t.Errorf("%+v, %d messages over %d connections", r, len(h.taken()), h.dials())
				}
			})
		})
	}
}

// Whatever a hop does, its connection and its descriptor come back, and mail
// for others goes on meanwhile. Goroutines are looked for after all tests.
func TestEverythingComesBack(t *testing.T) {
	before := descriptors(t)
	limits := Timeouts{Greeting: 300 * time.Millisecond, Command: 300 * time.Millisecond, DataStart: 300 * time.Millisecond,
		DataBlock: 300 * time.Millisecond, DataEnd: 300 * time.Millisecond}
	good := newHop(t, server(pipelines, nil, nil))
	others := New(Config{Dial: good.dialTCP, Timeouts: limits}, hops(1))
	var wg sync.WaitGroup
	for _, state := range states {
		for _, deed := range misdeeds {
			wg.Go(func() {
				h := newHop(t, server(pipelines, nil, func(s *side, at, _ string) string {
					if at == state.name {
						return deed.do(s, at)
					}
					return ""
				}))
				c := New(Config{Dial: h.dialTCP, Timeouts: limits}, hops(1))
				c.Deliver(t.Context(), claim(letter, "a@example.com"))
				c.Close()
				if n := len(c.pool.live); n != 0 {
					t.Errorf("%s/%s: %d connections are left", state.name, deed.name, n)
				}
				h.wg.Wait()
			})
		}
	}
	for range 50 {
		if r := others.Deliver(t.Context(), claim(letter, "b@example.org")).Replies[0]; !r.Delivered() {
			t.Errorf("another destination: %+v", r)
		}
	}
	wg.Wait()
	others.Close()
	good.wg.Wait()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Certificates that no one should have made are refused where one is asked
// for, and harm nobody where none is.
func TestHostileCertificates(t *testing.T) {
	ca := newAuthority(t)
	many := make([]string, 4000)
	for i := range many {
		many[i] = fmt.Sprintf("host-%d.example", i)
	}
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		times  int // how often the certificate stands in the chain
	}{
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Unix(1, 0) }, 1},
		{"not yet valid", func(c *x509.Certificate) { c.NotBefore = time.Now().AddDate(50, 0, 0) }, 1},
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, 1},
		{"no name", func(c *x509.Certificate) { c.DNSNames = nil }, 1},
		{"name as common name", func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{CommonName: "a.example"} }, 1},
		{"NUL in its name", func(c *x509.Certificate) { c.DNSNames = []string{"a.example\x00.evil.example"} }, 1},
		{"wildcard above all", func(c *x509.Certificate) { c.DNSNames = []string{"*"} }, 1},
		{"thousands of names", func(c *x509.Certificate) { c.DNSNames = many }, 1},
		{"a chain without end", func(c *x509.Certificate) { c.DNSNames = many[:50] }, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := ca.hostile(t, test.change, test.times)
			for _, policy := range []relay.TLSPolicy{relay.TLSOpportunistic, relay.TLSVerify} {
				h := newHop(t, server(secure, config, nil))
				where := hops(1)
				where.route.TLS = policy
				c := New(Config{Dial: h.dialTCP, Roots: ca.roots()}, where)
				r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
				c.Close()
				h.wg.Wait()
				delivered := policy == relay.TLSOpportunistic
				if got := r.Replies[0]; got.Delivered() != delivered || got.Permanent() || r.TLS.Verified != queue.VerifiedNo {
					t.Errorf("policy %d: %+v, %+v", policy, got, r.TLS)
				}
			}
		})
	}
}

// hostile is the TLS of a server with a certificate that change has had its way with.
func (a *authority) hostile(t *testing.T, change func(*x509.Certificate), times int) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), DNSNames: []string{"a.example"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	chain := make([][]byte, times)
	for i := range chain {
		chain[i] = der
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}
}
