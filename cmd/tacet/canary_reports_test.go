package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
	"tacet/relay/aggregate/dmarcrpt"
	"tacet/relay/aggregate/tlsrpt"
)

// The reports that domains get of what the relay has counted: the day is made to be over, and what
// the collectors then send goes through the relay to the next hop "told", and to a web server.

// reported has the reports of the counts so far go out, and looks at them.
func (s *canaryRelay) reported(t *testing.T, saw sightings) {
	t.Helper()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.reports.Run(over) // keeps what was counted
	s.dmarc.Run(over)
	delivered := s.w.count("delivered")
	web := &canaryWeb{s: s, got: func(octets []byte) { saw.look(s.w.canarySet, "report:web", octets) }}
	s.nextDay(t, "tlsreports", true, func(w *outsideBubble, kept *keptText) (runner, error) {
		return tlsrpt.New(tlsrpt.Config{Hostname: s.config.Hostname, Contact: s.config.Postmaster, World: w, Keeper: kept, HTTP: web})
	})
	s.nextDayDMARC(t)
	s.w.until("delivered", delivered+3) // of two domains on TLS, of one on DMARC
	packed := unpackedReports(t, s.w.hops["told"].received())
	if len(packed) != 3 {
		t.Errorf("%d reports were sent", len(packed))
	}
	for _, report := range packed {
		saw.look(s.w.canarySet, "hop:told", report)
	}
}

type runner interface{ Run(context.Context) }

// nextDayDMARC has the reports on DMARC go out of what is kept.
func (d *daemon) nextDayDMARC(t *testing.T) {
	t.Helper()
	d.nextDay(t, "dmarcreports", false, func(w *outsideBubble, kept *keptText) (runner, error) {
		return dmarcrpt.New(dmarcrpt.Config{Hostname: d.config.Hostname, Contact: d.config.Postmaster, World: w, Keeper: kept})
	})
}

// nextDay has a collector send the reports of what is kept in a file, as of yesterday: it
// lives in a time of its own, in which the hours until then are over at once, and the world without.
func (d *daemon) nextDay(t *testing.T, name string, signed bool, collector func(*outsideBubble, *keptText) (runner, error)) {
	t.Helper()
	text, err := d.config.sealed(name).Load()
	if err != nil {
		t.Fatal(err)
	}
	var days map[string]json.RawMessage
	if err := json.Unmarshal(text, &days); err != nil || len(days) == 0 {
		t.Fatalf("%s: %q, %v", name, text, err)
	}
	newest := days[slices.Max(slices.Collect(maps.Keys(days)))]
	text, err = json.Marshal(map[string]json.RawMessage{"1999-12-31": newest})
	if err != nil {
		t.Fatal(err)
	}
	o := &outsideBubble{ctx: t.Context(), world: reportWorld{d, &d.routes, signed}, calls: make(chan func()), done: make(chan struct{})}
	go o.serve()
	defer close(o.calls)
	synctest.Test(t, func(t *testing.T) { // begins in 2000
		c, err := collector(o, &keptText{text})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		c.Run(ctx)
	})
}

// keptText is a Keeper in memory.
type keptText struct{ text []byte }

func (k *keptText) Load() ([]byte, error)     { return k.text, nil }
func (k *keptText) Save(content []byte) error { k.text = content; return nil }

// outsideBubble is the relay as its reports use it, called from a bubble: what they ask for
// is done outside of it, in the time of all others.
type outsideBubble struct {
	ctx   context.Context
	world reportWorld
	calls chan func()
	done  chan struct{}
}

func (o *outsideBubble) serve() {
	for call := range o.calls {
		call()
		o.done <- struct{}{}
	}
}

func (o *outsideBubble) do(call func()) {
	o.calls <- call
	<-o.done
}

func (o *outsideBubble) TXT(_ context.Context, name string) (found []string, err error) {
	o.do(func() { found, err = o.world.TXT(o.ctx, name) })
	return found, err
}

func (o *outsideBubble) Dial(_ context.Context, host string) (conn net.Conn, err error) {
	o.do(func() { conn, err = o.world.Dial(o.ctx, host) })
	return conn, err
}

func (o *outsideBubble) Organizational(_ context.Context, domain string) (found string, err error) {
	o.do(func() { found, err = o.world.Organizational(o.ctx, domain) })
	return found, err
}

func (o *outsideBubble) Submit(_ context.Context, to string, content []byte) (err error) {
	o.do(func() { err = o.world.Submit(o.ctx, to, content) })
	return err
}

// canaryWeb is the web server that a domain wants reports at.
type canaryWeb struct {
	s   *canaryRelay
	got func([]byte)
}

func (c *canaryWeb) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		return nil, err
	}
	plain, err := unzipped(body)
	if err != nil {
		return nil, err
	}
	c.s.at(atPost, &canarySight{answer: &wire})
	c.got(wire.Bytes())
	c.got(plain)
	return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, nil
}

func unzipped(packed []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}

// unpackedReports are the reports in letters as they came over the wire.
func unpackedReports(t *testing.T, mail []byte) (reports [][]byte) {
	t.Helper()
	for paragraph := range strings.SplitSeq(string(mail), "\r\n\r\n") {
		text, _, _ := strings.Cut(paragraph, "\r\n--")
		if !strings.HasPrefix(text, "H4sI") { // gzip's magic
			continue
		}
		packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\r\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := unzipped(packed)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, plain)
	}
	return reports
}

// kept looks at what is in the files that are encrypted under a key of their own. The relay has ended.
func (w *canaryWorld) kept(t *testing.T, saw sightings) {
	t.Helper()
	entries, err := os.ReadDir(w.path("data"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, entry := range entries {
		file := sealedFile{w.path("data/" + entry.Name()), w.path("data/keys/" + entry.Name())}
		if _, err := os.Stat(file.key); err != nil || !entry.Type().IsRegular() {
			continue
		}
		content, err := file.Load()
		if err != nil {
			t.Errorf("%s: %v", entry.Name(), err)
		}
		saw.look(w.canarySet, "kept:"+entry.Name(), content)
		seen++
	}
	if seen < 4 { // the counts of users and for both kinds of reports, and the ledger
		t.Errorf("%d files are kept under keys of their own", seen)
	}
	err = filepath.WalkDir(w.path("data/keys"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(entry.Name(), ".next") {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// hookedTLS counts sessions by way of a hook.
type hookedTLS struct {
	relay.TLSObserver
	s *canaryRelay
}

func (h hookedTLS) Observe(session relay.TLSSession) {
	h.s.at(atCount, &canarySight{session: &session})
	h.TLSObserver.Observe(session)
}

// hookedDMARC counts outcomes likewise.
type hookedDMARC struct {
	relay.DMARCObserver
	s *canaryRelay
}

func (h hookedDMARC) Observe(outcome relay.DMARCOutcome) {
	h.s.at(atCount, &canarySight{outcome: &outcome})
	h.DMARCObserver.Observe(outcome)
}
