package outbound

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// tlsaOf is the record of the given kind that describes cert.
func tlsaOf(cert *x509.Certificate, usage, selector, matching uint8) relay.TLSA {
	part := cert.Raw
	if selector == 1 {
		part = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(part)
		part = sum[:]
	case 2:
		sum := sha512.Sum512(part)
		part = sum[:]
	}
	return relay.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: part}
}

// leafOf is the certificate that a server of config shows, with its chain.
func leafOf(t testing.TB, config *tls.Config) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// expired is a server whose certificate is over since years.
func (a *authority) expired(t testing.TB, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(-2, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// withChain makes the server send the authority's certificate too.
func (a *authority) withChain(config *tls.Config) *tls.Config {
	config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, a.cert.Raw)
	return config
}

// TestDANE checks every kind of record with good and bad certificates: usages
// 2 and 3, selectors and matching types (RFC 7672 §3).
func TestDANE(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	right, wrongName, old := ca.withChain(ca.config(t, "a.example")), ca.withChain(ca.config(t, "x.example")), ca.withChain(ca.expired(t, "a.example"))
	alone := ca.config(t, "a.example")
	for usage := uint8(2); usage <= 3; usage++ {
		for selector := range uint8(2) {
			for matching := range uint8(3) {
				of := func(ca *authority, config *tls.Config) relay.TLSA {
					if usage == 2 {
						return tlsaOf(ca.cert, usage, selector, matching)
					}
					return tlsaOf(leafOf(t, config), usage, selector, matching)
				}
				anyName := usage == 3
				checkDANE(t, right, of(ca, right), relay.TLSFailureNone, true)
				checkDANE(t, right, of(other, wrongName), relay.FailedUntrusted, false)
				checkDANE(t, wrongName, of(ca, wrongName), relay.FailedMismatch, anyName)
				checkDANE(t, old, of(ca, old), relay.FailedExpired, anyName)
				// Only a whole certificate in the record replaces an anchor that is not sent.
				checkDANE(t, alone, of(ca, alone), relay.FailedUntrusted, anyName || selector == 0 && matching == 0)
			}
		}
	}
}

func checkDANE(t *testing.T, config *tls.Config, record relay.TLSA, failure relay.TLSFailure, good bool) {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range config.Certificates[0].Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	hold := &relay.Hold{By: relay.HeldByDANE, TLSA: []relay.TLSA{record}, Base: "a.example", Names: []string{"example.com", "a.example"}}
	switch err := matchTLSA(hold, chain); {
	case good && err != nil, !good && err != unverified(failure):
		t.Errorf("%d %d %d: %v, want good %v, or %d", record.Usage, record.Selector, record.Matching, err, good, failure)
	}
	hold.TLSA = []relay.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}, record}
	if err := matchTLSA(hold, chain); good && err != nil {
		t.Errorf("%d %d %d beside another: %v", record.Usage, record.Selector, record.Matching, err)
	}
}

// observed collects sessions.
type observed struct{ sessions []relay.TLSSession }

func (o *observed) Observe(s relay.TLSSession) { o.sessions = append(o.sessions, s) }

