package logging
import ("testing";"os";"time";"net/netip";"context";"crypto/tls")
func TestSmoke2(t *testing.T) {
	dir := t.TempDir()
	l, _ := Open(Options{Dir: dir})
	now := time.Now()
	out := TLS{Version: tls.VersionTLS13, Cipher: 0x1301, Verified: VerifiedDANE}
	h := netip.MustParseAddr("192.0.2.1")
	l.Write(&Record{Event: Accepted, Client: h, User: "anna", In: out, Sender: "anna@example.org", HasSender: true, Recipient: "bob@example.net", Subject: "Angebot 4711", ID: "K3V9QM2X", Code: 250})
	l.Write(&Record{Event: Delivered, Client: h, User: "anna", In: out, NextHost: h, Out: out, Sender: "anna@example.org", HasSender: true, Recipient: "bob@example.net", Subject: "Angebot 4711", ID: "K3V9QM2X", Code: 250, Enhanced: [3]uint16{2,0,0}, Attempt: 1, RemoteID: "4Xyz"})
	l.Write(&Record{Event: Deferred, NextHost: h, Out: TLS{None: NoTLSNotOffered}, HasSender: true, Recipient: "eve@example.com", Subject: "東京からのお知らせ", ID: "K3V9QM2X", Code: 451, Enhanced: [3]uint16{4,7,1}, Attempt: 1, Reason: ReasonGreylisted, Stage: StageRcpt, NextAttempt: now.Add(5*time.Minute)})
	l.Write(&Record{Event: ContentRejected, Sender: "a@b.c", HasSender: true, Recipient: "eve@example.com", Subject: "x", Reason: ReasonContent, Stage: StageEnd, Code: 550, Headers: []HeaderField{{"Received","from x\r\n\tby \x1b[31m y\r\n"},{"Subject","hi"}}})
	l.Write(&Record{Event: AuthFailed, Client: h, Reason: ReasonBadCredentials, Stage: StageAuth, Code: 535})
	l.Close()
	for line, err := range Read(context.Background(), ReadOptions{Dir: dir, Last: 4}) {
		if err != nil { t.Error(err) }
		Format(os.Stdout, line, Style{Headers: true})
	}
	a := NewAudit(dir)
	for range 3 { if err := a.Write(Action{UID: 1000, User: "jo", What: VerbQueueRetry, Scope: []Scope{ScopeAll}, Ticket: "T-1"}); err != nil { t.Error(err) } }
	for act, err := range ReadAudit(dir) { t.Log(act, err) }
}
