package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tacet/relay/content"
	"tacet/relay/route"
)

// complete fills in where the key is.
func (d *DKIMConfig) complete(folder, keyDir string) {
	if absolute(folder, &d.Key); d.Key == "" && d.Domain != "" {
		d.Key = dkimFile(filepath.Join(keyDir, "dkim"), d.Domain, d.Selector)
	}
}

func dkimFile(dir, domain, selector string) string {
	return filepath.Join(dir, selector+"._domainkey."+strings.ToLower(domain)+".pem")
}

// load reads the key.
func (d *DKIMConfig) load() (content.Key, error) {
	k := content.Key{Domain: content.Domain(d.Domain), Selector: d.Selector, Active: d.Active}
	text, err := os.ReadFile(d.Key)
	if err != nil {
		return k, fmt.Errorf("reading the DKIM key of %s: %w", d.Domain, err)
	}
	if k.Signer, err = content.ParseKey(text); err != nil {
		return k, fmt.Errorf("the DKIM key %s: %w", d.Key, err)
	}
	return k, nil
}

// dkimKeys reads all keys.
func (c *Config) dkimKeys() ([]content.Key, error) {
	var keys []content.Key
	for i := range c.DKIM {
		k, err := c.DKIM[i].load()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// dkim looks at the keys of [[dkim]].
func (f *findings) dkim(c *Config) {
	for i := range c.DKIM {
		d := &c.DKIM[i]
		k, err := d.load()
		if err != nil {
			f.fault("dkim: %v", err)
			continue
		}
		f.secret("dkim.key", d.Key)
		if k.Weak() {
			f.warn("dkim.key %s has fewer than 2048 bits: make a new one with `tacet dkim generate %s`", d.Key, d.Domain)
		}
	}
}

func newDKIM(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dkim",
		Short: "Make the keys that sign mail, and check what the DNS says of them",
		Long: `Make the keys that sign submitted mail (DKIM), and check what the DNS says of them.

Changing keys: generate new ones, publish their records, wait until "tacet dkim check" sees them,
add the [[dkim]] tables with active = the day from which they sign, and reload. Take the
old tables out a week after that day, and their records from the DNS then.`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newDKIMGenerate(c), newDKIMCheck(c))
	return cmd
}

func newDKIMGenerate(c *console) *cobra.Command {
	var algorithm, base, dir string
	cmd := &cobra.Command{
		Use:   "generate DOMAIN",
		Short: "Make keys for a domain and print their DNS records",
		Long: `Make keys for a domain and print what belongs into its zone file and into the
config. Two keys are made, Ed25519 and RSA with 2048 bits, because many receivers know only the
second; mail is signed with both. No key is ever overwritten.`,
		Example: `  tacet dkim generate example.org
  tacet dkim generate example.org --selector s2027 --algorithm rsa
  tacet dkim generate example.org >> /etc/nsd/example.org.zone`,
		Args: takes("DOMAIN"),
		RunE: func(_ *cobra.Command, args []string) error {
			return c.generateDKIM(args[0], algorithm, base, dir)
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "both", "rsa, ed25519 or both")
	cmd.Flags().StringVar(&base, "selector", "", "the selector; of two keys each gets a letter behind it (default: the date)")
	cmd.Flags().StringVar(&dir, "dir", "", "where the private keys go (default: keys/dkim in data_dir)")
	return cmd
}

func (c *console) generateDKIM(domain, algorithm, base, dir string) error {
	if err := hostname(domain); err != nil {
		return usageError{err}
	}
	algorithms := map[string][]string{"rsa": {"rsa"}, "ed25519": {"ed25519"}, "both": {"ed25519", "rsa"}}[algorithm]
	if algorithms == nil {
		return wrongUsage("--algorithm is rsa, ed25519 or both, not %s", quote(algorithm))
	}
	if base == "" {
		base = "t" + time.Now().UTC().Format("20060102")
	}
	if err := selector(base); err != nil {
		return usageError{err}
	}
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	standard := dir == ""
	if standard {
		if dir, err = config.makeDKIMFolder(); err != nil {
			return err
		}
	}
	var made []DKIMConfig
	for _, kind := range algorithms {
		d := DKIMConfig{Domain: strings.ToLower(domain), Selector: base}
		if len(algorithms) > 1 {
			d.Selector += kind[:1]
		}
		d.Key = dkimFile(dir, domain, d.Selector)
		if err := writeDKIMKey(d.Key, kind); err != nil {
			return err
		}
		made = append(made, d)
	}
	return c.printDKIM(made, standard)
}

// makeDKIMFolder makes keys/dkim, for whom data_dir belongs to.
func (c *Config) makeDKIMFolder() (string, error) {
	dir := filepath.Join(c.keyDir(), "dkim")
	if _, err := os.Stat(c.DataDir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data_dir %s does not exist yet: start the relay once, or say --dir", c.DataDir)
	}
	for _, folder := range []string{c.keyDir(), dir} {
		err := os.Mkdir(folder, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = giveLike(folder, filepath.Dir(folder))
		}
		if err != nil {
			return "", fmt.Errorf("making the keys' folder: %w", err)
		}
	}
	return dir, nil
}

// giveLike gives a file of root's to the owner of another: the relay must be able to read it.
func giveLike(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

func writeDKIMKey(path, algorithm string) error {
	text, err := content.NewKey(algorithm)
	if err != nil {
		return fmt.Errorf("making a DKIM key: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: choose another --selector", path)
	}
	if err != nil {
		return fmt.Errorf("writing a DKIM key: %w", err)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close(), giveLike(path, filepath.Dir(path))); err != nil {
		return fmt.Errorf("writing a DKIM key: %w", err)
	}
	return nil
}

// printDKIM prints what belongs into the zone and the config, as one zone file.
func (c *console) printDKIM(made []DKIMConfig, standard bool) error {
	out := &lineWriter{w: c.out}
	for i := range made {
		d := &made[i]
		k, err := d.load()
		if err != nil {
			return err
		}
		line, err := k.ZoneLine()
		if err != nil {
			return fmt.Errorf("printing a DKIM key: %w", err)
		}
		if c.json {
			record, _ := k.Record()
			if err := c.printJSON(map[string]string{"domain": d.Domain, "selector": d.Selector, "algorithm": k.Algorithm(),
				"key": d.Key, "name": k.Name(), "record": record, "zone": line}); err != nil {
				return err
			}
			continue
		}
		out.line("%s", line)
	}
	if c.json {
		return nil
	}
	out.line("; Once `tacet dkim check` sees the records, this belongs into %s:", c.config)
	for _, d := range made {
		out.line(";\n; [[dkim]]\n; domain = %s\n; selector = %s", quote(d.Domain), quote(d.Selector))
		if !standard {
			out.line("; key = %s", quote(d.Key))
		}
	}
	return out.err
}

func newDKIMCheck(c *console) *cobra.Command {
	var selectors []string
	cmd := &cobra.Command{
		Use:   "check [DOMAIN]",
		Short: "Compare the keys with the DNS",
		Long: `Look up the record of each key of the config, or of those of one domain, and compare
it. With --selector also of keys in keys/dkim that are not in the config yet.`,
		Example: "  tacet dkim check\n  tacet dkim check example.org --selector t20261201r --selector t20261201e",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			domain := ""
			if len(args) > 0 {
				domain = strings.ToLower(args[0])
			}
			if domain == "" && len(selectors) > 0 {
				return wrongUsage("--selector needs the DOMAIN too")
			}
			for _, s := range selectors {
				d := DKIMConfig{Domain: domain, Selector: s}
				d.complete("", config.keyDir())
				config.DKIM = append(config.DKIM, d)
			}
			return c.checkDKIM(cmd, config, domain)
		},
	}
	cmd.Flags().StringArrayVar(&selectors, "selector", nil, "also a key that is not in the config")
	return cmd
}

// dkimStatus is what is known of one key.
type dkimStatus struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Active    string `json:"active,omitempty"`
	Fault     string `json:"fault,omitempty"`
}

func (c *console) checkDKIM(cmd *cobra.Command, config *Config, domain string) error {
	resolver := config.stub()
	found, faulty := 0, false
	for i := range config.DKIM {
		d := &config.DKIM[i]
		if domain != "" && !strings.EqualFold(d.Domain, domain) {
			continue
		}
		found++
		k, err := d.load()
		status := dkimStatus{Name: d.Selector + "._domainkey." + d.Domain}
		if err == nil {
			status.Name, status.Algorithm = k.Name(), k.Algorithm()
			var records []string
			if records, err = resolver.TXT(cmd.Context(), strings.ToLower(k.Name())); err == nil {
				err = k.Published(records)
			}
		}
		if !d.Active.IsZero() {
			status.Active = d.Active.Format(time.DateOnly)
		}
		if err != nil {
			status.Fault, faulty = err.Error(), true
		}
		if err := c.printDKIMStatus(status); err != nil {
			return err
		}
	}
	switch {
	case found == 0 && domain == "":
		return errors.New("the config has no [[dkim]]: mail is not signed; begin with `tacet dkim generate DOMAIN`")
	case found == 0:
		return fmt.Errorf("the config has no [[dkim]] for %s: `tacet dkim generate %s` makes a key, or name one with --selector", domain, domain)
	case faulty:
		return errSilent
	}
	return nil
}

func (c *console) printDKIMStatus(s dkimStatus) error {
	if c.json {
		return c.printJSON(s)
	}
	out := &lineWriter{w: c.out}
	text := "published"
	if s.Fault != "" {
		text = s.Fault
	}
	if s.Active != "" {
		text += ", signs from " + s.Active + " on"
	}
	out.line("%s (%s): %s", s.Name, s.Algorithm, text)
	return out.err
}

// stub asks the DNS as the config says.
func (c *Config) stub() *route.Stub {
	return route.NewStub(route.StubConfig{Servers: c.DNS.Resolvers})
}
