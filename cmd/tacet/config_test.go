package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tacet/relay"
)

// Each file of testdata/badconfig is one kind of mistake; beside it stands what
// is said of it. With TACET_GOLDEN=write the test writes those down anew.
func TestBadConfig(t *testing.T) {
	t.Chdir(filepath.Join("testdata", "badconfig"))
	names, err := filepath.Glob("*.toml")
	if err != nil || len(names) < 25 {
		t.Fatalf("found %d files, %v", len(names), err)
	}
	for _, name := range names {
		golden := strings.TrimSuffix(name, ".toml") + ".want"
		_, err := LoadConfig(name)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		got := err.Error() + "\n"
		if os.Getenv("TACET_GOLDEN") == "write" {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n got: %s\nwant: %s", name, got, want)
		}
		for line := range strings.Lines(got) {
			if !strings.HasPrefix(line, name+":") || len(line) < len(name)+4 {
				t.Errorf("%s: the fault does not name file and line: %s", name, line)
			}
		}
	}
}

// A secret that stands in the file by mistake is not repeated.
func TestBadConfigKeepsSecrets(t *testing.T) {
	_, err := LoadConfig(filepath.Join("testdata", "badconfig", "unknown_key_secret.toml"))
	if err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("got %v", err)
	}
}

func TestEmptyConfigIsTheStrictest(t *testing.T) {
	c, err := ParseConfig("/etc/tacet/tacet.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listeners) != 1 || !reflect.DeepEqual(c.Listeners[0], Listener{Address: "127.0.0.1:2587"}) {
		t.Errorf("listeners: %+v", c.Listeners)
	}
	if len(c.Relay.TrustedNetworks) != 0 || len(c.Relay.Domains) != 0 {
		t.Errorf("relay: %+v", c.Relay)
	}
	if !c.Delivery.DenySpecialAddresses || c.Delivery.TLS != relay.TLSOpportunistic || c.Metrics.Address != "" {
		t.Errorf("delivery: %+v, metrics: %+v", c.Delivery, c.Metrics)
	}
	if c.Log.Retention != 365*24*time.Hour || c.logOptions().RetentionLogins != 30*24*time.Hour || c.Log.Dir != "/var/lib/tacet/log" {
		t.Errorf("log: %+v", c.Log)
	}
	if c.Hostname == "" || c.Postmaster != "postmaster@"+c.Hostname {
		t.Errorf("hostname %q, postmaster %q", c.Hostname, c.Postmaster)
	}
}

// The contract's example, every key of it at its default unless it says otherwise.
func TestContract(t *testing.T) {
	got, err := LoadConfig(filepath.Join("testdata", "contract.toml"))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	if got.Queue.Lifetime != want.Queue.Lifetime || !slices.Equal(got.Queue.Retry, want.Queue.Retry) || got.Queue.DelayWarning != want.Queue.DelayWarning {
		t.Errorf("queue: %+v, default %+v", got.Queue, want.Queue)
	}
	if got.Delivery.Timeouts != want.Delivery.Timeouts || got.Delivery.Concurrency != want.Delivery.Concurrency {
		t.Errorf("delivery: %+v, default %+v", got.Delivery, want.Delivery)
	}
	if got.Limits != want.Limits || got.Auth != want.Auth || got.Log.Retention != want.Log.Retention {
		t.Errorf("limits %+v, auth %+v, log %+v", got.Limits, got.Auth, got.Log)
	}
	if got.Relay.MaxMessageSize != 50_000_000 || got.Relay.MaxRecipients != 1000 {
		t.Errorf("relay: %+v", got.Relay)
	}
	if len(got.Delivery.Routes) != 1 || got.Delivery.Routes[0].NextHop != "[127.0.0.1]:2627" || !reflect.DeepEqual(got.Listeners[0], newListener()) {
		t.Errorf("routes %+v, listeners %+v", got.Delivery.Routes, got.Listeners)
	}
	if got.TLS != (CertificateConfig{"/etc/tacet/cert.pem", "/etc/tacet/key.pem"}) || got.Log.Dir != "/var/log/tacet" {
		t.Errorf("tls %+v, log %+v", got.TLS, got.Log)
	}
}

