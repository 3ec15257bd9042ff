package outbound

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
)

const secure = pipelines + " StartTLS"

// tlsFaults are what a hop may do to STARTTLS.
var tlsFaults = map[string]hook{
	"refused": func(_ *side, state, _ string) string {
		if state == "starttls" {
			return "454 4.7.0 not now"
		}
		return ""
	},
	"garbage": func(s *side, state, _ string) string {
		if state == "starttls" {
			s.say("220 go", "these are no TLS records at all, whatever you think")
			return "-"
		}
		return ""
	},
	"late garbage": func(s *side, state, _ string) string {
		if state == "starttls" {
			s.say("220 go")
			s.in.Peek(1)
			s.say("these are no TLS records at all, whatever you think")
			s.stall()
			return "-"
		}
		return ""
	},
	"close": func(s *side, state, _ string) string {
		if state == "starttls" {
			s.say("220 go")
			return "-"
		}
		return ""
	},
	"injected": func(s *side, state, _ string) string {
		if state == "starttls" {
			return "220 go\r\n250-evil.example\r\n250 AUTH PLAIN"
		}
		return ""
	},
}

func TestTLSPolicies(t *testing.T) {
	ca := newAuthority(t)
	right, wrong := ca.config(t, "a.example"), ca.config(t, "other.example")
	old := right.Clone()
	old.MaxVersion = tls.VersionTLS11
	const (
		o, r, v, n = relay.TLSOpportunistic, relay.TLSRequire, relay.TLSVerify, relay.TLSNone
	)
	clear := func(why queue.NoTLS) queue.TLS { return queue.TLS{None: why} }
	pkix, any := queue.TLS{Verified: queue.VerifiedPKIX}, queue.TLS{}
	tests := []struct {
		name   string
		policy relay.TLSPolicy
		offer  string
		config *tls.Config
		hook   hook
		cause  queue.Cause // CauseNone: delivered
		tls    queue.TLS   // without version and cipher
		dials  int
	}{
		{"right", o, secure, right, nil, 0, pkix, 1},
		{"right", r, secure, right, nil, 0, pkix, 1},
		{"right", v, secure, right, nil, 0, pkix, 1},
		{"right", n, secure, right, nil, 0, clear(queue.NoTLSOff), 1},
		{"wrong name", o, secure, wrong, nil, 0, any, 1},
		{"wrong name", r, secure, wrong, nil, 0, any, 1},
		{"wrong name", v, secure, wrong, nil, queue.CauseTLSUnverified, clear(queue.NoTLSUnverified), 1},
		{"not offered", o, pipelines, nil, nil, 0, clear(queue.NoTLSNotOffered), 1},
		{"not offered", r, pipelines, nil, nil, queue.CauseTLSRequired, clear(queue.NoTLSNotOffered), 1},
		{"not offered", v, pipelines, nil, nil, queue.CauseTLSRequired, clear(queue.NoTLSNotOffered), 1},
		{"TLS 1.1", o, secure, old, nil, 0, clear(queue.NoTLSHandshakeFailed), 2},
		{"TLS 1.1", r, secure, old, nil, queue.CauseTLSHandshake, clear(queue.NoTLSHandshakeFailed), 1},
		{"refused", o, secure, right, tlsFaults["refused"], 0, clear(queue.NoTLSRefused), 2},
		{"refused", r, secure, right, tlsFaults["refused"], queue.CauseTLSHandshake, clear(queue.NoTLSRefused), 1},
		{"late garbage", o, secure, right, tlsFaults["late garbage"], 0, clear(queue.NoTLSHandshakeFailed), 2},
		{"late garbage", v, secure, right, tlsFaults["late garbage"], queue.CauseTLSHandshake, clear(queue.NoTLSHandshakeFailed), 1},
		{"close", o, secure, right, tlsFaults["close"], 0, clear(queue.NoTLSHandshakeFailed), 2},
		{"close", r, secure, right, tlsFaults["close"], queue.CauseTLSHandshake, clear(queue.NoTLSHandshakeFailed), 1},
		{"garbage", o, secure, right, tlsFaults["garbage"], queue.CauseProtocol, clear(queue.NoTLSHandshakeFailed), 1},
		{"injected", o, secure, right, tlsFaults["injected"], queue.CauseProtocol, clear(queue.NoTLSHandshakeFailed), 1},
		{"injected", v, secure, right, tlsFaults["injected"], queue.CauseProtocol, clear(queue.NoTLSHandshakeFailed), 1},
	}
	for _, test := range tests {
		t.Run(test.name+"/"+[]string{"opportunistic", "require", "verify", "none"}[test.policy], func(t *testing.T) {
			h := newHop(t, server(test.offer, test.config, test.hook))
			where := hops(1)
			where.route.TLS = test.policy
			c := New(Config{Dial: h.dialTCP, Roots: ca.roots()}, where)
			got := c.Deliver(t.Context(), claim(letter, "a@example.com"))
			c.Close()
			h.wg.Wait()
			if reply := got.Replies[0]; reply.Cause != test.cause || reply.Delivered() != (test.cause == 0) || reply.Permanent() {
				t.Errorf("%+v", reply)
			}
			if test.tls.None == 0 && test.cause == 0 && (got.TLS.Version != tls.VersionTLS13 || got.TLS.Cipher == 0) {
				t.Errorf("%+v", got.TLS)
			}
			got.TLS.Version, got.TLS.Cipher = 0, 0
			test.tls.Wanted = []queue.Wanted{queue.WantedNothing, queue.WantedRequire, queue.WantedVerify, queue.WantedNothing}[test.policy]
			if got.TLS != test.tls || h.dials() != test.dials {
				t.Errorf("%+v over %d connections", got.TLS, h.dials())
			}
			if clearText := strings.Contains(strings.Join(h.told(), "\n"), "MAIL"); clearText != (test.cause == 0) {
				t.Errorf("MAIL was sent: %v", clearText)
			}
		})
	}
}

