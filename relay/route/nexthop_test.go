package route

import (
	"net/netip"
	"strings"
	"testing"

	"tacet/queue"
)

func TestParseNextHop(t *testing.T) {
	tests := []struct{ in, want string }{ // want: its one form; "!" where it is refused
		{"", ""},
		{"[127.0.0.1]:2626", "[127.0.0.1]:2626"},
		{"[192.0.2.1]", "[192.0.2.1]:25"},
		{"[::1]:25", "[::1]:25"},
		{"[2001:DB8:0::1]", "[2001:db8::1]:25"},
		{"[IPv6:2001:db8::1]:587", "[2001:db8::1]:587"},
		{"[::ffff:192.0.2.1]", "[192.0.2.1]:25"},
		{"[localhost]:2525", "[localhost]:2525"},
		{"[Mail.Example.ORG.]:587", "[mail.example.org]:587"},
		{"smarthost.example:587", "smarthost.example:587"},
		{"Smarthost.Example", "smarthost.example:25"},
		{"b\u00fccher.example", "xn--bcher-kva.example:25"},
		{"_smtp.example:65535", "_smtp.example:65535"},
		{"[127.0.0.1", "!"},
		{"127.0.0.1]:25", "!"},
		{"127.0.0.1", "!"},
		{"127.0.0.1:25", "!"},
		{"::1", "!"},
		{"[127.0.0.1]25", "!"},
		{"[127.0.0.1]:", "!"},
		{"[]:25", "!"},
		{"[1.2.3]:25", "!"},
		{"host.example:", "!"},
		{"host.example:0", "!"},
		{"host.example:65536", "!"},
		{"host.example:-1", "!"},
		{"host.example:+25", "!"},
		{"host.example:smtp", "!"},
		{"host.example:25:26", "!"},
		{":25", "!"},
		{" host.example", "!"},
		{"a b.example", "!"},
		{"host..example", "!"},
		{"-host.example", "!"},
		{strings.Repeat("a", 64) + ".example", "!"},
		{strings.Repeat("a.", 126) + "aa", "!"},
		{"smtp:host.example", "!"},
		{"user@host.example", "!"},
		{"host.example/2", "!"},
	}
	for _, tc := range tests {
		h, err := ParseNextHop(tc.in)
		got := h.String()
		if err != nil {
			got = "!"
			if !strings.Contains(err.Error(), `"[IP address]:port"`) {
				t.Errorf("%q: the error does not say what is allowed: %v", tc.in, err)
			}
		}
		if got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func FuzzParseNextHop(f *testing.F) {
	for _, s := range []string{"[127.0.0.1]:2626", "[::1]", "host.example:587", "[host]:1", "b\u00fccher.example", "[IPv6:::1]:25", "[fe80::1%eth0]:25"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseNextHop(s)
		if err != nil {
			return
		}
		text := h.String()
		again, err := ParseNextHop(text)
		if err != nil || again != h {
			t.Fatalf("%q is written as %q, which reads as %+v, %v", s, text, again, err)
		}
		if !h.IsZero() && !isNextHop(queue.Destination(text)) {
			t.Fatalf("%q is not known for a next hop", text)
		}
		if !h.IsZero() && h.Addr.IsValid() == (h.Host != "") {
			t.Fatalf("%q: %+v", s, h)
		}
	})
}

func TestParsePattern(t *testing.T) {
	for _, s := range []string{"", ".", "*.", "**", "*example.net", "a.*.b", "example.*", "a b", "@example.net", "user@example.net", "1.2.3.4", "[1.2.3]", "*.[192.0.2.1]"} {
		if p, err := ParsePattern(s); err == nil {
			t.Errorf("%q is taken as %+v", s, p)
		} else if !strings.Contains(err.Error(), `"*.example.net"`) {
			t.Errorf("%q: the error does not say what is allowed: %v", s, err)
		}
	}
}

func TestParseServer(t *testing.T) {
	tests := []struct{ in, want string }{
		{"127.0.0.1", "127.0.0.1:53"},
		{"127.0.0.1:5353", "127.0.0.1:5353"},
		{"::1", "[::1]:53"},
		{"[::1]", "[::1]:53"},
		{"[::1]:5353", "[::1]:5353"},
	}
	for _, tc := range tests {
		if got, err := ParseServer(tc.in); err != nil || got.String() != tc.want {
			t.Errorf("%q: %v, %v; want %s", tc.in, got, err, tc.want)
		}
	}
	for _, s := range []string{"", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "dns.example:53", "[127.0.0.1"} {
		if got, err := ParseServer(s); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func TestForbidden(t *testing.T) {
	forbidden := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "fc00::1", "fdff::1", "fe80::1", "fe80::1%lo", "febf::1", "fec0::1",
		"ff02::1", "100::1", "2001::1", "2001:2::1", "5f00::1", "64:ff9b:1::1",
		"64:ff9b::127.0.0.1", "64:ff9b::192.168.1.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::",
	}
	allowed := []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0",
		"192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "192.0.2.1",
		"2606:4700::1111", "2001:db8::1", "2a00::1", "64:ff9b::1.1.1.1", "2002:101:101::1", "::ffff:1.1.1.1",
	}
	for _, s := range forbidden {
		if !Forbidden(netip.MustParseAddr(s)) {
			t.Errorf("%s is allowed", s)
		}
	}
	for _, s := range allowed {
		if Forbidden(netip.MustParseAddr(s)) {
			t.Errorf("%s is forbidden", s)
		}
	}
	if !Forbidden(netip.Addr{}) {
		t.Error("the invalid address is allowed")
	}
}
