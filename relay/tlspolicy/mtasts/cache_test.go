package mtasts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
)

// world is the DNS and the web of one domain, over pipes.
type world struct {
	mu      sync.Mutex
	records []string
	dnsErr  error
	answer  http.HandlerFunc
	pair    tls.Certificate
	roots   *x509.CertPool
	fetches int
	kept    []byte
	saves   int
	full    error // why nothing can be kept
}

var errDown = errors.New("down")

// newWorld has a web server with a certificate for name.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(50, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{pair: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots: x509.NewCertPool()}
	w.roots.AddCert(cert)
	w.publish("1", example)
	return w
}

// publish changes the policy and its record.
func (w *world) publish(id, text string) {
	w.records = []string{"v=STSv1; id=" + id + ";"}
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(rw, text)
	})
}

func (w *world) serve(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = h
}

func (w *world) TXT(_ context.Context, name string) ([]string, error) {
	if name != "_mta-sts.example.com" {
		return nil, nil
	}
	return w.records, w.dnsErr
}

func (w *world) Dial(_ context.Context, host string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetches++
	if host != "mta-sts.example.com" || w.answer == nil {
		return nil, errDown
	}
	ours, theirs := net.Pipe()
	answer := w.answer
	server := &http.Server{Handler: answer}
	server.SetKeepAlivesEnabled(false)
	go server.Serve(&oneConn{conn: tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{w.pair}})})
	return ours, nil
}

// oneConn is a listener with a single connection.
type oneConn struct {
	conn  net.Conn
	given bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.given {
		return nil, net.ErrClosed
	}
	l.given = true
	return l.conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// end closes the cache, and waits for what lingers of connections.
func end(t *testing.T, c *Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute)
}

func (w *world) Load() ([]byte, error) { return w.kept, nil }

func (w *world) Save(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full != nil {
		return w.full
	}
	w.kept = b
	w.saves++
	return nil
}

func (w *world) cache(t *testing.T) *Cache {
	t.Helper()
	c, err := New(Config{Source: w, Keeper: w, Roots: w.roots})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// is checks what the cache says of the domain: a mode, or a failure.
func is(t *testing.T, c *Cache, what string, mode string, failure relay.TLSFailure) {
	t.Helper()
	got := ""
	p, f := c.Policy(t.Context(), "example.com")
	if p != nil {
		got = p.Mode.String()
	}
	if got != mode || f != failure {
		t.Errorf("%s: %q, failure %d; want %q, %d", what, got, f, mode, failure)
	}
}

// TestLife follows a policy from its first fetch to its end.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "mta-sts.example.com")
		c := w.cache(t)
		is(t, c, "first", "enforce", 0)
		is(t, c, "again", "enforce", 0)
		if w.fetches != 1 {
			t.Errorf("%d fetches", w.fetches)
		}
		w.records = nil
		is(t, c, "record gone", "enforce", 0)
		w.dnsErr = errDown
		is(t, c, "DNS down", "enforce", 0)
		w.dnsErr = nil

		w.publish("2", strings.Replace(example, "enforce", "testing", 1))
		is(t, c, "changed", "testing", 0)
		w.records = []string{"v=STSv1; id=3;"}
		w.serve(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) })
		is(t, c, "changed, web server broken", "testing", 0)
		before := w.fetches
		is(t, c, "and again at once", "testing", 0)
		if w.fetches != before {
			t.Error("a fetch that failed was tried again at once")
		}
		w.publish("3", example)
		time.Sleep(retryAfter + time.Second)
		is(t, c, "repaired", "enforce", 0)

		time.Sleep(25 * time.Hour)
		before = w.fetches
		is(t, c, "a day later", "enforce", 0)
		synctest.Wait()
		if w.fetches != before+1 {
			t.Errorf("%d fetches in the background, want 1", w.fetches-before)
		}
		w.serve(nil)
		w.records = nil
		time.Sleep(6 * 24 * time.Hour)
		is(t, c, "nearly over", "enforce", 0)
		time.Sleep(2 * 24 * time.Hour)
		is(t, c, "over", "", 0)
		end(t, c)
	})
}

