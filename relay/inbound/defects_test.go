package inbound_test

import (
	"strings"
	"testing"

	"tacet/relay/inbound"
)

// TestLibraryDefects shows, one by one, that what go-smtp v0.25.1 does wrong
// when it has the socket to itself does not happen here. Where a defect has many
// faces, the tables of this package and of package wire have the rest.
func TestLibraryDefects(t *testing.T) {
	const ready = "EHLO x\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n"
	big := strings.Repeat("x", 100_000) + "\r\n"
	for _, test := range []struct {
		name, send string
		want       string // codes of the replies after the greeting
		check      func(*testing.T, []message)
	}{
		{"truncated BDAT is no message", ready + "BDAT 100 LAST\r\nabc\r\n", "250 250 250", none},
		{"quoted local part stays quoted", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<\"x> ORCPT=rfc822;y\"@example.net>\r\nBDAT 0 LAST\r\n", "250 250 250 250",
			func(t *testing.T, m []message) {
				if r := m[0].envelope.Recipients; len(r) != 1 || r[0].Path != `"x> ORCPT=rfc822;y"@example.net` || r[0].ORcpt != "" {
					t.Errorf("recipients are %+v", r)
				}
			}},
		{"RSET within BDAT ends the message before the next begins",
			"EHLO x\r\n" + strings.Repeat(ready[8:]+"BDAT 3\r\na\r\nRSET\r\n", 20) + ready[8:] + "BDAT 3 LAST\r\nb\r\n",
			"250 " + strings.Repeat("250 250 250 250 ", 20) + "250 250 250", whole("b\r\n")},
		{"a chunk in the segment of its command may have long lines", ready + "BDAT 100002 LAST\r\n" + big, "250 250 250 250", whole(big)},
		{"content that ends in CR CR LF ends", ready + "DATA\r\nx\r\r\n.\r\nNOOP\r\n", "250 250 250 354 554 250", none},
		{"a dot, CR and a letter lose nothing and end", ready + "DATA\r\n.\rX\r\n.\r\nNOOP\r\n", "250 250 250 354 554 250", none},
		{"second MAIL is refused", ready + "MAIL FROM:<evil@example.org>\r\nBDAT 0 LAST\r\n", "250 250 250 503 250",
			func(t *testing.T, m []message) {
				if m[0].envelope.Sender != "s@example.org" {
					t.Errorf("sender is %q", m[0].envelope.Sender)
				}
			}},
		{"Postmaster needs no domain", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\n", "250 250 250", none},
		{"odd octets are refused", "EHLO x\r\nMAIL FROM:<a\x1b@b>\r\nMAIL FROM:<ü@b>\r\nMAIL FROM:a@b\r\nEHLO \xff\r\n", "250 501 553 501 501", none},
		{"a message of exactly the limit passes", ready + "DATA\r\n" + strings.Repeat("x\r\n", 100_000) + ".\r\n", "250 250 250 354 250", whole(strings.Repeat("x\r\n", 100_000))},
		{"BY and MT-PRIORITY are not taken where they are not offered", "EHLO x\r\nMAIL FROM:<> BY=1;R\r\nMAIL FROM:<>\r\nRCPT TO:<r@b> BY=1;R\r\nRCPT TO:<r@b> MT-PRIORITY=1\r\n", "250 555 250 555 555", none},
		{"ORCPT of any type, SIZE of any length, 555 for what is unknown", "EHLO x\r\nMAIL FROM:<> SIZE=4294967296\r\nMAIL FROM:<> X=1\r\nMAIL FROM:<>\r\nRCPT TO:<r@b> ORCPT=x400;x\r\n", "250 552 555 250 250", none},
		{"REQUIRETLS is not taken in the clear", "EHLO x\r\nMAIL FROM:<> REQUIRETLS\r\n", "250 555", none},
		{"QUIT with more behind it", "EHLO x\r\nMAIL FROM:<>\r\nQUIT\r\nMAIL FROM:<>\r\nRCPT TO:<r@b>\r\n", "250 250 221", none},
		{"useless commands are limited", "EHLO x\r\n" + strings.Repeat("VRFY x\r\n", 1000), strings.Repeat("25 ", 100) + "421", none},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, withLimits(inbound.Limits{MaxMessageSize: 300_000}))
			socket := newTape([]byte(test.send))
			w.ln.conns <- socket
			<-socket.closed
			replies := strings.SplitAfter(socket.heard.String(), "\r\n")
			var codes []string
			for _, line := range replies[1 : len(replies)-1] {
				if line[3] == ' ' {
					codes = append(codes, line[:3])
				}
			}
			wants := strings.Fields(test.want)
			for i, want := range wants {
				if i >= len(codes) || !strings.HasPrefix(codes[i], want) {
					t.Fatalf("replies are %v, want %v", codes, wants)
				}
			}
			if len(codes) > len(wants) {
				t.Fatalf("replies are %v, want %v", codes, wants)
			}
			test.check(t, w.relay.taken())
			if n := w.server.Stats().Panics.Load(); n != 0 {
				t.Errorf("%d panics", n)
			}
		})
	}
	// The others are held by TestHandshakeFails (STARTTLS that fails ends the
	// connection), TestAuth (12,288 octets; 501 for bad base64) and TestAuthFailures.
}

func none(t *testing.T, m []message) {
	if len(m) != 0 {
		t.Errorf("taken is %+v, want nothing", m)
	}
}

// whole checks that one message with the content was taken.
func whole(content string) func(*testing.T, []message) {
	return func(t *testing.T, m []message) {
		if len(m) != 1 || m[0].content != content {
			t.Errorf("%d messages taken, want one as it was sent", len(m))
		}
	}
}