// TestHolds checks how each published policy meets each kind of host: what is
// delivered, what the log says was wanted and had, and what is reported.
func TestHolds(t *testing.T) {
	ca := newAuthority(t)
	right, wrong := ca.config(t, "a.example"), ca.config(t, "x.example")
	dane := &relay.Hold{By: relay.HeldByDANE, Base: "a.example", TLSA: []relay.TLSA{tlsaOf(leafOf(t, right), 3, 1, 1)}}
	bare := &relay.Hold{Require: true, Failure: relay.FailedTLSA}
	bogus := &relay.Hold{Refused: queue.CauseDNSTemporary, Failure: relay.FailedDNSSEC}
	sts, trial := &relay.Hold{By: relay.HeldBySTS}, &relay.Hold{By: relay.HeldBySTSTesting}
	foreign := &relay.Hold{By: relay.HeldBySTS, Refused: queue.CauseTLSUnverified, Failure: relay.FailedMismatch}
	const o, v, n = relay.TLSOpportunistic, relay.TLSVerify, relay.TLSNone
	had := func(how queue.Verified, want queue.Wanted) queue.TLS { return queue.TLS{Verified: how, Wanted: want} }
	none := func(why queue.NoTLS, want queue.Wanted) queue.TLS { return queue.TLS{None: why, Wanted: want} }
	for _, test := range []struct {
		name    string
		policy  relay.TLSPolicy
		hold    *relay.Hold
		offer   string
		config  *tls.Config
		cause   queue.Cause
		tls     queue.TLS
		failure relay.TLSFailure
		dials   int
	}{
		{"dane", o, dane, secure, right, 0, had(queue.VerifiedDANE, queue.WantedDANE), 0, 1},
		{"dane over verify", v, dane, secure, right, 0, had(queue.VerifiedDANE, queue.WantedDANE), 0, 1},
		{"dane, wrong certificate", o, dane, secure, wrong, queue.CauseTLSUnverified, none(queue.NoTLSUnverified, queue.WantedDANE), relay.FailedUntrusted, 1},
		{"dane, stripped", o, dane, pipelines, nil, queue.CauseTLSRequired, none(queue.NoTLSNotOffered, queue.WantedDANE), relay.FailedStartTLS, 1},
		{"dane, off", n, dane, secure, wrong, 0, none(queue.NoTLSOff, 0), 99, 1},
		{"unusable", o, bare, secure, wrong, 0, had(0, queue.WantedRequire), relay.FailedTLSA, 1},
		{"unusable, stripped", o, bare, pipelines, nil, queue.CauseTLSRequired, none(queue.NoTLSNotOffered, queue.WantedRequire), relay.FailedStartTLS, 1},
		{"unusable under verify", v, bare, secure, wrong, queue.CauseTLSUnverified, none(queue.NoTLSUnverified, queue.WantedVerify), relay.FailedMismatch, 1},
		{"bogus", o, bogus, secure, right, queue.CauseDNSTemporary, none(queue.NoTLSNotConnected, 0), relay.FailedDNSSEC, 0},
		{"sts", o, sts, secure, right, 0, had(queue.VerifiedSTS, queue.WantedSTS), 0, 1},
		{"sts, wrong name", o, sts, secure, wrong, queue.CauseTLSUnverified, none(queue.NoTLSUnverified, queue.WantedSTS), relay.FailedMismatch, 1},
		{"sts, stripped", o, sts, pipelines, nil, queue.CauseTLSRequired, none(queue.NoTLSNotOffered, queue.WantedSTS), relay.FailedStartTLS, 1},
		{"sts, foreign host", o, foreign, secure, right, queue.CauseTLSUnverified, none(queue.NoTLSNotConnected, queue.WantedSTS), relay.FailedMismatch, 0},
		{"testing", o, trial, secure, right, 0, had(queue.VerifiedPKIX, queue.WantedSTSTesting), 0, 1},
		{"testing, wrong name", o, trial, secure, wrong, 0, had(0, queue.WantedSTSTesting), relay.FailedMismatch, 1},
		{"testing, stripped", o, trial, pipelines, nil, 0, none(queue.NoTLSNotOffered, queue.WantedSTSTesting), relay.FailedStartTLS, 1},
		{"nothing", o, nil, secure, wrong, 0, had(0, 0), 0, 1},
		{"nothing, stripped", o, nil, pipelines, nil, 0, none(queue.NoTLSNotOffered, 0), relay.FailedStartTLS, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHop(t, server(test.offer, test.config, nil))
			where, seen := hops(1), new(observed)
			where.route.TLS, where.route.Domain, where.route.Hops[0].Hold = test.policy, "example.com", test.hold
			c := New(Config{Dial: h.dialTCP, Roots: ca.roots(), Observer: seen}, where)
			got := c.Deliver(t.Context(), claim(letter, "a@example.com"))
			c.Close()
			h.wg.Wait()
			if reply := got.Replies[0]; reply.Cause != test.cause || reply.Delivered() != (test.cause == 0) || reply.Permanent() {
				t.Errorf("%+v", reply)
			}
			got.TLS.Version, got.TLS.Cipher = 0, 0
			if got.TLS != test.tls || h.dials() != test.dials {
				t.Errorf("%+v over %d connections", got.TLS, h.dials())
			}
			if test.failure == 99 {
				if len(seen.sessions) != 0 {
					t.Errorf("reported %+v", seen.sessions)
				}
			} else if len(seen.sessions) != 1 || seen.sessions[0].Failure != test.failure || seen.sessions[0].Domain != "example.com" {
				t.Errorf("reported %+v, want one with %d", seen.sessions, test.failure)
			}
		})
	}
}

// TestWaived checks that "TLS-Required: No" waives the domain's policy, and that
// neither its connection is used for other mail nor REQUIRETLS gives way.
func TestWaived(t *testing.T) {
	ca := newAuthority(t)
	h := newHop(t, server(secure, ca.config(t, "x.example"), nil))
	where := hops(1)
	where.route.Hops[0].Hold = &relay.Hold{By: relay.HeldBySTS}
	c := New(Config{Dial: h.dialTCP, Roots: ca.roots()}, where)
	send := func(optional, require bool) relay.Result {
		m := claim(letter, "a@example.com")
		m.Envelope.TLSOptional, m.Envelope.RequireTLS = optional, require
		return c.Deliver(t.Context(), m)
	}
	if r := send(true, false); !r.Replies[0].Delivered() || r.TLS.Wanted != queue.WantedWaived || r.TLS.Verified != queue.VerifiedNo {
		t.Errorf("waived: %+v", r)
	}
	if r := send(false, false); r.Replies[0].Cause != queue.CauseTLSUnverified {
		t.Errorf("after it, over a kept connection or not: %+v", r)
	}
	if r := send(true, true); r.Replies[0].Cause != queue.CauseTLSUnverified || r.TLS.Wanted != queue.WantedRequireTLS {
		t.Errorf("with REQUIRETLS: %+v", r)
	}
	before := h.dials()
	if r := send(true, false); !r.Replies[0].Delivered() || h.dials() > before+1 {
		t.Errorf("waived once more: %+v", r)
	}
	c.Close()
	h.wg.Wait()
	if n := strings.Count(strings.Join(h.told(), "\n"), "MAIL"); n != 2 {
		t.Errorf("%d messages were begun, want 2", n)
	}
}

// FuzzTLSA feeds records and certificates of any kind: nothing panics, and what
// matches is what the record describes.
func FuzzTLSA(f *testing.F) {
	ca := newAuthority(f)
	leaf := leafOf(f, ca.config(f, "a.example"))
	for usage := range uint8(4) {
		record := tlsaOf(leaf, usage, usage%2, usage%3)
		f.Add(record.Usage, record.Selector, record.Matching, record.Data, leaf.Raw)
	}
	f.Add(uint8(2), uint8(0), uint8(0), ca.cert.Raw, leaf.Raw)
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			cert = leaf
		}
		record := relay.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
		hold := &relay.Hold{By: relay.HeldByDANE, TLSA: []relay.TLSA{record}, Names: []string{"a.example"}}
		if matchTLSA(hold, []*x509.Certificate{cert}) != nil {
			return
		}
		if !record.Usable() || usage == 3 && !describes(record, cert) {
			t.Errorf("%+v matches a certificate that it does not describe", record)
		}
	})
}
