package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"net/url"
	"strings"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay/auth"
	"tacet/relay/inbound"
)

// logins are those who may submit: the users, and while a self-test runs its own
// login, which holds for one time and never leaves this process.
type logins struct {
	*auth.Users
	selftest *atomic.Pointer[oneLogin]
}

// oneLogin is a login that holds once.
type oneLogin struct {
	user, password string
	used           atomic.Bool
}

// takes tells whether it is this login, which it is once.
func (l *oneLogin) takes(user, password string) bool {
	return l != nil && user == l.user && subtle.ConstantTimeCompare([]byte(password), []byte(l.password)) == 1 && l.used.CompareAndSwap(false, true)
}

// Authenticate implements inbound.Authenticator.
func (l logins) Authenticate(ctx context.Context, user, password string) (known bool, err error) {
	if l.selftest.Load().takes(user, password) {
		return true, nil
	}
	return l.Users.Authenticate(ctx, user, password)
}

// Exists implements inbound.Authenticator.
func (l logins) Exists(user string) bool {
	own := l.selftest.Load()
	return own != nil && user == own.user || l.Users.Exists(user)
}

// MaySend implements content.Owners.
func (l logins) MaySend(user, address string) bool {
	own := l.selftest.Load()
	return own != nil && user == own.user || l.Users.MaySend(user, address)
}

// errNoListener is of a self-test of a listener that it cannot log in to.
var errNoListener = errors.New("the self-test logs in like a mail client, and the listener that --address names is no submission listener with TLS: name another one, or leave --address away")

// selftestPort is the submission listener of an address, as the config has it
// or as it is open; without one the first that has TLS, or one of the test's own if there is none.
// end is called when the message is in.
func (d *daemon) selftestPort(ctx context.Context, address string) (p port, end func(), err error) {
	for i, p := range d.ports {
		named := address != "" && (address == d.config.Listeners[i].Address || address == p.Addr().String())
		if p.kind.Kind == inbound.Submission && p.kind.TLS != inbound.NoTLS && (named || address == "") {
			return p, func() {}, nil
		}
	}
	if address != "" {
		return p, nil, errNoListener
	}
	return d.selftestDoor(ctx)
}

// submitCanary hands the message with the words of q to a listener, as a mail
// client does, and returns its queue ID.
func submitCanary(ctx context.Context, to port, q url.Values, domain queue.Domain) (id queue.ID, err error) {
	at := addrPort(to.Addr())
	if at.Addr().IsUnspecified() {
		loopback := netip.IPv6Loopback()
		if at.Addr().Is4() {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		at = netip.AddrPortFrom(loopback, at.Port())
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return id, fmt.Errorf("connecting to the listener: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return id, fmt.Errorf("connecting to the listener: %w", err)
		}
	}
	// Who answers is this very process: there is nobody to verify.
	secure := &tls.Config{InsecureSkipVerify: true, ServerName: q.Get("sni") + "." + selftestDomain}
	if to.kind.TLS == inbound.ImplicitTLS {
		conn = tls.Client(conn, secure)
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return id, fmt.Errorf("the listener's greeting: %w", err)
	}
	return talkCanary(client, to.kind.TLS == inbound.StartTLS, secure, q, domain)
}

// talkCanary is the session of the message.
func talkCanary(client *smtp.Client, startTLS bool, secure *tls.Config, q url.Values, domain queue.Domain) (id queue.ID, err error) {
	say := func(code int, format string, args ...any) func() error {
		return func() error {
			n, err := client.Text.Cmd(format, args...)
			if err != nil {
				return err
			}
			client.Text.StartResponse(n)
			defer client.Text.EndResponse(n)
			_, _, err = client.Text.ReadResponse(code)
			return err
		}
	}
	steps := []func() error{func() error { return client.Hello(q.Get("helo") + "." + selftestDomain) }}
	if startTLS {
		steps = append(steps, func() error { return client.StartTLS(secure) })
	}
	steps = append(steps,
		func() error { return client.Auth(smtp.PlainAuth("", q.Get("user"), q.Get("password"), "localhost")) },
		say(250, "MAIL FROM:<%s@%s> ENVID=%s", q.Get("sender"), domain, q.Get("envid")),
		say(250, "RCPT TO:<%s@%s> NOTIFY=NEVER", q.Get("recipient"), domain),
		say(354, "DATA"))
	for _, step := range steps {
		if err := step(); err != nil {
			return id, fmt.Errorf("submitting the canary: %w", err)
		}
	}
	body := client.Text.DotWriter()
	_, err = body.Write([]byte(canaryMail(q)))
	if err = errors.Join(err, body.Close()); err != nil {
		return id, fmt.Errorf("submitting the canary: %w", err)
	}
	_, reply, err := client.Text.ReadResponse(250)
	if err != nil {
		return id, fmt.Errorf("submitting the canary: %w", err)
	}
	id, err = queue.ParseID(reply[strings.LastIndexByte(reply, ' ')+1:])
	if err != nil {
		return id, fmt.Errorf("submitting the canary: %w", err)
	}
	_ = client.Quit() // it has been taken already
	return id, nil
}
