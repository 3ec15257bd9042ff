package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
)

func newIncident(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incident",
		Short: "Record SMTP dialogues for an occasion: open, list, show, export, close",
		Long: `Record the SMTP dialogue of what an occasion is about, and of nothing else.

An incident has a ticket, a scope and a deadline (4 hours unless said otherwise, 72 at
most). While it is open, the commands and replies with clients and next hops that match
its scope go to a file of their own, under a key that only the running relay has; logins
are always masked, content is left out. Nothing of it is left once it is closed, its
deadline has come, or the relay has ended in whatever way.

Each of these commands leaves an audit record under your name.`,
		Example: `  tacet incident open --ticket T-1234 --scope recipient=anna@example.net
  tacet incident show 4bq2m7k1xz
  tacet incident close 4bq2m7k1xz`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newIncidentOpen(c), newIncidentList(c), newIncidentShow(c), newIncidentExport(c), newIncidentClose(c))
	return cmd
}

// daemon finds the running daemon, for what only it can do.
func (c *console) daemon(ctx context.Context) (*controlClient, error) {
	config, err := LoadConfig(c.config)
	if err != nil {
		return nil, err
	}
	client, err := dialControl(ctx, config.controlSocket())
	if errors.Is(err, errNoDaemon) {
		return nil, fmt.Errorf("%w on %s: start it by `tacet serve`, or is --config not the right one?", errNoDaemon, config.controlSocket())
	}
	return client, err
}

func newIncidentOpen(c *console) *cobra.Command {
	var ticket string
	var scope []string
	var length time.Duration
	var content bool
	cmd := &cobra.Command{
		Use:   "open --ticket T --scope KEY=VALUE...",
		Short: "Open an incident",
		Long: `Open an incident: from now on the dialogues that match are recorded. It ends at its
deadline, when it is closed, and with the relay, at a restart too: its key is in the
relay's memory alone, so that nothing of it outlives the relay, whatever happens.

A scope is recipient= or sender= (an address, or "@" and a domain; sender=<> is the null
one), user=, client= (an IP address), next= (host name or IP address of a next hop) or id=
(a queue ID). Where several are given, all must hold. Within a transaction that matches by
its recipient, what is about other recipients is masked.

With --with-content the content of the matching messages is recorded too, and
"tacet queue show --content" shows that of a queued one whose ID is the scope.`,
		Example: `  tacet incident open --ticket T-1234 --scope recipient=anna@example.net --for 30m
  tacet incident open --ticket T-1235 --scope user=anna --scope client=192.0.2.7
  tacet incident open --ticket T-1236 --scope id=06KBXQ3T5J8ZV1Q2 --with-content`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ticket == "" {
				return wrongUsage("an incident needs its occasion: --ticket, such as --ticket T-1234")
			}
			if _, err := logging.ParseTarget(scope); err != nil {
				return usageError{err}
			}
			client, err := c.daemon(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			q := url.Values{"ticket": {ticket}, "scope": scope, "for": {length.String()}}
			if content {
				q.Set("content", "yes")
			}
			var opened logging.Incident
			if err := client.get(cmd.Context(), http.MethodPost, "incidents?"+q.Encode(), &opened); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(opened)
			}
			c.note("open until %s; `tacet incident close %s` ends it and destroys what it has recorded", localTime(opened.Deadline), opened.ID)
			_, err = fmt.Fprintln(c.out, opened.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&ticket, "ticket", "", "the occasion")
	cmd.Flags().StringArrayVar(&scope, "scope", nil, "what is recorded")
	cmd.Flags().DurationVar(&length, "for", logging.DefaultIncident, "until when, 72h at most")
	cmd.Flags().BoolVar(&content, "with-content", false, "record the content too")
	return cmd
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

func newIncidentList(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the open incidents",
		Long: `List the open incidents: by whom, why, for what, until when at the latest, and how much
they hold. One that a restart of the relay has ended is no longer among them; its end is in
the audit log like any other.`,
		Example: "  tacet incident list\n  tacet incident list --json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.daemon(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			var open []logging.Incident
			if err := client.get(cmd.Context(), http.MethodGet, "incidents", &open); err != nil {
				return err
			}
			for _, in := range open {
				if c.json {
					c.printJSON(in)
					continue
				}
				out := &lineWriter{w: c.out}
				out.line("%s  ticket %s  by %s  until %s or the relay's end  %s, %s", in.ID, in.Ticket, printable(in.By),
					localTime(in.Deadline), plural(in.Lines, "line"), shortOctets(in.Octets))
				out.line("  %s%s%s", printable(strings.Join(in.Scope, " ")), note(in.WithContent, "  with content"), note(in.Full, "  full: nothing more is recorded"))
				if out.err != nil {
					return out.err
				}
			}
			if len(open) == 0 && !c.json {
				c.note("no incident is open (a restart of the relay ends them all)")
			}
			return nil
		},
	}
}

// note is s if it is so.
func note(so bool, s string) string {
	if so {
		return s
	}
	return ""
}

func newIncidentClose(c *console) *cobra.Command {
	return &cobra.Command{
		Use:     "close ID",
		Short:   "Close an incident and destroy what it has recorded",
		Long:    "Close an incident: its key and its file are destroyed. There is no way back.",
		Example: "  tacet incident close 4bq2m7k1xz",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.daemon(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			var was logging.Incident
			if err := client.get(cmd.Context(), http.MethodDelete, "incidents/"+url.PathEscape(args[0]), &was); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(was)
			}
			_, err = fmt.Fprintf(c.out, "%s closed, %s destroyed\n", was.ID, plural(was.Lines, "line"))
			return err
		},
	}
}

