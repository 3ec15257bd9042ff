package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/queue"
	"tacet/relay/recipients"
)

func newRecipients(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recipients",
		Short: "Say who exists: lists for a fallback MX",
		Long: `Let a fallback MX know who exists while the primary is down, so that mail to
unknown recipients is refused in the session and never bounced.

At the primary a list is made: keyed hashes of the addresses, dated and signed. The
fallback fetches it on a timer ([recipients] of its config). It can neither read
the addresses nor make a list.`,
		Example: `  tacet recipients key /etc/tacet                       # once, at the primary
  tacet recipients build --key /etc/tacet/recipients-sign.key --domain example.org \
      --from postfix:/etc/postfix/virtual --out /var/www/recipients.list
  tacet recipients pull                                 # at the fallback, by hand
  tacet recipients check anna@example.org`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newRecipientsKey(c), newRecipientsBuild(c), newRecipientsPull(c), newRecipientsCheck(c))
	return cmd
}

func newRecipientsKey(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "key DIR",
		Short: "Make the pair of keys",
		Long: `Make the pair of keys: recipients-sign.key stays at the primary and makes lists,
recipients-verify.key goes to the fallback (recipients.key of its config) and
reads them. Both are secret: with either the hashes of common names can be guessed.`,
		Example: `  tacet recipients key /etc/tacet
  scp /etc/tacet/recipients-verify.key mx2.example.org:/etc/tacet/`,
		Args: takes("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			key := recipients.NewKey()
			for name, text := range map[string]string{"recipients-sign.key": key.Text(), "recipients-verify.key": key.Verify().Text()} {
				f, err := os.OpenFile(filepath.Join(args[0], name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return fmt.Errorf("making a key: %w", err)
				}
				_, err = f.WriteString(text)
				if err = errors.Join(err, f.Close()); err != nil {
					return fmt.Errorf("making a key: %w", err)
				}
				c.note("made %s", f.Name())
			}
			return nil
		},
	}
}

// listPlan is what a list is made of.
type listPlan struct {
	key, out string
	domains  []string
	from     []string
	options  recipients.Options

	bindDN, passwordFile, caFile string // of LDAP
}

func newRecipientsBuild(c *console) *cobra.Command {
	var p listPlan
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make a list of recipients, at the primary",
		Long: `Make a list of recipients, hashed, dated and signed. Run it from cron or a timer.

--from names what the addresses are read from, FORMAT:FILE or FORMAT:|COMMAND, and may be
given many times. Formats are list (an address on each line), postfix (the source of
a table, or what "postmap -s" prints of a compiled one: hash, btree, lmdb, cdb …), exim (an
aliases or lsearch file) and ldif (what ldapsearch prints). An LDAP server is asked by an LDAP address: ldaps://, ldap:// (TLS by StartTLS,
never in the clear) or ldapi:///, with base, attributes, scope and filter. Names without a domain belong to each --domain; "@example.org" takes
mail to every mailbox of the domain; what is of other domains is left out.`,
		Example: `  tacet recipients build --key sign.key --domain example.org --from list:/etc/mail/users --out r.list
  tacet recipients build --key sign.key --domain example.org --delimiters + \
      --from "postfix:|postmap -s hash:/etc/postfix/virtual" --from exim:/etc/aliases --out r.list
  tacet recipients build --key sign.key --domain example.org --out r.list \
      --from "ldaps://ldap.example.org/ou=people,dc=example,dc=org?mail,mailAlternateAddress?sub?(mail=*)" \
      --bind-dn cn=tacet,dc=example,dc=org --password-file /etc/tacet/ldap.password`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needFlags(cmd, "key", "domain", "from", "out"); err != nil {
				return err
			}
			return c.buildRecipients(cmd.Context(), &p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.key, "key", "", "the key that signs: recipients-sign.key")
	f.StringVar(&p.out, "out", "", "where the list goes")
	f.StringSliceVar(&p.domains, "domain", nil, "a domain that the list speaks for; may be repeated")
	f.StringArrayVar(&p.from, "from", nil, "FORMAT:FILE, FORMAT:|COMMAND or an LDAP address; may be repeated")
	f.StringVar(&p.bindDN, "bind-dn", "", "as whom LDAP servers are asked; absent: anonymously, or by EXTERNAL at ldapi:")
	f.StringVar(&p.passwordFile, "password-file", "", "file with the password for --bind-dn, its first line, mode 0600")
	f.StringVar(&p.caFile, "ca", "", "certificates that vouch for LDAP servers, PEM; absent: those of the system")
	f.StringVar(&p.options.Delimiters, "delimiters", "", "characters that end the name of a mailbox, such as \"+\" (anna+shop is anna)")
	f.BoolVar(&p.options.KeepCase, "keep-case", false, "Anna and anna are two mailboxes")
	return cmd
}