// What a server says in the clear counts no more under TLS, and what it says
// under TLS needs no second STARTTLS.
func TestCapabilitiesOnlyFromTLS(t *testing.T) {
	ca := newAuthority(t)
	h := newHop(t, server(secure, ca.config(t, "a.example"), func(s *side, state, _ string) string {
		if state == "ehlo" && !s.tls {
			return "250-hop\r\n250-STARTTLS\r\n250-SIZE 5\r\n250-AUTH PLAIN\r\n250 CHUNKING"
		}
		return ""
	}))
	c := New(Config{Dial: h.dialTCP}, hops(1))
	r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
	c.Close()
	h.wg.Wait()
	if !r.Replies[0].Delivered() || strings.Contains(strings.Join(h.told(), "\n"), "BDAT") {
		t.Errorf("%+v, told %q", r.Replies[0], h.told())
	}
}

// A session is resumed, and verified again.
func TestResumption(t *testing.T) {
	ca := newAuthority(t)
	config := ca.config(t, "a.example")
	resumed := 0
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume {
			resumed++
		}
		return nil
	}
	h := newHop(t, server(secure, config, nil))
	where := hops(1)
	c := New(Config{Dial: h.dialTCP, Roots: ca.roots(), KeepAlive: -1}, where)
	for _, policy := range []relay.TLSPolicy{relay.TLSOpportunistic, relay.TLSOpportunistic, relay.TLSVerify, relay.TLSVerify} {
		where.route.TLS = policy
		if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); r.TLS.Verified != queue.VerifiedPKIX {
			t.Errorf("%+v", r)
		}
	}
	c.Close()
	h.wg.Wait()
	if h.dials() != 4 || resumed != 2 { // never from one policy to another
		t.Errorf("%d of %d sessions resumed", resumed, h.dials())
	}
}

func TestKeepsConnectionsUnderTLS(t *testing.T) {
	ca := newAuthority(t)
	h := newHop(t, server(secure+" CHUNKING", ca.config(t, "a.example"), nil))
	c := New(Config{Dial: h.dialTCP}, hops(1))
	for range 20 {
		if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() {
			t.Fatalf("%+v", r)
		}
	}
	c.Close()
	h.wg.Wait()
	if h.dials() != 1 || len(h.taken()) != 20 {
		t.Errorf("%d messages over %d connections", len(h.taken()), h.dials())
	}
}

