package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay/auth"
)

func newPrivacyExport(c *console) *cobra.Command {
	var ticket, user, to, recipient string
	cmd := &cobra.Command{
		Use:   "export ADDRESS --ticket T",
		Short: "Write what is held about one person",
		Long: `Write what the relay log and the queue hold about one person, for a request of access
(Art. 15 GDPR): the records and the waiting messages in which the address is the sender,
the recipient or named, and with --user what that user submitted. Of a user also what
the users file says and what is counted for limits.

Other people's data is masked: of their addresses only the domain shows, and user and
client only to whoever sent the message. Who asks has to be that person: make sure of
it before. The ticket says why; the audit log says who exported, never what.`,
		Example: `  tacet privacy export anna@example.org --ticket T-77
  tacet privacy export anna@example.org --user anna --ticket T-77 --json --to anna.age --age age1...`,
		Args: takes("ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			person := logging.Person{Address: args[0], User: user}
			switch {
			case mailbox(args[0]) != nil:
				return wrongUsage("%s is not a mail address such as anna@example.org", quote(args[0]))
			case ticket == "":
				return wrongUsage("an export needs its occasion: --ticket, such as --ticket DSAR-12")
			case recipient != "" && to == "":
				return wrongUsage("--age needs a file: --to")
			}
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			write := func(w io.Writer) error { return c.exportPerson(cmd.Context(), config, person, ticket, w) }
			if to == "" {
				return write(c.out)
			}
			return c.export(to, recipient, write)
		},
	}
	cmd.Flags().StringVar(&ticket, "ticket", "", "the occasion")
	cmd.Flags().StringVar(&user, "user", "", "the person's user name too")
	cmd.Flags().StringVar(&to, "to", "", "write to a new file")
	cmd.Flags().StringVar(&recipient, "age", "", "encrypt the file to this age recipient")
	return cmd
}

// personalData is what is held about one person.
type personalData struct {
	Address string            `json:"address"`
	User    string            `json:"user,omitempty"`
	Made    time.Time         `json:"made"`
	Periods []policyPeriod    `json:"periods"`
	Parties []policyParty     `json:"recipients"`
	Account *userState        `json:"account,omitempty"` // of the users file
	Limits  int               `json:"in_limits_of"`      // users that are remembered, by a hash, to have written to the address
	Queue   []message         `json:"queue"`
	Log     []json.RawMessage `json:"log"`

	lines []logging.Line
}

// exportPerson gathers what is held about the person, and writes it.
func (c *console) exportPerson(ctx context.Context, config *Config, person logging.Person, ticket string, w io.Writer) error {
	p := config.policy()
	data := personalData{
		Address: person.Address, User: person.User, Made: time.Now().UTC().Truncate(time.Second),
		Periods: p.Periods, Parties: p.Recipients, Queue: []message{}, Log: []json.RawMessage{},
	}
	if err := data.fromQueue(ctx, config, person, ticket); err != nil {
		return err
	}
	if err := data.fromUsers(ctx, config, person); err != nil {
		return err
	}
	for line, err := range person.Records(ctx, config.Log.Dir, config.logKeyDir()) {
		if err != nil {
			return fmt.Errorf("reading the relay log: %w", err)
		}
		data.Log = append(data.Log, line.Raw)
		data.lines = append(data.lines, line)
	}
	if c.json {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		return out.Encode(data)
	}
	return data.print(w)
}

// fromQueue puts the export on record and finds the person's messages: it asks the
// daemon, or, without one, the queue itself.
func (p *personalData) fromQueue(ctx context.Context, config *Config, person logging.Person, ticket string) error {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		defer daemon.Close()
		q := url.Values{"address": {person.Address}, "user": {person.User}, "ticket": {ticket}}
		return daemon.get(ctx, http.MethodPost, "privacy/export?"+q.Encode(), &p.Queue)
	}
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	off, err := openOffline(config)
	if err != nil {
		return err
	}
	defer off.Close()
	act := off.who.action(logging.VerbPrivacyExport, logging.ScopeAddress)
	if act.Ticket = ticket; off.admins.Write(act) != nil {
		return errNotRecorded
	}
	p.Queue, err = messagesOf(person, off.store.List(ctx, queue.Filter{}))
	return err
}

