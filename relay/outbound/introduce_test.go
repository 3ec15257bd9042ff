package outbound

import (
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
		c.Envelope.Origin = queue.Origin{Client: netip.MustParseAddr(address)}
	}
	return c
}

// introducing delivers the messages of clients, one after the other, to a hop that offers
// keywords, and returns what the hop heard of them.
func introducing(t *testing.T, by relay.Introduction, keywords string, claims ...*queue.Claim) (heard []string, opened int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		h := newHop(t, server(keywords, nil, func(_ *side, _, line string) string {
			if word, _, _ := strings.Cut(line, " "); slices.Contains([]string{"XCLIENT", "XFORWARD", "MAIL"}, word) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, strings.TrimSpace(strings.Replace(line, "NAME=[UNAVAILABLE] ", "", 1)))
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
		c := New(Config{Dial: h.dial}, where)
		for _, m := range claims {
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
	messages := []*queue.Claim{whose("203.0.113.7"), whose("203.0.113.7"), whose("2001:db8::7"), user, whose("")}
	for _, c := range []struct {
		by       relay.Introduction
		keywords string
		want     []string
		opened   int64
	}{
		{relay.IntroduceXCLIENT, lockstep + " XCLIENT_NAME_ADDR", []string{"XCLIENT ADDR=203.0.113.7", "XCLIENT ADDR=IPV6:2001:db8::7"}, 3},
		{relay.IntroduceXFORWARD, lockstep + " XFORWARD_NAME_ADDR", []string{"XFORWARD ADDR=203.0.113.7", "XFORWARD ADDR=203.0.113.7", "XFORWARD ADDR=IPV6:2001:db8::7"}, 1},
		{relay.IntroduceXCLIENT, lockstep, nil, 3},
		{relay.IntroduceNone, lockstep + " XCLIENT_ADDR XFORWARD_ADDR", nil, 1},
	} {
		heard, opened := introducing(t, c.by, c.keywords, messages...)
		told := slices.DeleteFunc(heard, func(line string) bool { return strings.HasPrefix(line, "MAIL") })
		if !slices.Equal(told, c.want) || opened != c.opened {
			t.Errorf("%v %q: %q over %d connections, want %q over %d", c.by, c.keywords, told, opened, c.want, c.opened)
		}
	}
}
