package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a folder",
		Long: `Write the manual pages to a folder: tacet(1), one page for each command, and
tacet.toml(5) with every key of the config. They come from the same source as
--help and "tacet check".`,
		Example: `  tacet man /usr/local/share/man
  tacet man ./man && man ./man/man1/tacet.1`,
		Args: takes("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := filepath.Join(args[0], "man1")
			files := filepath.Join(args[0], "man5")
			for _, folder := range []string{pages, files} {
				if err := os.MkdirAll(folder, 0o755); err != nil {
					return fmt.Errorf("making the manual's folder: %w", err)
				}
			}
			header := &doc.GenManHeader{Section: "1", Source: "tacet " + buildVersion().Version, Manual: "tacet"}
			if err := doc.GenManTree(cmd.Root(), header, pages); err != nil {
				return fmt.Errorf("writing the manual: %w", err)
			}
			page := md2man.Render(configManual())
			if err := os.WriteFile(filepath.Join(files, "tacet.toml.5"), page, 0o644); err != nil {
				return fmt.Errorf("writing the manual: %w", err)
			}
			if c.json {
				return c.printJSON(map[string]string{"dir": args[0]})
			}
			c.note("wrote the manual to %s", args[0])
			return nil
		},
	}
}

// exampleConfig has every key of the contract, with its default.
func exampleConfig() *Config {
	c := DefaultConfig()
	c.Hostname, c.Postmaster = "relay.example.org", "postmaster@relay.example.org"
	c.Listeners = []Listener{newListener()}
	c.Delivery.Routes = []RouteConfig{{Domain: "example.net", Load: c.Delivery.Load}}
	c.DKIM = []DKIMConfig{{Domain: "example.org", Selector: "s2026a"}}
	c.Milters = []MilterConfig{newMilter()}
	c.Milters[0].Address = "unix:/run/rspamd/milter.sock"
	c.Rules = []RuleConfig{{Name: "no-programs", Attachment: `\.(exe|scr|js|vbs|lnk)$`}}
	c.HashLists = []HashListConfig{newHashList()}
	c.HashLists[0].Name, c.HashLists[0].Purpose = "Spamhaus HBL", "to keep known malware and phishing out"
	c.HashLists[0].Attachments = "_file.key.hbl.dq.spamhaus.net"
	c.Log.Dir = "/var/lib/tacet/log"
	c.complete()
	return c
}

// configManual is tacet.toml(5) in Markdown, from the rows of config_keys.go.
func configManual() []byte {
	c := exampleConfig()
	var b bytes.Buffer
	fmt.Fprint(&b, `tacet.toml 5 "" tacet "tacet"
==================================================

# NAME
tacet.toml - the configuration of tacet

# DESCRIPTION
The file is TOML. A key that does not exist is an error, and an empty file is the
strictest configuration. The values shown are the defaults; `+"`tacet check`"+` prints what is effective.
Sizes are written "50MB", durations "90s", "5m" or "2d", rates "500B/s". Relative paths start
at the file's folder.

`)
	c.eachTable(func(header string, keys []key) {
		title := header
		if title == "" {
			title = "Top of the file"
		}
		fmt.Fprintf(&b, "# %s\n", title)
		for _, k := range keys {
			help := strings.ReplaceAll(k.help, "<", `\<`) // in Markdown it would begin a tag
			fmt.Fprintf(&b, "**%s** = %s\n:   %s\n\n", k.name, k.value, help)
		}
	})
	fmt.Fprint(&b, "# SEE ALSO\n**tacet**(1), **tacet-check**(1), **tacet-serve**(1)\n")
	return b.Bytes()
}
