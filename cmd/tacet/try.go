package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/relay/auth"
)

func newTry(c *console) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "try",
		Short: "A playground: a relay with everything it needs, for now",
		Long: `Start a relay to play with. It needs no configuration and leaves nothing behind: data
directory, self-signed certificate, user and password are made for this run and
removed at its end.

It listens on loopback, at ports 2587 (STARTTLS) and 2465 (implicit TLS) or, where they
are taken, at free ones. A built-in next hop takes all mail and forgets it. A first
message is submitted through the real wire; then come commands to paste for
swaks, curl, msmtp and Python, and the relay log as it is written, until Ctrl-C.`,
		Example: `  tacet try
  tacet try --once && echo it works
  tacet try --json | jq -c .status`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			limitMemory()
			if err := hardenProcess(); err != nil {
				return err
			}
			return c.try(cmd.Context(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the first delivery")
	return cmd
}

// playground is what a run of try is made of.
type playground struct {
	dir      string // of everything; removed at the end
	user     string
	password string
	cert     string // the certificate alone, for clients to trust
	starttls netip.AddrPort
	implicit netip.AddrPort
}

// The addresses of the first message, and of those in the commands to paste:
// names that are reserved (RFC 2606).
const (
	trySender    = "anna@example.org"
	tryRecipient = "bob@example.net"
)

// tryTimeout is how long the first message may take.
const tryTimeout = 30 * time.Second

func (c *console) try(ctx context.Context, once bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	page := newTryPage(c)
	page.greet()
	dir, err := os.MkdirTemp("", "tacet-try-")
	if err != nil {
		return fmt.Errorf("making a data directory: %w", err)
	}
	p := &playground{dir: dir, user: "try", password: strings.ToLower(rand.Text()[:16])}
	err = c.play(ctx, p, page, once)
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("removing the data directory: %w", removeErr))
	}
	if err == nil {
		page.farewell()
	}
	return err
}

// play runs the relay and its next hop until ctx ends, or with once until the
// first message has been delivered.
func (c *console) play(ctx context.Context, p *playground, page *tryPage, once bool) (err error) {
	sink, err := startSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	config, err := p.prepare(sink.address)
	if err != nil {
		return err
	}
	d, err := startDaemon(ctx, config, deps{})
	if err != nil {
		return err
	}
	defer func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, d.stop(grace))
	}()
	p.starttls, p.implicit = d.address(0), d.address(1)
	page.started(p, sink.address)

	return interrupted(ctx, c.watch(ctx, p, page, config.Log.Dir, once))
}

// watch submits the first message and shows the log: until that message has been
// delivered, and then, unless once, until ctx ends.
func (c *console) watch(ctx context.Context, p *playground, page *tryPage, dir string, once bool) error {
	if err := p.submit(ctx); err != nil {
		return fmt.Errorf("submitting the first message: %w", err)
	}
	late := errors.New("the first message was not delivered in time")
	first, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(tryTimeout, func() { cancel(late) })
	defer timer.Stop()
	show := c.logPrinter(false)
	delivered := false
	// All lines from the start: the first ones may be there by now.
	for line, err := range logging.Read(first, logging.ReadOptions{Dir: dir, Last: -1, Follow: true}) {
		if err != nil {
			return fmt.Errorf("reading the relay log: %w", err)
		}
		if err := show(line); err != nil {
			return err
		}
		if delivered || line.Event != logging.Delivered {
			continue
		}
		delivered = true
		timer.Stop()
		if once {
			return nil
		}
		page.hints(p)
	}
	return context.Cause(first)
}

// interrupted is nil if the user has ended the run, and err otherwise.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepare makes certificate, user and config, and reads the config as serve would.
func (p *playground) prepare(nextHop netip.AddrPort) (*Config, error) {
	const hostname = "localhost"
	pair, err := selfSign(hostname, time.Now())
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(pair) // the certificate comes first
	p.cert = filepath.Join(p.dir, "cert.pem")
	users := p.user + ":" + auth.NewHash([]byte(p.password), auth.DefaultParams()) + ":senders=*\n" // whoever plays may call themselves anything
	text := fmt.Sprintf(`hostname = %q
data_dir = "data"

[[listener]]
address = %q

[[listener]]
address = %q
tls = "implicit"

[tls]
cert = "cert.pem"
key = "key.pem"

[auth]
users_file = "users"

[delivery]
next_hop = "[%s]:%d"
`, hostname, freeAddress(2587), freeAddress(2465), nextHop.Addr(), nextHop.Port())
	file := filepath.Join(p.dir, "tacet.toml")
	for _, f := range []struct {
		path, content string
	}{
		{p.cert, string(pem.EncodeToMemory(block))},
		{filepath.Join(p.dir, "key.pem"), string(pair)},
		{filepath.Join(p.dir, "users"), users},
		{file, text},
	} {
		if err := os.WriteFile(f.path, []byte(f.content), 0o600); err != nil {
			return nil, fmt.Errorf("preparing the relay: %w", err)
		}
	}
	return LoadConfig(file)
}

// freeAddress is the port on loopback, or 0 for any where it is taken.
func freeAddress(port uint16) string {
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return address
}

// pool is the trust in the playground's own certificate and no other.
func (p *playground) pool() (*x509.CertPool, error) {
	content, err := os.ReadFile(p.cert)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("reading the certificate: there is none")
	}
	return pool, nil
}

// tryPage is what try shows to people.
type tryPage struct {
	out   io.Writer
	json  bool
	print func(v any) error
	p     palette
}

func newTryPage(c *console) *tryPage {
	return &tryPage{out: c.out, json: c.json, print: c.printJSON, p: newPalette(c.out)}
}
