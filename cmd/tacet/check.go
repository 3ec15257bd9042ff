package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

func newCheck(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the config and print what is effective",
		Long: `Read the config as "tacet serve" would, with the files it names, and print what is
effective: every key, with its default where the file is silent. The output is
itself a valid config.

All faults are printed, each with the line it stands on and what is allowed
instead; the command then ends with 1. Warnings say what is allowed and yet
seldom meant; they do not change the status. It also says where the queue's
master key comes from, what that protects against and what not, and reads the
queue's files for damage if no daemon has them open. Nothing is changed and no
connection is made.`,
		Example: `  tacet check
  tacet check --config ./tacet.toml
  tacet check --json | jq .warnings
  tacet check && systemctl reload tacet`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			found := inspect(config)
			if c.json {
				doc, err := config.document()
				if err != nil {
					return fmt.Errorf("printing the config: %w", err)
				}
				if err := c.printJSON(checked{doc, found}); err != nil {
					return err
				}
			} else {
				config.print(c.out, false)
				found.Keys.print(c.err)
				for _, w := range found.Warnings {
					fmt.Fprintln(c.err, "warning:", w)
				}
				for _, f := range found.Faults {
					fmt.Fprintln(c.err, "fault:", f)
				}
			}
			if len(found.Faults) > 0 {
				return errSilent
			}
			if !c.json {
				c.note("%s is valid, %s", c.config, plural(len(found.Warnings), "warning"))
			}
			return nil
		},
	}
}

// checked is what check prints as JSON.
type checked struct {
	Config map[string]any `json:"config"`
	findings
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// eachTable goes over all tables of the effective config, in the manual's order.
func (c *Config) eachTable(do func(header string, keys []key)) {
	for _, s := range c.sections() {
		header := "[" + s.name + "]"
		if s.name == "" {
			header = ""
		}
		do(header, s.keys)
		for _, a := range c.arrays() {
			if a.after != s.name {
				continue
			}
			for _, keys := range a.all() {
				do("[["+a.name+"]]", keys)
			}
		}
	}
}

// print writes the effective config as a config file, with what each key
// means if help is wanted. Keys that are empty where empty is not a value
// stand in a comment.
func (c *Config) print(w io.Writer, help bool) {
	first := true
	c.eachTable(func(header string, keys []key) {
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		if header != "" {
			fmt.Fprintln(w, header)
		}
		width := 0
		for _, k := range keys {
			width = max(width, len(k.name))
		}
		for _, k := range keys {
			line := fmt.Sprintf("%-*s = %s", width, k.name, k.value)
			if k.value.String() == `""` && k.name != "next_hop" {
				line = "# " + line
			}
			if help {
				line = fmt.Sprintf("# %s\n%s", k.help, line)
			}
			fmt.Fprintln(w, line)
		}
	})
}

// document is the effective config as nested maps, for JSON.
func (c *Config) document() (map[string]any, error) {
	var text bytes.Buffer
	c.print(&text, false)
	var doc map[string]any
	err := toml.Unmarshal(text.Bytes(), &doc)
	return doc, err
}