func TestLogin(t *testing.T) {
	ca := newAuthority(t)
	plain := func(answer string) hook {
		return func(_ *side, state, line string) string {
			if state == "auth" && line != "AUTH PLAIN AHVzZXIAc2VjcmV0" {
				return "501 5.5.2 what"
			}
			if state == "auth" {
				return answer
			}
			return ""
		}
	}
	login := func(_ *side, state, line string) string {
		switch line {
		case "AUTH LOGIN":
			return "334 VXNlcm5hbWU6"
		case "dXNlcg==":
			return "334 UGFzc3dvcmQ6"
		case "c2VjcmV0":
			return "235 2.7.0 welcome"
		}
		return ""
	}
	for _, test := range []struct {
		name, offer string
		hook        hook
		cause       queue.Cause
		code        int
	}{
		{"PLAIN", secure + " AUTH_LOGIN_plain", plain("235 2.7.0 ok"), 0, 250},
		{"LOGIN", secure + " AUTH_LOGIN", login, 0, 250},
		{"refused", secure + " AUTH_PLAIN", plain("535 5.7.8 no"), queue.CauseAuthFailed, 535},
		{"later", secure + " AUTH_PLAIN", plain("454 4.7.0 later"), 0, 454},
		{"no mechanism", secure + " AUTH_GSSAPI", nil, queue.CauseAuthFailed, 0},
		{"in the clear", pipelines + " AUTH_PLAIN", nil, queue.CauseTLSRequired, 0},
		{"handshake fails", secure + " AUTH_PLAIN", tlsFaults["close"], queue.CauseTLSHandshake, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHop(t, server(test.offer, ca.config(t, "a.example"), test.hook))
			where := hops(1)
			where.route.Auth = &relay.Login{User: "user", Password: "secret"}
			c := New(Config{Dial: h.dialTCP}, where)
			r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
			c.Close()
			h.wg.Wait()
			if r.Cause != test.cause || r.Code != test.code || r.Permanent() {
				t.Errorf("%+v", r)
			}
			if test.code == 0 && strings.Contains(strings.Join(h.told(), "\n"), "AUTH") {
				t.Errorf("told %q", h.told())
			}
		})
	}
}

func TestRequireTLS(t *testing.T) {
	ca := newAuthority(t)
	for _, test := range []struct {
		offer, name string
		certain     bool
		cause       queue.Cause
	}{
		{secure + " REQUIRETLS", "a.example", true, 0},
		{secure + " REQUIRETLS", "a.example", false, queue.CauseNoRequireTLS},
		{secure + " REQUIRETLS", "other.example", true, queue.CauseTLSUnverified},
		{secure, "a.example", true, queue.CauseNoRequireTLS},
		{pipelines + " REQUIRETLS", "a.example", true, queue.CauseNoRequireTLS},
	} {
		h := newHop(t, server(test.offer, ca.config(t, test.name), nil))
		where := hops(1)
		where.route.Authentic = test.certain
		c := New(Config{Dial: h.dialTCP, Roots: ca.roots()}, where)
		c.Deliver(t.Context(), claim(letter, "a@example.com")) // leaves a kept connection, verified or not
		m := claim(letter, "b@example.com")
		m.Envelope.RequireTLS = true
		res := c.Deliver(t.Context(), m)
		r := res.Replies[0]
		if res.TLS.Wanted != queue.WantedRequireTLS {
			t.Errorf("%+v: wanted %d", test, res.TLS.Wanted)
		}
		if later := c.Deliver(t.Context(), claim(letter, "c@example.com")); later.TLS.Wanted != queue.WantedNothing {
			t.Errorf("%+v: other mail wanted %d", test, later.TLS.Wanted)
		}
		c.Close()
		h.wg.Wait()
		if r.Cause != test.cause || r.Delivered() != (test.cause == 0) {
			t.Errorf("%+v: %+v", test, r)
		}
		sent := false
		for _, line := range h.told() {
			sent = sent || strings.HasPrefix(line, "MAIL") && strings.HasSuffix(line, " REQUIRETLS")
		}
		if sent != (test.cause == 0) {
			t.Errorf("%+v: told %q", test, h.told())
		}
	}
}

// A refusal during the content is heard under TLS too.
func TestAnswerDuringContentUnderTLS(t *testing.T) {
	ca := newAuthority(t)
	h := newHop(t, server(secure, ca.config(t, "a.example"), func(s *side, at, _ string) string {
		if at != "data" {
			return ""
		}
		s.say("354 go")
		s.in.Peek(1)
		s.say("552 5.3.4 too big")
		s.stall()
		return "-"
	}))
	c := New(Config{Dial: h.dialTCP}, hops(1))
	m := claim("", "a@example.com")
	m.Content = queue.Content{Size: 1 << 28, Open: func() (io.ReadCloser, error) { return io.NopCloser(crlfReader{}), nil }}
	if r := c.Deliver(t.Context(), m).Replies[0]; r.Code != 552 || r.Stage != queue.StageContent || !r.Permanent() {
		t.Errorf("%+v", r)
	}
	c.Close()
	h.wg.Wait()
}