// What check prints is a config that says the same.
func TestPrintedConfigIsTheSame(t *testing.T) {
	text := `
hostname = "relay.example.org"
data_dir = "data"
[[listener]]
address = ":25"
kind = "mx"
[[listener]]
address = "[::1]:465"
tls = "implicit"
[relay]
trusted_networks = ["192.0.2.0/24", "2001:db8::1"]
domains = ["Example.ORG", "bücher.example"]
max_message_size = "1MiB"
[delivery]
next_hop = "smarthost.example:587"
tls = "require"
messages_per_connection = 10
auth_user = 'a"b\c'
auth_password_file = "password"
[[delivery.route]]
domain = ".example.net"
[[delivery.route]]
domain = "example.com"
tls = "none"
next_hop = "[2001:db8::25]"
concurrency = 2
rate = "100/m"
[dns]
resolvers = ["127.0.0.1", "[::1]:5353"]
[limits]
min_content_rate = "4kB/s"
[metrics]
address = "127.0.0.1:9587"
`
	first, err := ParseConfig("/etc/tacet/tacet.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if first.DataDir != "/etc/tacet/data" || first.Delivery.AuthPasswordFile != "/etc/tacet/password" {
		t.Errorf("relative paths: %q, %q", first.DataDir, first.Delivery.AuthPasswordFile)
	}
	if first.Delivery.Routes[0].TLS != relay.TLSRequire || first.Delivery.Routes[1].TLS != relay.TLSNone {
		t.Errorf("a route's tls: %+v", first.Delivery.Routes)
	}
	if a, b := first.Delivery.Routes[0].Load, first.Delivery.Routes[1].Load; a != (Load{20, 10, Frequency{}}) || b != (Load{2, 10, Frequency{100, time.Minute}}) || b.Rate.every() != 600*time.Millisecond {
		t.Errorf("what routes hold next hops to: %+v, %+v", a, b)
	}
	if want := netip.MustParsePrefix("2001:db8::1/128"); first.Relay.TrustedNetworks[1] != want {
		t.Errorf("a single address: %v", first.Relay.TrustedNetworks)
	}
	var printed, again bytes.Buffer
	first.print(&printed, true)
	second, err := ParseConfig("/elsewhere/tacet.toml", printed.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, printed.String())
	}
	second.print(&again, true)
	if printed.String() != again.String() {
		t.Errorf("printed:\n%s\nagain:\n%s", printed.String(), again.String())
	}
}

func TestDurationsAndSizesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(400*day/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		if back, err := parseDuration(formatDuration(d)); err != nil || back != d {
			t.Fatalf("%v is written %q and read %v, %v", d, formatDuration(d), back, err)
		}
		n := rapid.Int64Range(0, 1<<50).Draw(t, "octets")
		if back, err := parseOctets(formatOctets(n)); err != nil || back != n {
			t.Fatalf("%d is written %q and read %d, %v", n, formatOctets(n), back, err)
		}
	})
}

func TestParseDurationRefuses(t *testing.T) {
	for _, s := range []string{"", "5", "-5m", "5 m", "d", "1.5d", "5dd", "99999d", "5d 3h", "0"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q is taken as %v", s, d)
		}
	}
}

// No input makes the reader panic, and every fault has a line within the file.
func FuzzParseConfig(f *testing.F) {
	for _, dir := range []string{"testdata/badconfig/*.toml", "testdata/*.toml"} {
		names, err := filepath.Glob(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := ParseConfig("f.toml", content)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "f.toml:") && !strings.Contains(err.Error(), "not TOML") {
					t.Errorf("a fault without its place: %q", line)
				}
			}
		}
	})
}
