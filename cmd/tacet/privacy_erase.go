package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/relay/quota"
)

func newPrivacyErase(c *console) *cobra.Command {
	var e erasure
	var yes, dryRun, here bool
	cmd := &cobra.Command{
		Use:   "erase ADDRESS --ticket T",
		Short: "Take a person out of the relay log",
		Long: `Take a person out of the relay log, in all days that are kept, the running one too.

Without --yes it only counts. With --yes the records stay, so that totals and the other
side's half of a mail remain, and lose what is of the person: their address as sender
or recipient, the subject, the header fields of a content rejection, and, where they
were the sender or the user, the user and the client's address. Each day concerned is
written anew under a fresh key, and the old key is destroyed: a backup from before
opens none of those days any more. Only the running day, unless log.live is "sealed",
stands in a backup in plain. What is counted for the limits of users is treated in
the same way: that somebody has written to the address is forgotten, and what was
counted of a user of that name.

If the config has another site (site.command), it is done there first; if that fails, nothing is
done here and the command fails.

Messages of the person in the queue are listed and not deleted: that is
"tacet queue delete". Whether to erase is a person's decision, which the ticket
stands for; the audit log keeps the ticket and the counts, not the address.`,
		Example: `  tacet privacy erase anna@example.org --ticket DSAR-12
  tacet privacy erase anna@example.org --ticket DSAR-12 --yes
  tacet privacy erase anna@example.org --user anna --ticket DSAR-12 --yes --json`,
		Args: takes("an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.Address, e.yes = args[0], yes && !dryRun
			if err := e.check(); err != nil {
				return err
			}
			if yes && dryRun {
				return wrongUsage("--yes and --dry-run are opposites: give one")
			}
			if !here {
				config, err := LoadConfig(c.config)
				if err != nil {
					return err
				}
				if len(config.Site.Command) > 0 {
					if err := c.eraseAtSite(cmd.Context(), config, &e); err != nil {
						return err
					}
				}
			}
			return c.erase(cmd.Context(), &e)
		},
	}
	cmd.Flags().StringVar(&e.ticket, "ticket", "", "the occasion, for the audit log: letters, digits, \"-\", \".\" and \"_\"")
	cmd.Flags().StringVar(&e.User, "user", "", "the person's user name, if it is not the address")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&here, "here", false, "at this site alone, although the config has another (site.command)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count, which is the default")
	return cmd
}

// erasure is what was asked for.
type erasure struct {
	logging.Person
	ticket string
	yes    bool
}

func (e *erasure) check() error {
	local, domain, found := strings.Cut(e.Address, "@")
	if !found || local == "" || domain == "" || strings.ContainsAny(e.Address, " \t\r\n<>") {
		return wrongUsage("%s is no mail address", quote(e.Address))
	}
	if !isTicket(e.ticket) {
		return wrongUsage("--ticket is needed, such as --ticket DSAR-12: up to 64 letters, digits, \"-\", \".\" and \"_\"")
	}
	return nil
}

