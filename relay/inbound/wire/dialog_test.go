package wire

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
)

// engine plays go-smtp: it reads one line and replies. It returns what it read.
func engine(t *testing.T, c *Conn, reply string) string {
	t.Helper()
	buf := make([]byte, 4096)
	var line []byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		line = append(line, buf[:n]...)
	}
	if _, err := c.Write([]byte(reply)); err != nil {
		t.Fatalf("write: %v", err)
	}
	return string(line)
}

// attach converses and greets as go-smtp does.
func attach(t *testing.T, said string, step int) (*Conn, *tape) {
	t.Helper()
	socket := &tape{said: []byte(said), step: step}
	c := New(socket, (&Settings{Hostname: "relay.example", Auth: true}).Prepare())
	c.tlsc = &tls.Conn{} // AUTH asks no more of it
	if !c.Converse() {
		t.Fatalf("the connection ends with %q", socket.heard.String())
	}
	if _, err := c.Write([]byte("220 go-smtp greets\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := engine(t, c, "250 go-smtp says hello\r\n"); !strings.HasPrefix(got, "HELO ") {
		t.Fatalf("go-smtp reads %q first", got)
	}
	return c, socket
}

// TestFeed shows what go-smtp gets to read: nothing that the client wrote but SASL.
func TestFeed(t *testing.T) {
	c, socket := attach(t, "EHLO canary\r\nMAIL FROM:<canary@b>\r\nRCPT TO:<canary@d> NOTIFY=NEVER\r\nNOOP canary\r\nRSET\r\nMAIL FROM:<a@b>\r\nEHLO x\r\nNOOP\r\n", 1000)
	for _, step := range []struct{ reply, want string }{
		{"250 canary\r\n", "MAIL FROM:<sender@client>\r\n"},
		{"250 canary\r\n", "RCPT TO:<recipient@client>\r\n"},
		{"250 canary\r\n", "RSET\r\n"},
		{"550 5.7.1 no\r\n", "MAIL FROM:<sender@client>\r\n"},
	} {
		if got := engine(t, c, step.reply); got != step.want {
			t.Fatalf("go-smtp reads %q, want %q", got, step.want)
		}
	}
	if _, err := c.Read(make([]byte, 100)); err == nil {
		t.Error("go-smtp reads on after the end")
	}
	if heard := socket.heard.String(); strings.Contains(heard, "canary") || strings.Contains(heard, "go-smtp") {
		t.Errorf("the client reads %q", heard)
	}
}

// TestCredentialsAreCleared looks into the input buffer after AUTH.
func TestCredentialsAreCleared(t *testing.T) {
	for _, said := range []string{
		"EHLO x\r\nAUTH PLAIN Y2FuYXJ5\r\n",
		"EHLO x\r\nAUTH LOGIN\r\nY2FuYXJ5\r\n",
		"EHLO x\r\nAUTH PLAIN " + strings.Repeat("Y2FuYXJ5", 500) + "\r\n",
	} {
		c, _ := attach(t, said, 5000)
		if strings.Contains(said, "LOGIN") {
			engine(t, c, "334 \r\n")
		}
		if got := engine(t, c, "235 2.0.0 good\r\n"); !strings.Contains(got, "Y2FuYXJ5") {
			t.Fatalf("go-smtp reads %q", got)
		}
		if bytes.Contains(c.in, []byte("Y2Fu")) || bytes.Contains(c.smallIn[:], []byte("Y2Fu")) {
			t.Error("credentials stay in the buffer")
		}
	}
}
