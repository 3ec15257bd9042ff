package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// selftestDomain is where canaries are sent. No mail of anyone goes there (RFC 2606 §2).
const selftestDomain = "selftest.invalid"

// detour is the way that canaries take while a self-test runs.
type detour struct {
	domain queue.Domain
	to     netip.AddrPort // on loopback
}

// takes tells whether the recipient is a canary.
func (d *detour) takes(to queue.ForwardPath) bool { return d != nil && to.Domain() == d.domain }

// route is the detour in the words of outbound.
func (d *detour) route() *relay.Route {
	return &relay.Route{Hops: []relay.Hop{{Name: d.to.Addr().String(), Addr: d.to}}}
}

// sendCanary submits a message with the words of q in it to a listener of the relay, under a
// login for this one time, and waits until it has been delivered to q's hop. If
// that fails the message is deleted. The login ends with it either way.
func (d *daemon) sendCanary(ctx context.Context, q url.Values) (string, error) {
	hop, err := netip.ParseAddrPort(q.Get("hop"))
	if err != nil || !hop.Addr().IsLoopback() {
		return "", errors.New("the next hop of a self-test is on loopback")
	}
	for place, words := range q {
		if place != "hop" && place != "address" && (len(words) != 1 || strings.Trim(words[0], "abcdefghijklmnopqrstuvwxyz234567") != "") {
			return "", errors.New("a canary is a word of letters and digits")
		}
	}
	way := &detour{queue.Domain(strings.ToLower(rand.Text()[:10]) + "." + selftestDomain), hop}
	if !d.routes.detour.CompareAndSwap(nil, way) {
		return "", errors.New("another self-test runs: try again in a moment")
	}
	defer d.routes.detour.Store(nil)
	d.selftest.Store(&oneLogin{user: q.Get("user"), password: q.Get("password")})
	defer d.selftest.Store(nil)
	to, end, err := d.selftestPort(ctx, q.Get("address"))
	if err != nil {
		return "", err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	id, err := submitCanary(ctx, to, q, way.domain)
	if err != nil {
		return "", err
	}
	if err := d.awaitDelivery(ctx, id); err != nil {
		return "", errors.Join(err, d.relay.Delete(context.WithoutCancel(ctx), id))
	}
	return id.String(), nil
}

// canaryMail is the message of a self-test.
func canaryMail(q url.Values) string {
	return "From: " + q.Get("from") + " <a@" + selftestDomain + ">\r\nTo: " + q.Get("to") + " <b@" + selftestDomain + ">\r\n" +
		"Subject: " + q.Get("subject") + "\r\nMessage-ID: <" + q.Get("message-id") + "@" + selftestDomain + ">\r\n" +
		"X-Self-Test: " + q.Get("field") + "\r\n\r\n" + q.Get("body") + "\r\n"
}

// awaitDelivery waits until the queue holds the message no more.
func (d *daemon) awaitDelivery(ctx context.Context, id queue.ID) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := d.store.Get(ctx, id)
		if errors.Is(err, queue.ErrNotFound) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the canary was not delivered in time")
		case <-tick.C:
		}
	}
}

// capture is a next hop that keeps the one message it gets.
type capture struct {
	swallow
	address netip.AddrPort
	server  *inbound.Server
	done    chan error

	mu      sync.Mutex
	content []byte
}

func startCapture() (*capture, error) {
	l, err := inbound.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening a next hop: %w", err)
	}
	c := &capture{address: addrPort(l.Addr()), done: make(chan error, 1)}
	c.server = inbound.New(inbound.Config{Hostname: "next-hop." + selftestDomain, Relay: c})
	go func() { c.done <- c.server.Serve(l, inbound.Listener{Kind: inbound.MX, TLS: inbound.NoTLS}) }()
	return c, nil
}

// Accept implements inbound.Relay.
func (c *capture) Accept(_ context.Context, _ *queue.Envelope, content io.Reader, _ relay.Session) (queue.ID, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return queue.ID{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = b
	return queue.NewID(time.Now()), nil
}

func (c *capture) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.server.Shutdown(ctx) // being cut off is no error here
	return <-c.done
}

// judge looks at what the next hop got: the message as it was, and nothing of
// the session behind it.
func (c *capture) judge(canaries []canary) found {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := found{Where: "what the next hop got"}
	for _, one := range canaries {
		switch has := containsWord(c.content, one.Word); one.Place {
		case "user", "password", "helo", "sni", "envid":
			if has {
				r.Leaks = append(r.Leaks, one.Place)
			}
		case "from", "to", "subject", "message-id", "field", "body":
			if !has {
				r.Leaks = append(r.Leaks, one.Place+" is missing")
			}
		}
	}
	r.OK = len(r.Leaks) == 0
	return r
}
