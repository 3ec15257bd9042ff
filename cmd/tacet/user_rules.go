package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/relay"
	"tacet/relay/auth"
	"tacet/relay/quota"
)

// rulesHelp explains the flags of ruleFlags.
const rulesHelp = `--senders lists what the user may send as (MAIL FROM; the From field too, for DKIM and
if submission.header_from says so), separated by commas: "anna@example.org" is this
address, "anna+*@example.org" it with any extension, "@example.org" the whole domain,
"@.example.org" its subdomains, "*" any address, and the empty list none. Upper and
lower case are the same. The empty sender <>, of read receipts, is everyone's.

The limits are for any hour and any day, and come before those of [submission] in the
config; 0 stands for no limit. "default" takes back what was given.`

// ruleFlags are the flags that say what a user may send.
type ruleFlags struct {
	senders string
	limits  [len(relay.Quota{})]string
}

func flagOf(limit relay.Limit) string { return strings.ReplaceAll(limit.String(), "_", "-") }

func (r *ruleFlags) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.senders, "senders", "", "addresses that the user may send as")
	for _, limit := range relay.AllLimits() {
		cmd.Flags().StringVar(&r.limits[limit], flagOf(limit), "", "a number, or \"default\"")
	}
}

// change is what the flags that were given do to a user's rules.
func (r *ruleFlags) change(cmd *cobra.Command) (func(*auth.Rules), error) {
	var steps []func(*auth.Rules)
	switch {
	case !cmd.Flags().Changed("senders"):
	case r.senders == "default":
		steps = append(steps, func(rules *auth.Rules) { rules.Senders = nil })
	default:
		senders, err := auth.ParseSenders(r.senders)
		if err != nil {
			return nil, wrongUsage("--senders %s: %v", quote(r.senders), err)
		}
		steps = append(steps, func(rules *auth.Rules) { rules.Senders = senders })
	}
	for _, limit := range relay.AllLimits() {
		name, text := flagOf(limit), r.limits[limit]
		if !cmd.Flags().Changed(name) {
			continue
		}
		if text == "default" {
			steps = append(steps, func(rules *auth.Rules) { delete(rules.Limits, limit) })
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n > relay.MaxLimit {
			return nil, wrongUsage("--%s is a number from 0 (no limit) to %d, or \"default\", not %s", name, relay.MaxLimit, quote(text))
		}
		steps = append(steps, func(rules *auth.Rules) {
			if rules.Limits == nil {
				rules.Limits = make(map[relay.Limit]int)
			}
			rules.Limits[limit] = int(n)
		})
	}
	return func(rules *auth.Rules) {
		for _, step := range steps {
			step(rules)
		}
	}, nil
}

// noteRules says what is seldom meant.
func (c *console) noteRules(config *Config, name string, rules auth.Rules) {
	senders := rules.Senders
	if senders == nil {
		senders = config.userDefaults().Senders(name)
	}
	switch {
	case rules.Senders != nil:
	case senders.Any():
		c.note("%s may send as any address: say which, with `tacet user modify %s --senders ADDRESS`", name, name)
	case len(senders.List()) == 0:
		c.note("%s may send as no address: say which, with `tacet user modify %s --senders ADDRESS`", name, name)
	case senders.String() != name:
		c.note("%s may send as %s: say others with `tacet user modify %s --senders ADDRESS`", name, someOf(senders.List()), name)
	}
	if config.Submission.Memory == 0 && rules.Limits[relay.NewRecipientsPerDay] > 0 {
		c.note("new_recipients_per_day is without effect: submission.recipient_memory is not set in the config")
	}
}

// someOf names the first of a list, and how many more there are.
func someOf(list []string) string {
	if more := len(list) - 3; more > 0 {
		return strings.Join(list[:3], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, ", ")
}

func newUserModify(c *console) *cobra.Command {
	var rules ruleFlags
	cmd := &cobra.Command{
		Use:   "modify NAME",
		Short: "Change what a user may send as, and how much",
		Long: `Change the addresses that a user may send as, and the user's limits. What is not given
stays as it is, the password too. A running daemon takes it over at once.

` + rulesHelp,
		Example: `  tacet user modify anna@example.org --senders anna@example.org,info@example.org
  tacet user modify newsletter --senders @news.example.org --recipients-per-day 20000
  tacet user modify anna@example.org --senders default --messages-per-hour default`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := rules.change(cmd)
			if err != nil {
				return err
			}
			return c.modifyUser(cmd.Context(), args[0], change)
		},
	}
	rules.define(cmd)
	return cmd
}

func (c *console) modifyUser(ctx context.Context, name string, change func(*auth.Rules)) error {
	config, users, err := c.changeUsers(ctx, logging.VerbUserModify)
	if err != nil {
		return err
	}
	defer users.Close()
	rules, missing, err := users.edit(name, func(hash string) string { return hash }, change)
	if err != nil {
		return err
	}
	if missing {
		return fmt.Errorf("there is no user %s; `tacet user list` shows who there is", strings.TrimSpace(name))
	}
	c.tellDaemon(ctx, config)
	c.noteRules(config, name, rules)
	return c.printUsers([]userState{stateOf(config, auth.User{Name: name, Rules: rules}, usedQuota{})}, false)
}

// usedQuota is what a user has used of the limits.
type usedQuota struct {
	Used           relay.Quota `json:"used"`
	Recipients     int         `json:"remembered_recipients"`
	Correspondents int         `json:"correspondents"` // users that have written to an address
}

// userState is what a user may send, and has sent.
type userState struct {
	User       string               `json:"user"`
	Senders    []string             `json:"senders"`
	Listed     bool                 `json:"listed"` // in the user's line of the users file
	Limits     map[string]limitUsed `json:"limits"`
	Recipients int                  `json:"remembered_recipients"`
}

// limitUsed is a limit, 0 if there is none, and what counts against it.
type limitUsed struct {
	Limit int `json:"limit"`
	Used  int `json:"used"`
}

func stateOf(config *Config, user auth.User, used usedQuota) userState {
	d := config.userDefaults()
	senders := user.Rules.Senders
	if senders == nil {
		senders = d.Senders(user.Name)
	}
	state := userState{User: user.Name, Senders: append([]string{}, senders.List()...), Listed: user.Rules.Senders != nil,
		Limits: make(map[string]limitUsed), Recipients: used.Recipients}
	all := user.Rules.Quota(d.Quota)
	for _, limit := range relay.AllLimits() {
		state.Limits[limit.String()] = limitUsed{all[limit], used.Used[limit]}
	}
	return state
}

func newUserShow(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "show [NAME]",
		Short: "Show what users may send as, and their use of the limits",
		Long: `Show what a user, or each of them, may send as and how much, and what was sent within the
last hour and day. Only users with a limit are counted.`,
		Example: `  tacet user show anna@example.org
  tacet user show --json | jq 'select(.limits.messages_per_day.used > 100) | .user'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return takes("NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.showUsers(cmd.Context(), args)
		},
	}
}

func (c *console) showUsers(ctx context.Context, names []string) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	scope := logging.ScopeAll
	if len(names) > 0 {
		scope = logging.ScopeUser
	}
	if err := c.recordUsers(ctx, config, logging.VerbUserShow, scope); err != nil {
		return err
	}
	content, err := os.ReadFile(config.Auth.UsersFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the users file: %w", err)
	}
	users, faulty := auth.CheckFile(content)
	if len(names) > 0 {
		if users = slices.DeleteFunc(users, func(u auth.User) bool { return u.Name != names[0] }); len(users) == 0 {
			return fmt.Errorf("there is no user %s; `tacet user list` shows who there is", strings.TrimSpace(names[0]))
		}
	}
	used, end, err := usageOf(ctx, config)
	if err != nil {
		return err
	}
	defer end()
	states := make([]userState, len(users))
	for i, user := range users {
		u, err := used(user.Name, "")
		if err != nil {
			return err
		}
		states[i] = stateOf(config, user, u)
	}
	if err := c.printUsers(states, true); err != nil || faulty == nil {
		return err
	}
	return fmt.Errorf("%s: %w", config.Auth.UsersFile, faulty)
}

// usageReader tells what a user has sent, and how many are known to have written to an address.
type usageReader func(user, address string) (usedQuota, error)

// usageOf asks the daemon if it runs, or else looks at what it has kept.
func usageOf(ctx context.Context, config *Config) (read usageReader, end func(), err error) {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		return func(user, address string) (u usedQuota, err error) {
			q := url.Values{"user": {user}, "address": {address}}
			return u, daemon.get(ctx, http.MethodGet, "usage?"+q.Encode(), &u)
		}, func() { daemon.Close() }, nil
	}
	if !errors.Is(err, errNoDaemon) {
		return nil, nil, err
	}
	meter, err := config.storedUsage()
	if err != nil {
		return nil, nil, err
	}
	return func(user, address string) (usedQuota, error) { return usedBy(meter, user, address), nil }, meter.Stop, nil
}

func usedBy(meter *quota.Meter, user, address string) (u usedQuota) {
	u.Used, u.Recipients = meter.Used(user)
	if address != "" {
		u.Correspondents = meter.Correspondents(address)
	}
	return u
}

// answerUsage tells what a user has sent. That somebody asks is on record already.
func (c *control) answerUsage(w http.ResponseWriter, r *http.Request) {
	if c.usage == nil {
		answer(w, usedQuota{})
		return
	}
	answer(w, usedBy(c.usage, r.URL.Query().Get("user"), r.URL.Query().Get("address")))
}

// printUsers prints what users may send, and with used what they have sent.
func (c *console) printUsers(states []userState, used bool) error {
	for i, state := range states {
		var err error
		if c.json {
			err = c.printJSON(state)
		} else {
			if i > 0 {
				fmt.Fprintln(c.out)
			}
			err = state.print(c.out, used)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// print writes it for people.
func (s *userState) print(w io.Writer, used bool) error {
	out := &lineWriter{w: w}
	senders := strings.Join(s.Senders, ", ")
	switch {
	case len(s.Senders) == 0:
		senders = "nobody"
	case slices.Contains(s.Senders, "*"):
		senders = "anybody"
	}
	out.line("%s", s.User)
	out.line("  %-23s %s%s", "sends as", senders, note(!s.Listed, " (by default)"))
	for _, limit := range relay.AllLimits() {
		l := s.Limits[limit.String()]
		switch {
		case l.Limit > 0 && used:
			out.line("  %-23s %d of %d", limit, l.Used, l.Limit)
		case l.Limit > 0:
			out.line("  %-23s %d", limit, l.Limit)
		}
	}
	if s.Recipients > 0 {
		out.line("  %-23s %d, as hashes", "remembered recipients", s.Recipients)
	}
	return out.err
}
