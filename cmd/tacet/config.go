package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tacet/relay"
	"tacet/relay/auth"
	"tacet/relay/content"
)

// Config is the whole configuration, complete: each field has its default
// or what the file says. Its keys are the rows of config_keys.go.
type Config struct {
	Hostname   string
	DataDir    string
	Postmaster string
	Listeners  []Listener
	TLS        CertificateConfig
	Auth       AuthConfig
	Submission SubmissionConfig
	Relay      RelayConfig
	Primary    PrimaryConfig
	Recipients RecipientsConfig
	Edge       EdgeConfig
	Site       SiteConfig
	Delivery   DeliveryConfig
	DNS        DNSConfig
	Queue      QueueConfig
	Limits     LimitsConfig
	Log        LogConfig
	Metrics    MetricsConfig
	Keys       KeysConfig
	DKIM       []DKIMConfig
	Rules      []RuleConfig
	Clamd      ClamdConfig
	Milters    []MilterConfig
	Verify     VerifyConfig
	HashLists  []HashListConfig
	Pyzor      PyzorConfig

	source source
}

// Listener is one [[listener]].
type Listener struct {
	Address   string
	Kind      ListenerKind
	TLS       ListenerTLS
	ProxyFrom []netip.Prefix
}

// ListenerKind tells who a listener is for.
type ListenerKind int

// The kinds of listeners.
const (
	KindSubmission ListenerKind = iota // AUTH needed
	KindMX                             // for our relay domains only
)

// ListenerTLS tells how TLS comes to a listener's sessions.
type ListenerTLS int

// How TLS comes.
const (
	ListenerSTARTTLS ListenerTLS = iota
	ListenerImplicit
	ListenerNoTLS
)

// CertificateConfig is [tls].
type CertificateConfig struct{ Cert, Key string }

// AuthConfig is [auth].
type AuthConfig struct{ UsersFile string }

// SubmissionConfig is [submission]: what logged-in users may send.
type SubmissionConfig struct {
	Senders    auth.Unlisted
	HeaderFrom HeaderFrom
	Quota      relay.Quota   // of users whose line does not say otherwise
	Memory     time.Duration // of the recipients of users who have a limit of new ones; 0: none
}

// HeaderFrom tells what the From field of a user's mail may say.
type HeaderFrom int

// What it may say.
const (
	FromAny HeaderFrom = iota // anything
	FromOwn                   // an address that the user may send as
)

// RelayConfig is [relay].
type RelayConfig struct {
	TrustedNetworks []netip.Prefix
	Domains         []string
	MaxMessageSize  Size
	MaxRecipients   int
}

// PrimaryConfig is [primary]: what takes the mail for relay.domains. Without
// Hosts it is what of the domain's MX is preferred to this relay.
type PrimaryConfig struct {
	Hosts     []string
	TLS       relay.TLSPolicy
	Introduce relay.Introduction
	Lifetime  time.Duration
	Probe     time.Duration
	Alarm     time.Duration
}

// EdgeConfig is [edge]: what clients of mx listeners are judged by.
type EdgeConfig struct {
	AddressLists, DomainLists []string
	ListsPurpose              string
	Helo                      bool
	Pause, Greylist           time.Duration
	Connections, Messages     int
}

// DeliveryConfig is [delivery] with its timeouts and routes.
type DeliveryConfig struct {
	Smarthost
	Load
	Fallback             string
	DenySpecialAddresses bool
	TLSReports           bool
	Timeouts             TimeoutsConfig
	Routes               []RouteConfig
}

// Smarthost is a configured next hop and how it is spoken to. An empty
// NextHop stands for the MX of the recipient's domain.
type Smarthost struct {
	NextHop          string
	TLS              relay.TLSPolicy
	AuthUser         string
	AuthPasswordFile string
}

// Load is how much a next hop gets at a time.
type Load struct {
	Concurrency           int
	MessagesPerConnection int
	Rate                  Frequency
}

// TimeoutsConfig is [delivery.timeouts] (RFC 5321 §4.5.3.2).
type TimeoutsConfig struct {
	Connect, Greeting, Command, DataStart, DataBlock, DataEnd time.Duration
}

// RouteConfig is one [[delivery.route]].
type RouteConfig struct {
	Domain string
	Smarthost
	Load
}

// DKIMConfig is one [[dkim]].
type DKIMConfig struct {
	Domain, Selector string
	Key              string    // file; empty: in keys/dkim
	Active           time.Time // zero: always
}

