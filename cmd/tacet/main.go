package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	log.SetOutput(io.Discard) // libraries that log for themselves would tell what remote sides said
	os.Exit(profiled(func() int {
		return run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}))
}

// The exit statuses of every subcommand.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// errSilent ends a command with status 1 when all there is to say has been said.
var errSilent = errors.New("failed")

// usageError is wrong usage that a command finds itself.
type usageError struct{ error }

// wrongUsage makes an error that ends the command with status 2.
func wrongUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// console is where a command reads and writes, and how it was asked to.
type console struct {
	in       io.Reader
	out, err io.Writer
	config   string // --config
	json     bool   // --json
	started  bool   // the arguments were understood
}

// run is the whole program: it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &console{in: stdin, out: stdout, err: stderr}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	addCompletion(root)
	cmd, err := root.ExecuteContextC(ctx)
	_, isUsage := errors.AsType[usageError](err)
	switch {
	case err == nil:
		return exitOK
	case isUsage || !c.started:
		c.report(err)
		if !c.json {
			fmt.Fprintf(stderr, "See: %s --help\n", cmd.CommandPath())
		}
		return exitUsage
	case !errors.Is(err, errSilent):
		c.report(err)
	}
	return exitFailure
}

// report prints an error: for people one line for each of those joined, or one JSON object.
func (c *console) report(err error) {
	if c.json {
		json.NewEncoder(c.err).Encode(map[string]string{"error": err.Error()})
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(c.err, "tacet:", line)
	}
}

// note says something beside the result, for people.
func (c *console) note(format string, args ...any) {
	fmt.Fprintf(c.err, "tacet: "+format+"\n", args...)
}

// printJSON prints one value as one line.
func (c *console) printJSON(v any) error { return json.NewEncoder(c.out).Encode(v) }

// newRoot assembles the command line.
func newRoot(c *console) *cobra.Command {
	root := &cobra.Command{
		Use:   "tacet",
		Short: "An SMTP relay that says only what it must and forgets the rest",
		Long: `tacet takes mail from clients that log in over TLS, hands it to the next hop over
TLS where that is offered, and keeps nothing of it afterwards.

Begin with "tacet try": a playground that needs no configuration. A relay of
your own takes three commands: write /etc/tacet/tacet.toml, "tacet check" it, and
"tacet serve".

Every command ends with 0 on success, 1 on failure and 2 on wrong usage.`,
		Example: `  tacet try
  tacet check
  tacet user add anna
  tacet serve --config /etc/tacet/tacet.toml
  tacet queue list --older 1h`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRun:  func(*cobra.Command, []string) { c.started = true },
		Args:              subcommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&c.config, "config", "/etc/tacet/tacet.toml", "the config file")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON, one object a line")
	root.AddCommand(newServe(c), newCheck(c), newTry(c), newUser(c), newDKIM(c), newRecipients(c), newQueue(c), newRoute(c), newLog(c), newIncident(c), newBackup(c), newPrivacy(c), newVersion(c), newMan(c), newUnit(c))
	return root
}

// takes checks that a command got the arguments that it names, and no others.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return wrongUsage("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		}
		if len(args) > len(names) {
			return wrongUsage("%s does not take %s", cmd.CommandPath(), quote(args[len(names)]))
		}
		return nil
	}
}

// subcommand is the argument check of a command that is only a group of others.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && distance(args[0], sub.Name()) <= 2 {
			return wrongUsage("there is no %s %s; did you mean %s?", cmd.CommandPath(), args[0], sub.Name())
		}
	}
	return wrongUsage("there is no %s %s", cmd.CommandPath(), args[0])
}

// addCompletion adds the library's completion, which is told what is wrong with its use as every
// other group is. The library takes its output as it is now.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if made, _, err := root.Find([]string{"completion"}); err == nil && made != root {
		made.Args, made.RunE = subcommand, nameOneOf
	}
}

// needFlags finds flags that a command cannot do without.
func needFlags(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		if !cmd.Flags().Changed(name) {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) > 0 {
		return wrongUsage("%s needs %s", cmd.CommandPath(), strings.Join(missing, ", "))
	}
	return nil
}

// nameOneOf is what a command does that is only a group of others.
func nameOneOf(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return wrongUsage("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", "))
}
