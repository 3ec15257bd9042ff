package relay

import (
	"testing"

	"tacet/logging"
	"tacet/queue"
)

// An mx listener takes no mailbox that asks its domain to send the mail on.
func TestAdmitForeignRoutes(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Relays = only("example.net") })
	for to, want := range map[queue.ForwardPath]bool{
		"b@example.net": true, "b+x@example.net": true, `"b c"@example.net`: true, "b/c@example.net": true,
		"b%far.example@example.net": false, "far.example!b@example.net": false,
		`"b@far.example"@example.net`: false, `"b%far.example"@example.net`: false, `"b\@far.example"@example.net`: false,
	} {
		if err := w.Admit(true, &queue.Origin{}, "a@example.org", to); (err == nil) != want {
			t.Errorf("%s: %v, want taken %v", to, err, want)
		}
	}
}

// The line about a client's handshake that failed says so, and names no reply:
// none was sent.
func TestRefuseHandshake(t *testing.T) {
	w := newWorld(t)
	w.Refuse(Refusal{Kind: RefusedTLS, Stage: queue.StageTLS, Origin: queue.Origin{TLS: queue.TLS{None: queue.NoTLSHandshakeFailed}},
		Rejection: &Rejection{Code: 454, Enhanced: queue.Enhanced{4, 7, 0}, Class: ClassTLS}})
	if got := w.journal.records[0]; got.Event != logging.TLSFailed || got.Reason != logging.ReasonTLSHandshake || got.Code != 0 || got.Enhanced != (queue.Enhanced{}) {
		t.Errorf("record %+v", got)
	}
}