// Called is how a check outside of the program is called.
type Called struct {
	Scope     relay.Scope
	Timeout   time.Duration
	OnFailure OnFailure
}

// OnFailure tells what becomes of mail that could not be checked.
type OnFailure int

// What becomes of it.
const (
	FailDefer  OnFailure = iota // the client comes back
	FailAccept                  // it is taken unseen
)

// ClamdConfig is [clamd].
type ClamdConfig struct {
	Address string
	Called
}

// MilterConfig is one [[milter]].
type MilterConfig struct {
	Address string
	Called
}

// newMilter is what a [[milter]] without keys says.
func newMilter() MilterConfig { return MilterConfig{Called: Called{Timeout: time.Minute}} }

// VerifyConfig is [verify].
type VerifyConfig struct {
	Scope VerifyScope
	SPF   Enforcement
	DMARC Enforcement

	DMARCReports bool
}

// VerifyScope tells which mail is verified.
type VerifyScope int

// Which mail.
const (
	VerifyNone VerifyScope = iota
	VerifyIncoming
	VerifyAll
)

// Enforcement tells what becomes of mail that nothing vouches for.
type Enforcement int

// What becomes of it.
const (
	EnforceMark Enforcement = iota // the next hop reads it in a field
	EnforceReject
)

// RuleConfig is one [[rule]].
type RuleConfig struct {
	Name       string
	Scope      relay.Scope
	Field      string
	Pattern    string
	Attachment string
	Kinds      []string
	Larger     Size
	Action     content.Action
}

// DNSConfig is [dns].
type DNSConfig struct{ Resolvers, Trusted []netip.AddrPort }

// QueueConfig is [queue].
type QueueConfig struct {
	Retry          []time.Duration
	Lifetime       time.Duration
	DelayWarning   time.Duration
	ReportLanguage relay.Language
}

// LimitsConfig is [limits].
type LimitsConfig struct {
	Connections          int
	ConnectionsPerClient int
	CommandTimeout       time.Duration
	MinContentRate       Rate
}

// LogConfig is [log].
type LogConfig struct {
	Dir            string
	Retention      time.Duration
	Live           LogLive
	IncomingClient bool // the client of an mx listener is on record

	// Of single fields; never longer than Retention.
	RetentionSubject, RetentionClient, RetentionUser time.Duration

	// Of records of failed logins and TLS handshakes; never longer than Retention.
	RetentionLogins time.Duration

	// Who may read it by the control socket: users and "@groups". Nobody in either
	// list: everyone whom the socket lets in.
	FullReaders, StatusReaders []string
}

// LogLive tells how the log of the running day stands on the disk. Days that
// are over are always encrypted.
type LogLive int

// How it stands there.
const (
	LivePlain LogLive = iota // lines of JSON
	LiveSealed
)

// MetricsConfig is [metrics].
type MetricsConfig struct{ Address string }

// maxRetention is how long the relay log may be kept at most.
const maxRetention = 365 * 24 * time.Hour

// maxRetentionLogins is how long records may be kept that tell of no mail.
const maxRetentionLogins = 30 * 24 * time.Hour

// DefaultConfig is what an empty file says. It is the strictest: one
// submission listener on loopback, no one relays without AUTH, nothing is
// delivered into special address ranges.
func DefaultConfig() *Config {
	return &Config{
		DataDir:    "/var/lib/tacet",
		Listeners:  nil, // completed after reading: one of newListener
		Auth:       AuthConfig{UsersFile: "/etc/tacet/users"},
		Relay:      RelayConfig{MaxMessageSize: 50_000_000, MaxRecipients: 1000},
		Primary:    PrimaryConfig{Lifetime: 14 * 24 * time.Hour, Probe: 30 * time.Second, Alarm: 4 * time.Hour},
		Recipients: RecipientsConfig{Every: 15 * time.Minute, MaxAge: 2 * 24 * time.Hour},
		Delivery: DeliveryConfig{
			Load:                 Load{Concurrency: 20, MessagesPerConnection: 100},
			DenySpecialAddresses: true,
			TLSReports:           true,
			Timeouts: TimeoutsConfig{
				Connect: 30 * time.Second, Greeting: 5 * time.Minute, Command: 5 * time.Minute,
				DataStart: 2 * time.Minute, DataBlock: 3 * time.Minute, DataEnd: 10 * time.Minute,
			},
		},
		Queue: QueueConfig{
			Retry:        []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour},
			Lifetime:     5 * 24 * time.Hour,
			DelayWarning: 4 * time.Hour,
		},
		Limits: LimitsConfig{Connections: 10000, ConnectionsPerClient: 50, CommandTimeout: 5 * time.Minute, MinContentRate: 500},
		Log:    LogConfig{Retention: maxRetention},
		Clamd:  ClamdConfig{Called: Called{Timeout: time.Minute}},
		Pyzor:  PyzorConfig{Threshold: 5, Called: outside5s()},
	}
}