// TestFetchFaults is every way in which a fetch fails, none of which gives a policy.
func TestFetchFaults(t *testing.T) {
	plain := func(text string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			io.WriteString(rw, text)
		}
	}
	for _, test := range []struct {
		name, cert string
		answer     http.HandlerFunc
		failure    relay.TLSFailure
	}{
		{"not found", "mta-sts.example.com", http.NotFound, relay.FailedSTSFetch},
		{"redirect", "mta-sts.example.com", func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				plain(example)(rw, r)
				return
			}
			http.Redirect(rw, r, "/moved", http.StatusMovedPermanently)
		}, relay.FailedSTSFetch},
		{"HTML", "mta-sts.example.com", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			io.WriteString(rw, example)
		}, relay.FailedSTSFetch},
		{"too long", "mta-sts.example.com", plain(example + strings.Repeat("x: y\n", maxPolicy/5)), relay.FailedSTSFetch},
		{"endless", "mta-sts.example.com", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			for r.Context().Err() == nil {
				io.WriteString(rw, example)
			}
		}, relay.FailedSTSFetch},
		{"silent", "mta-sts.example.com", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, relay.FailedSTSFetch},
		{"slow", "mta-sts.example.com", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			for i := range example {
				time.Sleep(time.Second)
				io.WriteString(rw, example[i:i+1])
				rw.(http.Flusher).Flush()
			}
		}, relay.FailedSTSFetch},
		{"garbage", "mta-sts.example.com", plain("mode: enforce"), relay.FailedSTSPolicy},
		{"wrong certificate", "example.com", plain(example), relay.FailedSTSPKI},
		{"no web server", "mta-sts.example.com", nil, relay.FailedSTSFetch},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.cert)
				w.serve(test.answer)
				c := w.cache(t)
				begun := time.Now()
				is(t, c, "first", "", test.failure)
				if took := time.Since(begun); took > fetchWithin {
					t.Errorf("it took %v", took)
				}
				is(t, c, "again", "", test.failure)
				if w.fetches != 1 {
					t.Errorf("%d fetches", w.fetches)
				}
				if end(t, c); w.saves != 0 {
					t.Errorf("%d saves", w.saves)
				}
			})
		})
	}
}

// TestKept checks that policies outlive the process, and that what is damaged does no harm.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "mta-sts.example.com")
		c := w.cache(t)
		is(t, c, "first", "enforce", 0)
		time.Sleep(saveAfter + time.Second)
		synctest.Wait()
		if w.saves != 1 {
			t.Errorf("%d saves", w.saves)
		}
		if end(t, c); w.saves != 1 {
			t.Errorf("%d saves: nothing had changed", w.saves)
		}
		w.records, w.answer = nil, nil // an attacker strips everything
		c = w.cache(t)
		is(t, c, "after a restart", "enforce", 0)
		c.Close()
		kept := w.kept
		w.kept = kept[:len(kept)/2]
		if broken, err := New(Config{Source: w, Keeper: w}); err == nil {
			t.Error("half a file is no error")
		} else {
			is(t, broken, "half a file", "", 0)
			broken.Close()
		}
		w.kept = kept
		time.Sleep(8 * 24 * time.Hour)
		c = w.cache(t)
		is(t, c, "after its end", "", 0)
		c.Close()
	})
}

// TestKeptLater has the disk be full for a while: what could not be kept then is
// kept afterwards, although nothing is fetched any more.
func TestKeptLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "mta-sts.example.com")
		w.full = errDown
		c := w.cache(t)
		is(t, c, "first", "enforce", 0)
		time.Sleep(saveAfter + time.Second)
		synctest.Wait()
		w.mu.Lock()
		w.full = nil
		w.mu.Unlock()
		time.Sleep(saveAfter)
		synctest.Wait()
		if w.saves != 1 {
			t.Errorf("%d saves with the disk well again", w.saves)
		}
		end(t, c)
		w.records, w.answer = nil, nil // an attacker strips everything
		c = w.cache(t)
		is(t, c, "after a restart", "enforce", 0)
		end(t, c)
	})
}

// TestBounded checks that the cache forgets the oldest rather than grow.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "mta-sts.example.com")
		c := w.cache(t)
		p, err := parsePolicy(example + strings.Repeat("x: "+strings.Repeat("y", 1000)+"\n", 20))
		if err != nil {
			t.Fatal(err)
		}
		p.Text = append(p.Text, strings.Repeat("z", 40_000))
		c.mu.Lock()
		for i := range maxEntries + 10 {
			c.put(fmt.Sprintf("d%d.example", i), &entry{id: "1", fetched: time.Now(), policy: p})
		}
		if c.octets > maxOctets || len(c.entries) > maxEntries || len(c.entries) < 100 || c.entries[fmt.Sprintf("d%d.example", maxEntries+9)] == nil {
			t.Errorf("%d entries of %d octets", len(c.entries), c.octets)
		}
		c.mu.Unlock()
		c.Close()
	})
}

// TestFlight checks that those who ask at the same time share one fetch, and
// that one who gives up leaves the others theirs.
func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "mta-sts.example.com")
		policy := w.answer
		w.serve(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			policy(rw, r)
		})
		c := w.cache(t)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { is(t, c, "together", "enforce", 0) })
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p, f := c.Policy(ctx, "example.com"); p != nil || f != relay.FailedSTSFetch {
			t.Errorf("%v, %d for one who gives up", p, f)
		}
		wg.Wait()
		if w.fetches != 1 {
			t.Errorf("%d fetches", w.fetches)
		}
		end(t, c)
		is(t, c, "closed", "enforce", 0)
	})
}
