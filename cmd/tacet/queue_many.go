package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tacet/logging"
)

// filterFlags are the flags by which the queue commands choose messages.
type filterFlags struct {
	listFilter
	age string
}

func (f *filterFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.sender, "sender", "", "reverse-path, upper and lower case alike; '<>' for the null one")
	flags.StringVar(&f.domain, "recipient-domain", "", "domain of a recipient")
	flags.StringVar(&f.nextHop, "next-hop", "", "what a recipient waits for, as \"tacet queue stats\" names it")
	flags.StringVar(&f.state, "state", "", "of a recipient: waiting or held")
	flags.StringVar(&f.age, "older", "", "in the queue for at least so long: 30m, 4h, 2d")
	// It fails for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"waiting", "held"}, cobra.ShellCompDirectiveNoFileComp))
}

// parse checks the flags.
func (f *filterFlags) parse() error {
	if f.age != "" {
		older, err := parseDuration(f.age)
		if err != nil {
			return wrongUsage("--older wants a duration such as 30m, 4h or 2d, not %s", quote(f.age))
		}
		f.older = older
	}
	_, err := f.filter()
	return err
}

// given tells whether a filter was set at all.
func (f *filterFlags) given() bool { return f.listFilter != listFilter{} || f.age != "" }

// manyFlags are the flags of a command that acts on messages.
type manyFlags struct {
	filterFlags
	all, yes bool
}

func (m *manyFlags) bindMany(cmd *cobra.Command, confirmed bool) {
	m.bind(cmd)
	cmd.Flags().BoolVar(&m.all, "all", false, "everything in the queue")
	if confirmed {
		cmd.Flags().BoolVarP(&m.yes, "yes", "y", false, "do not ask before acting on more than one message")
	} else {
		m.yes = true
	}
}

// choose checks that messages were chosen in one way. It tells whether by filter.
func (m *manyFlags) choose(args []string) (byFilter bool, err error) {
	if err := m.parse(); err != nil {
		return false, err
	}
	ways := 0
	for _, way := range []bool{len(args) > 0, m.given(), m.all} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		return false, wrongUsage("choose messages in one way: by IDs, which `tacet queue list` shows, by filters such as --sender, or all by --all")
	}
	return len(args) == 0, nil
}

// actOnMany acts on what the filter selects: it is counted, the person says
// yes, and then those very messages are acted on.
func (c *console) actOnMany(ctx context.Context, m *manyFlags, verb logging.Verb, name, done string) error {
	op, err := c.operator(ctx)
	if err != nil {
		return err
	}
	defer op.Close()
	p, err := op.Pick(ctx, verb, m.listFilter)
	if err != nil {
		return err
	}
	if p.Messages > 1 && !m.yes {
		if err := c.confirm(fmt.Sprintf("%s %s?", strings.ToUpper(name[:1])+name[1:], plural(p.Messages, "message"))); err != nil {
			return err
		}
	}
	result, fault := acted{}, error(nil)
	if p.Messages > 0 {
		bar := c.counter(p.Messages)
		result, fault = op.Perform(ctx, p.Token, bar.progress)
		bar.end()
	}
	if c.json {
		err = c.printJSON(result)
	} else {
		_, err = fmt.Fprintln(c.out, result.sentence(done))
	}
	if result.Busy > 0 && fault == nil {
		fault = fmt.Errorf("%s under delivery at this moment: try again shortly", plural(result.Busy, "message"))
	}
	return errors.Join(err, fault)
}

// sentence is what became of the messages, for people.
func (a acted) sentence(done string) string {
	var b strings.Builder
	b.WriteString(plural(a.Changed, "message") + " " + done)
	for _, other := range []struct {
		n    int
		what string
	}{{a.Gone, "settled meanwhile"}, {a.Busy, "under delivery"}, {a.Failed, "failed"}} {
		if other.n > 0 {
			fmt.Fprintf(&b, ", %d %s", other.n, other.what)
		}
	}
	return b.String()
}

// confirm asks the person at the terminal. Without one it is a no.
func (c *console) confirm(question string) error {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return fmt.Errorf("%s There is no terminal to ask on, so nothing was done: say --yes", question)
	}
	fmt.Fprint(c.err, question+" [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(f, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if yes := strings.ToLower(strings.TrimSpace(line)); yes != "y" && yes != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// counter shows a person how far something is that takes long.
type counter struct {
	w     io.Writer // nil: no one looks
	of    int       // 0: not known
	begun time.Time
	shown bool
}

// counterDelay is how long something takes before anyone is told how far it is.
const counterDelay = time.Second

func (c *console) counter(of int) *counter {
	m := &counter{of: of, begun: time.Now()}
	if isTerminal(c.err) && !c.json {
		m.w = c.err
	}
	return m
}

func (m *counter) progress(done int) {
	if m.w == nil || time.Since(m.begun) < counterDelay {
		return
	}
	m.shown = true
	if m.of > 0 {
		fmt.Fprintf(m.w, "\r%s of %s messages \x1b[K", grouped(done), grouped(m.of))
	} else {
		fmt.Fprintf(m.w, "\r%s messages \x1b[K", grouped(done))
	}
}

func (m *counter) end() {
	if m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}

// grouped writes a number with its thousands apart.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
