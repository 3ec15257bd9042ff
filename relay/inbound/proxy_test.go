package inbound

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/pires/go-proxyproto"
)

func header(t *testing.T, version byte, from string) []byte {
	t.Helper()
	at := &net.TCPAddr{IP: net.ParseIP("192.0.2.25"), Port: 25}
	client := &net.TCPAddr{IP: net.ParseIP(from), Port: 4711}
	if client.IP.To4() == nil {
		at.IP = net.ParseIP("2001:db8::25")
	}
	b, err := proxyproto.HeaderProxyFromAddrs(version, client, at).Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The header names the client, and what follows it stays to be read.
func TestProxyHeader(t *testing.T) {
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header []byte
		want   string
	}{
		"v1":           {header(t, 1, "203.0.113.7"), "203.0.113.7:4711"},
		"v1 IPv6":      {header(t, 1, "2001:db8::7"), "[2001:db8::7]:4711"},
		"v2":           {header(t, 2, "203.0.113.7"), "203.0.113.7:4711"},
		"v2 IPv6":      {header(t, 2, "2001:db8::7"), "[2001:db8::7]:4711"},
		"v1 unknown":   {[]byte("PROXY UNKNOWN\r\n"), "invalid AddrPort"},
		"v2 of itself": {local, "invalid AddrPort"},
	} {
		r := bytes.NewReader(append(c.header, "EHLO x\r\n"...))
		client, err := proxyHeader(r)
		rest, _ := io.ReadAll(r)
		if err != nil || client.String() != c.want || string(rest) != "EHLO x\r\n" {
			t.Errorf("%s: %s, %v, then %q; want %s", name, client, err, rest, c.want)
		}
	}
}

func TestProxyHeaderRefuses(t *testing.T) {
	long := append(append([]byte(nil), v2Signature...), 0x21, 0x11, 0xff, 0xff)
	for name, b := range map[string][]byte{
		"nothing": nil, "a client": []byte("EHLO client.example\r\n"), "no end": bytes.Repeat([]byte("PROXY TCP4 "), 40), "cut": header(t, 2, "203.0.113.7")[:20],
		"too long": append(long, make([]byte, 70000)...), "no address": []byte("PROXY TCP4 x y 1 2\r\n"), "v1 cut": []byte("PROXY TCP4 203.0.113.7 "),
	} {
		if client, err := proxyHeader(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: taken as %s", name, client)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\r\nEHLO x\r\n"))
	f.Add(append(append([]byte(nil), v2Signature...), 0x21, 0x11, 0, 12, 203, 0, 113, 7, 192, 0, 2, 25, 1, 2, 0, 25))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if _, err := proxyHeader(r); err == nil && len(b)-r.Len() > v2Fixed+v2MostLen {
			t.Errorf("%d octets were read", len(b)-r.Len())
		}
	})
}
