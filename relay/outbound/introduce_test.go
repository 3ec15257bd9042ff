package outbound

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"tacet/queue"
	"tacet/relay"
)

// whose is a message that came from a client, none if the address is empty.
func whose(address string) *queue.Claim {
	c := claim(letter, "a@example.com")
	if address != "" {
		c.Envelope.Origin = queue.Origin{Client: netip.MustParseAddr(address), Helo: "client.example"}
	}
	return c
}

// clientNames has the name of one client.
type clientNames struct{}

func (clientNames) ClientName(_ context.Context, client netip.Addr) (string, bool, error) {
	switch client.String() {
	case "203.0.113.7":
		return "client.example", true, nil
	case "203.0.113.8":
		return "other.example", false, nil
	case "203.0.113.9":
		return "x y=z", true, nil
	}
	return "", false, errors.New("no answer")
}

// introducing delivers the messages of clients, one after the other, to a hop that offers
// keywords, and returns what the hop heard of them.
func introducing(t *testing.T, by relay.Introduction, keywords string, claims ...*queue.Claim) (heard []string, opened int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		h := newHop(t, server(keywords, nil, func(_ *side, _, line string) string {
			if word, _, _ := strings.Cut(line, " "); slices.Contains([]string{"XCLIENT", "XFORWARD", "MAIL", "EHLO"}, word) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, strings.TrimSpace(strings.ReplaceAll(line, claims[0].Envelope.ID.String(), "(ID)")))
				if word == "XCLIENT" {
					return "220 hop.example"
				}
				if word == "XFORWARD" {
					return "250 2.0.0 ok"
				}
			}
			return ""
		}))
		where := hops(1)
		where.route.Introduction = by
		c := New(Config{Hostname: "relay.example", Dial: h.dial, Names: clientNames{}}, where)
		for _, m := range claims {
			m.Envelope.ID = claims[0].Envelope.ID
			if r := c.Deliver(t.Context(), m); !r.Replies[0].Delivered() {
				t.Errorf("%+v", r.Replies)
			}
		}
		opened = c.Stats().Opened
		c.Close()
		h.wg.Wait()
	})
	return heard, opened
}

// A session in a client's name carries that client's mail alone, and of users the next hop
// learns nothing.
func TestIntroduces(t *testing.T) {
	user := whose("192.0.2.99")
	user.Envelope.Origin.Submission = true
	const us = "EHLO relay.example"
	messages := []*queue.Claim{whose("203.0.113.7"), whose("203.0.113.7"), whose("2001:db8::7"), user, whose("")}
	for _, c := range []struct {
		by       relay.Introduction
		keywords string
		want     []string
		opened   int64
	}{
		{relay.IntroduceXCLIENT, lockstep + " XCLIENT_NAME_ADDR_HELO_PORT", []string{
			us, "XCLIENT ADDR=203.0.113.7 NAME=client.example HELO=client.example", "EHLO client.example",
			us, "XCLIENT ADDR=IPV6:2001:db8::7 NAME=[TEMPUNAVAIL] HELO=client.example", "EHLO client.example", us}, 3},
		{relay.IntroduceXFORWARD, lockstep + " XFORWARD_ADDR_IDENT", []string{
			us, "XFORWARD ADDR=203.0.113.7 IDENT=(ID)", "XFORWARD ADDR=203.0.113.7 IDENT=(ID)", "XFORWARD ADDR=IPV6:2001:db8::7 IDENT=(ID)"}, 1},
		{relay.IntroduceXCLIENT, lockstep, []string{us, us, us}, 3},
		{relay.IntroduceNone, lockstep + " XCLIENT_ADDR XFORWARD_ADDR", []string{us}, 1},
	} {
		heard, opened := introducing(t, c.by, c.keywords, messages...)
		told := slices.DeleteFunc(heard, func(line string) bool { return strings.HasPrefix(line, "MAIL") })
		if !slices.Equal(told, c.want) || opened != c.opened {
			t.Errorf("%v %q: %q over %d connections, want %q over %d", c.by, c.keywords, told, opened, c.want, c.opened)
		}
	}
}

// What is said of a client is what the server asks for, and nothing of it is more than a word.
func TestClientAttributes(t *testing.T) {
	c := &conn{client: New(Config{Names: clientNames{}}, hops(1))}
	defer c.client.Close()
	all := parseAttributes([][]byte{[]byte("NAME"), []byte("addr"), []byte("PROTO"), []byte("HELO"), []byte("REVERSE_NAME"), []byte("IDENT")})
	for _, test := range []struct {
		client, helo, id string
		known            attributes
		want             string
	}{
		{"203.0.113.7", "client.example", "ID1", all, "X ADDR=203.0.113.7 NAME=client.example REVERSE_NAME=client.example HELO=client.example IDENT=ID1"},
		{"203.0.113.8", "[203.0.113.8]", "", all, "X ADDR=203.0.113.8 NAME=[UNAVAILABLE] REVERSE_NAME=other.example HELO=[203.0.113.8]"},
		{"203.0.113.9", "x NAME=evil", "", all, "X ADDR=203.0.113.9 NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] HELO=[UNAVAILABLE]"},
		{"::ffff:203.0.113.7", "", "", attrAddr, "X ADDR=203.0.113.7"},
		{"2001:db8::1", "", "", all, "X ADDR=IPV6:2001:db8::1 NAME=[TEMPUNAVAIL] REVERSE_NAME=[TEMPUNAVAIL] HELO=[UNAVAILABLE]"},
	} {
		of := introduction{client: netip.MustParseAddr(test.client), helo: test.helo}
		if got := string(c.attributes(t.Context(), "X", test.known, of, test.id)); got != test.want+"\r\n" {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	for helo, want := range map[string]string{"client.example": "client.example", "[192.0.2.1]": "[192.0.2.1]", "": "[203.0.113.7]", "a b": "[203.0.113.7]", "x\r\nRSET": "[203.0.113.7]"} {
		c.as, c.named = introduction{relay.IntroducePROXYv2, netip.MustParseAddr("203.0.113.7"), helo}, true
		if got := c.ehloName(); got != want {
			t.Errorf("after %q the session is held as %q, want %q", helo, got, want)
		}
	}
}