// isTicket tells whether the audit log takes it.
func isTicket(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// scopes is by what the person is named.
func (e *erasure) scopes() []logging.Scope {
	if e.User != "" {
		return []logging.Scope{logging.ScopeAddress, logging.ScopeUser}
	}
	return []logging.Scope{logging.ScopeAddress}
}

func (e *erasure) query() url.Values {
	q := url.Values{"address": {e.Address}, "ticket": {e.ticket}}
	if e.User != "" {
		q.Set("user", e.User)
	}
	if e.yes {
		q.Set("yes", "true")
	}
	return q
}

// erased is what came of it.
type erased struct {
	Done     bool     `json:"done"` // or only counted
	Records  int      `json:"records"`
	Days     int      `json:"days"`
	Sender   int      `json:"as_sender"`
	To       int      `json:"as_recipient"`
	User     int      `json:"as_user"`
	Mention  int      `json:"mentioned"`
	Limits   int      `json:"in_limits_of"` // users that were remembered to have written to the person
	Messages []string `json:"queued"`       // IDs
}

func (e *erased) took(t logging.Traces) {
	e.Records, e.Days, e.Sender, e.To, e.User, e.Mention = t.Records, t.Days, t.AsSender, t.AsRecipient, t.AsUser, t.Mentioned
}

func (c *console) erase(ctx context.Context, e *erasure) error {
	op, err := c.operator(ctx)
	if err != nil {
		return err
	}
	defer op.Close()
	result, err := op.Erase(ctx, e)
	if err != nil {
		return err
	}
	result.Messages = []string{}
	for m, err := range op.List(ctx, listFilter{}) {
		if err != nil {
			return err
		}
		if m.concerns(e.Address) {
			result.Messages = append(result.Messages, m.ID)
		}
	}
	if c.json {
		return c.printJSON(result)
	}
	c.printErased(result)
	return nil
}

func (c *console) printErased(r erased) {
	verb := "The log has"
	if r.Done {
		verb = "Taken out of the log:"
	}
	fmt.Fprintf(c.out, "%s %s on %s: %d as sender, %d as recipient, %d as user, %d in a subject or header field\n",
		verb, plural(r.Records, "record"), plural(r.Days, "day"), r.Sender, r.To, r.User, r.Mention)
	if r.Limits > 0 {
		fmt.Fprintf(c.out, "Remembered, as a hash, for the limits of %s%s\n", plural(r.Limits, "user"), note(r.Done, ": forgotten"))
	}
	if len(r.Messages) > 0 {
		fmt.Fprintf(c.out, "In the queue, and left there: %s\n", strings.Join(r.Messages, " "))
	}
	if !r.Done {
		fmt.Fprintln(c.out, "Nothing was changed. To do it, add --yes.")
	}
}

// concerns tells whether the message is from or to the address.
func (m *message) concerns(address string) bool {
	if strings.EqualFold(m.Sender, address) {
		return true
	}
	for _, r := range m.Recipients {
		if strings.EqualFold(r.Recipient, address) {
			return true
		}
	}
	return false
}

// Erase implements operator.
func (c *controlClient) Erase(ctx context.Context, e *erasure) (r erased, err error) {
	return r, c.get(ctx, http.MethodPost, "erase?"+e.query().Encode(), &r)
}

// Erase implements operator.
func (o *offline) Erase(ctx context.Context, e *erasure) (erased, error) {
	meter, err := o.config.storedUsage()
	if err != nil {
		return erased{}, err
	}
	defer meter.Stop()
	return e.run(ctx, o.who, o.admins.Write, o.config, meter, o.log.Erase)
}

// answerErase erases on behalf of a command.
func (c *control) answerErase(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	e := erasure{Person: logging.Person{Address: q.Get("address"), User: q.Get("user")}, ticket: q.Get("ticket"), yes: q.Get("yes") == "true"}
	if err := e.check(); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	// A client that goes away does not leave it half done.
	result, err := e.run(context.WithoutCancel(r.Context()), peerOf(r.Context()), c.audit, c.logRead.config, c.usage, c.erase)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, result)
}

// run counts, or erases what it has counted, with one record before anything is
// done or told: of how many records there were, and how many it set out to change.
func (e *erasure) run(ctx context.Context, who person, audit func(logging.Action) error, config *Config,
	meter *quota.Meter, do func(context.Context, logging.Person) (logging.Traces, error)) (result erased, err error) {
	act := who.action(logging.VerbPrivacyErase, e.scopes()...)
	act.Ticket = e.ticket
	traces, err := e.Find(ctx, config.Log.Dir, config.logKeyDir())
	if meter != nil {
		result.Limits = meter.Correspondents(e.Address)
	}
	act.Matched, act.Failed = traces.Records, err != nil
	if e.yes && err == nil {
		act.Changed = traces.Records
	}
	if audit(act) != nil {
		return result, errNotRecorded
	}
	if e.yes && err == nil {
		traces, err = do(ctx, e.Person)
		if err == nil && meter != nil {
			err = meter.Erase(e.Address, e.Address, e.User)
		}
	}
	if err != nil {
		return result, fmt.Errorf("erasing: %w", err)
	}
	result.Done = e.yes
	result.took(traces)
	return result, nil
}