func newIncidentShow(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Print what an incident has recorded so far",
		Long: `Print what an open incident has recorded so far: time, connection, who spoke (C the
client, H the next hop, R this relay, * a remark) and the line. With --json one object a line.`,
		Example: "  tacet incident show 4bq2m7k1xz\n  tacet incident show 4bq2m7k1xz --json | jq -r .text",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			show := func(e logging.Exchange) error {
				if c.json {
					return c.printJSON(e)
				}
				return printExchange(c.out, e)
			}
			return c.dialogue(cmd.Context(), args[0], false, show)
		},
	}
}

// dialogue gives what an incident has recorded, line by line.
func (c *console) dialogue(ctx context.Context, id string, export bool, show func(logging.Exchange) error) error {
	client, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	path := "incidents/" + url.PathEscape(id) + "/dialogue"
	if export {
		path += "?export=yes"
	}
	resp, err := client.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := json.NewDecoder(resp.Body)
	for {
		var line struct {
			logging.Exchange
			problem
		}
		err := in.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the daemon's answer: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
		if err := show(line.Exchange); err != nil {
			return err
		}
	}
}

// printExchange prints one line of a dialogue for people.
func printExchange(w io.Writer, e logging.Exchange) error {
	who := "R"
	switch {
	case e.By == "aside":
		who = "*"
	case e.By == "peer" && e.Leg == "in":
		who = "C"
	case e.By == "peer":
		who = "H"
	}
	head := fmt.Sprintf("%s #%d %s", e.Time.Local().Format("15:04:05.000"), e.Session, e.Peer)
	if e.Content == nil {
		_, err := fmt.Fprintf(w, "%s %s %s\n", head, who, printable(e.Text))
		return err
	}
	out := bufio.NewWriter(w)
	for line := range strings.Lines(string(e.Content)) {
		fmt.Fprintf(out, "%s %s | %s\n", head, who, printable(strings.TrimRight(line, "\r\n")))
	}
	return out.Flush()
}

func newIncidentExport(c *console) *cobra.Command {
	var to, recipient string
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Write what an incident has recorded to a file",
		Long: `Write what an open incident has recorded so far to a file, one JSON object a line, for
somebody who has to work on the occasion elsewhere. With --age it is encrypted to that
person's key. The copy is yours to delete: closing the incident does not reach it.`,
		Example: "  tacet incident export 4bq2m7k1xz --to T-1234.jsonl.age --age age1...",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return wrongUsage("an export needs a file: --to")
			}
			return c.export(to, recipient, func(w io.Writer) error {
				out := json.NewEncoder(w)
				out.SetEscapeHTML(false)
				return c.dialogue(cmd.Context(), args[0], true, func(e logging.Exchange) error { return out.Encode(e) })
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the new file")
	cmd.Flags().StringVar(&recipient, "age", "", "encrypt it to this age recipient")
	return cmd
}

// incidentBanner tells everyone who reads the log which incidents are open, and which
// are no longer. What was told before is not told again.
func (c *console) incidentBanner(ctx context.Context, config *Config, told map[string]bool) {
	var open []incidentNotice
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil { // no daemon, no incident
		err = errors.Join(daemon.get(ctx, http.MethodGet, "incidents/open", &open), daemon.Close())
	}
	if err != nil && !errors.Is(err, errNoDaemon) {
		return
	}
	for _, in := range open {
		if !told[in.ID] {
			told[in.ID] = true
			c.note("INCIDENT %s IS OPEN until %s or the relay's end: dialogues are recorded (ticket %s, by %s)", in.ID, localTime(in.Deadline), in.Ticket, printable(in.By))
		}
	}
	for id := range told {
		if !slices.ContainsFunc(open, func(in incidentNotice) bool { return in.ID == id }) {
			delete(told, id)
			c.note("INCIDENT %s HAS ENDED: what it recorded is destroyed", id)
		}
	}
}

// watchIncidents tells of incidents that are open, and with follow of those that are
// opened later, until ctx ends.
func (c *console) watchIncidents(ctx context.Context, config *Config, follow bool) {
	told := make(map[string]bool)
	c.incidentBanner(ctx, config, told)
	if !follow {
		return
	}
	go every(ctx, 5*time.Second, func() { c.incidentBanner(ctx, config, told) })
}

// showContent prints a queued message's content.
func (c *console) showContent(ctx context.Context, id queue.ID) error {
	client, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	resp, err := client.do(ctx, http.MethodGet, "queue/"+id.String()+"/content")
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	defer resp.Body.Close()
	if isTerminal(c.out) {
		for line := range eachLine(resp.Body) {
			if _, err := fmt.Fprintln(c.out, printable(line)); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := io.Copy(c.out, resp.Body); err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return nil
}

// eachLine goes over lines, however long.
func eachLine(r io.Reader) func(func(string) bool) {
	return func(yield func(string) bool) {
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadString('\n')
			if line != "" && !yield(strings.TrimRight(line, "\r\n")) || err != nil {
				return
			}
		}
	}
}

// ownUID is the user that this process runs as.
func ownUID() int { return os.Getuid() }
