package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/outbound"
	"tacet/relay/tlspolicy"
	"tacet/relay/tlspolicy/mtasts"
)

func newRoute(c *console) *cobra.Command {
	connect := false
	cmd := &cobra.Command{
		Use:   "route ADDRESS",
		Short: "Show where mail to an address would go, and under which TLS",
		Long: `Show where mail to an address would go by the config and the DNS of this moment: the
hosts in the order to try them, what DNSSEC vouches for, DANE and MTA-STS, and what
TLS each host would be held to. A domain does as well as an address.

With --connect each host is greeted as for mail, and shows its TLS and its certificate. No
sender and no recipient are named, no login is made, and nothing is sent or written.

The command ends with 1 if mail would not get anywhere now.`,
		Example: `  tacet route bob@example.net
  tacet route --connect example.net
  tacet route bob@example.net --json | jq -r '.hosts[].wanted'`,
		Args: takes("an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			w, err := newWayfinder(c, config)
			if err != nil {
				return err
			}
			defer w.close()
			way := w.find(cmd.Context(), args[0], connect)
			if c.json {
				err = c.printJSON(way)
			} else {
				out := &lineWriter{w: c.out}
				way.print(out)
				err = out.err
			}
			if err == nil && !way.open() {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "greet each host, and look at its certificate")
	return cmd
}

// wayfinder is what a daemon finds its way with, without a daemon.
type wayfinder struct {
	routes   routes
	policies *mtasts.Cache
	resolver *tlspolicy.Resolver
	client   *outbound.Client
}

// onlyRead is a sealed file that another process writes.
type onlyRead struct{ sealedFile }

// Save implements mtasts.Keeper.
func (onlyRead) Save([]byte) error { return nil }

func newWayfinder(c *console, config *Config) (*wayfinder, error) {
	dns := config.lookups()
	router, err := config.router(dns)
	if err != nil {
		return nil, err
	}
	w := &wayfinder{}
	w.routes.use(router, dns)
	w.policies, err = mtasts.New(mtasts.Config{Source: &w.routes, Keeper: onlyRead{config.sealed("policies")}})
	if err != nil {
		c.note("the MTA-STS policies that the relay keeps cannot be read: %v", err)
	}
	w.resolver = tlspolicy.New(&w.routes, &w.routes, w.policies)
	out := config.outbound(&w.routes)
	// A person waits: nobody is given minutes.
	out.Timeouts = outbound.Timeouts{Connect: 10 * time.Second, Greeting: 30 * time.Second, Command: 30 * time.Second}
	w.client = outbound.New(out, w.resolver)
	return w, nil
}

func (w *wayfinder) close() {
	w.client.Close()
	w.policies.Close() // it saves nothing
}

// way is where mail to a recipient would go.
type way struct {
	Recipient   string    `json:"recipient"`
	Destination string    `json:"destination"`
	Configured  bool      `json:"configured"` // by a next hop, not by MX records
	TLS         string    `json:"tls"`        // as the config says
	DNSSEC      bool      `json:"dnssec"`     // the hosts' names are certain
	MX          []wayMX   `json:"mx,omitempty"`
	MTASTS      *waySTS   `json:"mta_sts,omitempty"`
	Hosts       []wayHost `json:"hosts"`
	Fallback    string    `json:"fallback,omitempty"`
	Untrusted   bool      `json:"resolver_untrusted"` // so nothing is validated, and there is no DANE
	Fault       *wayFault `json:"fault,omitempty"`
}

type wayMX struct {
	Host       string `json:"host"`
	Preference uint16 `json:"preference"`
}

// waySTS is the domain's MTA-STS policy, or why it is not known.
type waySTS struct {
	Mode   string   `json:"mode,omitempty"`
	MX     []string `json:"mx,omitempty"`
	MaxAge string   `json:"max_age,omitempty"`
	Fault  string   `json:"fault,omitempty"`
}

// wayFault is why mail does not go on, in the words of the log.
type wayFault struct {
	Reason  string `json:"reason"`
	Meaning string `json:"meaning"`
	Lasting bool   `json:"lasting"` // the message fails at once
}

func faultOf(reply queue.Reply) *wayFault {
	reason := relay.Reason(reply)
	return &wayFault{reason.String(), reason.Meaning("en"), reply.Permanent()}
}

// find finds the way, and connects if it is to.
func (w *wayfinder) find(ctx context.Context, to string, connect bool) *way {
	way := &way{Recipient: to, Hosts: []wayHost{}}
	if !strings.Contains(to, "@") {
		to = "postmaster@" + to
	}
	way.Untrusted = !w.routes.dns.Load().Trusted()
	d := w.routes.Destination(queue.ForwardPath(to))
	way.Destination = string(d)
	route, err := w.resolver.Route(ctx, d)
	if err != nil {
		cause := queue.CauseLocal
		if e, ok := errors.AsType[*relay.RouteError](err); ok {
			cause, way.Fallback = e.Cause, string(e.Fallback)
		}
		way.Fault = faultOf(queue.Reply{Stage: queue.StageRoute, Cause: cause})
		return way
	}
	way.Configured, way.DNSSEC, way.Fallback = route.Domain == "", route.Authentic, string(route.Fallback)
	way.TLS = tlsPolicies()[route.TLS]
	if route.Domain != "" {
		w.describe(ctx, way, route)
	}
	for _, hop := range route.Hops {
		way.Hosts = append(way.Hosts, w.host(ctx, d, route, hop, connect))
	}
	return way
}

// describe adds what the domain publishes.
func (w *wayfinder) describe(ctx context.Context, way *way, route *relay.Route) {
	if answer, err := w.routes.dns.Load().MX(ctx, route.Domain); err == nil {
		for _, mx := range answer.Hosts {
			way.MX = append(way.MX, wayMX{mx.Host, mx.Preference})
		}
	}
	if route.TLS == relay.TLSNone {
		return
	}
	switch p, failure := w.policies.Policy(ctx, route.Domain); {
	case p != nil:
		way.MTASTS = &waySTS{Mode: p.Mode.String(), MX: p.MX, MaxAge: configDuration(p.MaxAge)}
	case failure != relay.TLSFailureNone:
		way.MTASTS = &waySTS{Fault: failure.String()}
	}
}

// open tells whether mail would get somewhere now, as far as was looked.
func (w *way) open() bool {
	for i := range w.Hosts {
		if w.Hosts[i].Fault == nil {
			return true
		}
	}
	return w.Fallback != ""
}

// print writes the way for people.
func (w *way) print(out *lineWriter) {
	out.line("%s", w.Recipient)
	switch {
	case w.Configured:
		out.line("  goes to     %s, by the config", w.Destination)
	case w.Fault != nil:
		out.line("  goes to     %s", w.Destination)
	default:
		out.line("  goes to     %s, by its MX records%s", w.Destination, vouched(w.DNSSEC))
	}
	for _, mx := range w.MX {
		out.line("  MX          %5d %s", mx.Preference, mx.Host)
	}
	if w.TLS != "" {
		out.line("  config      tls = %s", quote(w.TLS))
	}
	switch sts := w.MTASTS; {
	case w.Configured || w.Fault != nil:
	case sts == nil:
		out.line("  MTA-STS     no policy")
	case sts.Fault != "":
		out.line("  MTA-STS     there should be a policy, and it cannot be had: %s", sts.Fault)
	default:
		out.line("  MTA-STS     %s, for %s: %s", sts.Mode, sts.MaxAge, strings.Join(sts.MX, ", "))
	}
	if w.Untrusted {
		out.line("  no DANE     because no resolver is on loopback or named in dns.trusted")
	}
	for i := range w.Hosts {
		w.Hosts[i].print(out)
	}
	if w.Fault != nil {
		out.line("  fault       %s", w.Fault)
	}
	if w.Fallback != "" {
		out.line("  otherwise   to %s", w.Fallback)
	}
}

func (f *wayFault) String() string {
	if f.Lasting {
		return fmt.Sprintf("%s: %s; mail fails at once", f.Reason, f.Meaning)
	}
	return fmt.Sprintf("%s: %s; mail waits", f.Reason, f.Meaning)
}

func vouched(authentic bool) string {
	if authentic {
		return ", validated by DNSSEC"
	}
	return ", not validated by DNSSEC"
}