func (c *console) buildRecipients(ctx context.Context, p *listPlan) error {
	text, err := os.ReadFile(p.key)
	if err != nil {
		return fmt.Errorf("reading the key: %w", err)
	}
	key, err := recipients.ParseSignKey(string(text))
	if err != nil {
		return fmt.Errorf("reading the key: %w", err)
	}
	var entries []string
	for _, from := range p.from {
		some, err := p.read(ctx, from)
		if err != nil {
			return err
		}
		entries = append(entries, some...)
	}
	if len(entries) == 0 {
		return errors.New("there is not one recipient of the domains: an empty list would refuse all mail, so none was made")
	}
	list, err := recipients.Build(key, entries, p.options, time.Now())
	if err != nil {
		return fmt.Errorf("making the list: %w", err)
	}
	if err := writeWhole(p.out, list, 0o644); err != nil {
		return err
	}
	c.note("%s has %s", p.out, plural(len(entries), "recipient"))
	return nil
}

// read gives the recipients of one source.
func (p *listPlan) read(ctx context.Context, from string) ([]string, error) {
	format, where, _ := strings.Cut(from, ":")
	if slices.Contains(recipients.Directories(), format) {
		login, err := p.login()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, sourceWithin)
		defer cancel()
		some, err := recipients.ReadLDAP(ctx, from, login, p.domains)
		if err != nil {
			return nil, fmt.Errorf("reading the recipients: %w", err)
		}
		return some, nil
	}
	content, err := readSource(ctx, where)
	if err != nil {
		return nil, fmt.Errorf("reading the recipients: %w", err)
	}
	some, err := recipients.Parse(format, string(content), p.domains)
	if err != nil {
		return nil, usageError{fmt.Errorf("--from %s: %w", from, err)}
	}
	return some, nil
}

// login is how LDAP servers are met.
func (p *listPlan) login() (login recipients.LDAPLogin, err error) {
	login.BindDN = p.bindDN
	if (p.bindDN == "") != (p.passwordFile == "") {
		return login, wrongUsage("--bind-dn and --password-file go together")
	}
	if p.passwordFile != "" {
		if login.Password, err = readPassword(p.passwordFile); err != nil {
			return login, err
		}
	}
	if p.caFile != "" {
		text, err := os.ReadFile(p.caFile)
		if err != nil {
			return login, fmt.Errorf("reading the certificates: %w", err)
		}
		login.Roots = x509.NewCertPool()
		if !login.Roots.AppendCertsFromPEM(text) {
			return login, fmt.Errorf("%s has no certificate in PEM", p.caFile)
		}
	}
	return login, nil
}

// sourceWithin is how long a command or a server may take.
const sourceWithin = 2 * time.Minute

// readSource reads a file, or what a command behind a "|" prints.
func readSource(ctx context.Context, where string) ([]byte, error) {
	command, isCommand := strings.CutPrefix(where, "|")
	if !isCommand {
		return os.ReadFile(where)
	}
	ctx, cancel := context.WithTimeout(ctx, sourceWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("running the command: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running the command: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(out, recipients.MaxList+1))
	if len(content) > recipients.MaxList {
		cancel()
		err = errors.New("the command prints more than a list may have")
	}
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("running the command: %w", err)
	}
	return content, nil
}

// writeWhole replaces a file, so that whoever reads it sees the old or the new one.
func writeWhole(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

func newRecipientsPull(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "pull",
		Short: "Fetch the list, at the fallback",
		Long: `Fetch the list from recipients.source and check its signature. A list that is older
than the one that is here is refused. A running daemon does the same every
recipients.every, and takes over within a minute what was fetched by hand.`,
		Example: `  tacet recipients pull`,
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			list, err := config.pullRecipients(cmd.Context())
			if err != nil {
				return err
			}
			c.note("%s of %s", plural(list.Len(), "recipient"), list.Date.Format(time.DateTime))
			return nil
		},
	}
}

func newRecipientsCheck(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "check ADDRESS",
		Short: "Look an address up in the list that is here",
		Long: `Look an address up in the list that is here. It ends with 0 if the list has the
address, and with 1 if not.`,
		Example: `  tacet recipients check anna@example.org`,
		Args:    takes("ADDRESS"),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			list, err := config.openRecipients()
			if err != nil {
				return err
			}
			to := queue.ForwardPath(args[0])
			known := map[string]any{"covered": list.Covers(to), "listed": list.Has(to), "date": list.Date}
			if c.json {
				if err := c.printJSON(known); err != nil {
					return err
				}
			} else {
				c.note("listed: %v, the list of %s speaks for the domain: %v", list.Has(to), list.Date.Format(time.DateTime), list.Covers(to))
			}
			if !list.Has(to) {
				return errSilent
			}
			return nil
		},
	}
}

// sourceOK checks what recipients.source begins with.
func sourceOK(s string) error {
	if s == "" || slices.ContainsFunc([]string{"https://", "file:", "|"}, func(p string) bool { return strings.HasPrefix(s, p) && s != p }) {
		return nil
	}
	return errors.New("want \"https://mail.example.org/recipients.list\", \"file:/path\" or \"|command\", whose output is the list")
}