// newListener is what a [[listener]] without keys says.
func newListener() Listener { return Listener{Address: "127.0.0.1:2587"} }

// LoadConfig reads the file. The error joins all faults of it, each with
// file, line, what was found and what is allowed.
func LoadConfig(path string) (*Config, error) {
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no config at %s: name yours with --config, or begin with an empty file, which has every default", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the config %s may not be read by this user: run the command as root or as the relay's user", path)
	case errors.Is(err, syscall.EISDIR):
		return nil, fmt.Errorf("%s is a folder: name the config file in it with --config", path)
	case err != nil:
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	return ParseConfig(path, content)
}

// ParseConfig reads the content of the file path, completes and validates it.
func ParseConfig(path string, content []byte) (*Config, error) {
	c := DefaultConfig()
	faults, err := c.decode(path, content)
	if err != nil {
		return nil, err
	}
	c.complete()
	c.validate(&faults)
	if len(faults.all) > 0 {
		return nil, faults.joined()
	}
	return c, nil
}

// complete fills what depends on the machine or on other keys.
func (c *Config) complete() {
	if c.Hostname == "" {
		c.Hostname = "localhost"
		if name, err := os.Hostname(); err == nil && hostname(name) == nil {
			c.Hostname = strings.ToLower(name)
		}
	}
	c.Postmaster = cmp.Or(c.Postmaster, "postmaster@"+c.Hostname)
	if len(c.Listeners) == 0 {
		c.Listeners = []Listener{newListener()}
	}
	for _, p := range []*time.Duration{&c.Log.RetentionSubject, &c.Log.RetentionClient, &c.Log.RetentionUser} {
		*p = cmp.Or(*p, c.Log.Retention)
	}
	c.Log.RetentionLogins = cmp.Or(c.Log.RetentionLogins, min(c.Log.Retention, maxRetentionLogins))
	folder := filepath.Dir(c.source.path)
	for _, p := range []*string{&c.DataDir, &c.TLS.Cert, &c.TLS.Key, &c.Auth.UsersFile, &c.Recipients.Key, &c.Log.Dir, &c.Delivery.AuthPasswordFile} {
		absolute(folder, p)
	}
	for i := range c.Delivery.Routes {
		absolute(folder, &c.Delivery.Routes[i].AuthPasswordFile)
	}
	for i := range c.DKIM {
		c.DKIM[i].complete(folder, c.keyDir())
	}
	if path, ok := strings.CutPrefix(c.Recipients.Source, "file:"); ok {
		absolute(folder, &path)
		c.Recipients.Source = "file:" + path
	}
	c.Keys.complete(folder, c.keyDir())
	if c.Log.Dir == "" {
		c.Log.Dir = filepath.Join(c.DataDir, "log")
	}
}

// absolute resolves a relative path against the folder of the config file, so that
// it means the same wherever the command is run.
func absolute(folder string, path *string) {
	if *path == "" || filepath.IsAbs(*path) {
		return
	}
	joined := filepath.Join(folder, *path)
	if abs, err := filepath.Abs(joined); err == nil {
		joined = abs
	}
	*path = joined
}

// The parts of data_dir.
func (c *Config) queueDir() string      { return filepath.Join(c.DataDir, "queue") }
func (c *Config) keyDir() string        { return filepath.Join(c.DataDir, "keys") }
func (c *Config) spoolDir() string      { return filepath.Join(c.DataDir, "spool") }
func (c *Config) incidentDir() string   { return filepath.Join(c.DataDir, "incidents") }
func (c *Config) logKeyDir() string     { return filepath.Join(c.keyDir(), "log") }
func (c *Config) controlSocket() string { return filepath.Join(c.DataDir, "control.sock") }

// hasKind tells whether a listener of the kind is configured.
func (c *Config) hasKind(kind ListenerKind) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Kind == kind })
}

// needsCertificate tells whether a listener speaks TLS.
func (c *Config) needsCertificate() bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.TLS != ListenerNoTLS })
}