// fromUsers finds the person's account, and what is counted for limits.
func (p *personalData) fromUsers(ctx context.Context, config *Config, person logging.Person) error {
	if !config.hasKind(KindSubmission) {
		return nil
	}
	read, end, err := usageOf(ctx, config)
	if err != nil {
		return err
	}
	defer end()
	name := cmp.Or(person.User, person.Address)
	used, err := read(name, person.Address)
	if err != nil {
		return err
	}
	p.Limits = used.Correspondents
	content, err := os.ReadFile(config.Auth.UsersFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the users file: %w", err)
	}
	users, _ := auth.CheckFile(content) // a faulty line is another's
	for _, user := range users {
		if user.Name == name {
			p.Account = new(stateOf(config, user, used))
		}
	}
	return nil
}

// answerExport gives the queue's part of an export, and puts the export on record.
func (c *control) answerExport(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	person := logging.Person{Address: q.Get("address"), User: q.Get("user")}
	if person.Address == "" || q.Get("ticket") == "" {
		fail(w, http.StatusBadRequest, errors.New("an export needs an address and a ticket"))
		return
	}
	act := peerOf(r.Context()).action(logging.VerbPrivacyExport, logging.ScopeAddress)
	act.Ticket = q.Get("ticket")
	if !c.recordAction(w, act) {
		return
	}
	found, err := messagesOf(person, c.queue.List(r.Context(), queue.Filter{}))
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, found)
}

// messagesOf finds the messages of a person, as that person may see them.
func messagesOf(person logging.Person, list iter.Seq2[*queue.Envelope, error]) ([]message, error) {
	found := []message{}
	for e, err := range list {
		if errors.Is(err, queue.ErrDamaged) {
			continue // nobody can read it
		}
		if err != nil {
			return nil, err
		}
		if m, ok := messageOf(person, describe(e)); ok {
			found = append(found, m)
		}
	}
	return found, nil
}

// messageOf is a message as the person may see it: whole for its sender but
// for the names of others, and of a recipient only their own part.
func messageOf(person logging.Person, m message) (message, bool) {
	sent := strings.EqualFold(m.Sender, person.Address) ||
		m.User != "" && (strings.EqualFold(m.User, person.User) || strings.EqualFold(m.User, person.Address))
	if !sent {
		m.Recipients = slices.DeleteFunc(m.Recipients, func(r messageRecipient) bool { return !strings.EqualFold(r.Recipient, person.Address) })
		m.Sender, m.User = person.Mask(m.Sender), ""
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		r.Recipient, r.Reply = person.Mask(r.Recipient), person.MaskText(r.Reply)
	}
	return m, sent || len(m.Recipients) > 0
}

// print writes the data for people.
func (p *personalData) print(w io.Writer) error {
	out := &lineWriter{w: w}
	out.line("What is held about %s%s, %s", p.Address, note(p.User != "", ", user "+p.User), p.Made.Format("2006-01-02 15:04 MST"))
	out.line("")
	out.parties(p.Periods, "Passed on to:", p.Parties)
	out.line("")
	if p.Account != nil {
		out.line("As a user:")
		if out.err == nil {
			out.err = p.Account.print(w, true)
		}
		out.line("")
	}
	if p.Limits > 0 {
		out.line("Remembered, as a hash, as a recipient of %s with a limit of new recipients", plural(p.Limits, "user"))
		out.line("")
	}
	out.line("Waiting for delivery: %s", plural(len(p.Queue), "message"))
	for _, m := range p.Queue {
		out.line("")
		if out.err == nil {
			out.err = m.print(w, p.Made)
		}
	}
	out.line("")
	out.line("In the log: %s", plural(len(p.lines), "record"))
	for _, line := range p.lines {
		var text strings.Builder
		if err := logging.Format(&text, line, logging.Style{}); err != nil {
			return fmt.Errorf("printing the log: %w", err)
		}
		out.line("%s", strings.TrimSuffix(text.String(), "\n"))
	}
	return out.err
}
