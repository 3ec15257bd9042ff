package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
)

// runningConfig is the config of the running daemon, or, without one, of the
// file. What the daemon runs on may be older than the file.
func (c *console) runningConfig(ctx context.Context) (*Config, error) {
	config, err := LoadConfig(c.config)
	if err != nil {
		return nil, err
	}
	daemon, err := dialControl(ctx, config.controlSocket())
	if errors.Is(err, errNoDaemon) {
		c.note("no daemon is running: this is what the config file says")
		return config, nil
	}
	if err != nil {
		return nil, err
	}
	defer daemon.Close()
	resp, err := daemon.do(ctx, http.MethodGet, "config")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	running, err := ParseConfig(config.source.path, text)
	if err != nil {
		return nil, fmt.Errorf("the daemon's config: %w", err)
	}
	return running, nil
}

// answerConfig tells the config that is in effect. No secret stands in it.
func (c *control) answerConfig(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/toml")
	c.config(w)
}

// printConfig writes the config that is in effect.
func (d *daemon) printConfig(w io.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config.print(w, false)
}

func newPrivacyReport(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "report",
		Short: "Show the privacy policy that is in effect",
		Long: `Show what the running relay keeps of people and for how long, who else learns
something, what was asked of services outside in numbers, and every setting that is
wider or narrower than the defaults. The defaults are the strictest there is.`,
		Example: "  tacet privacy report\n  tacet privacy report --json | jq .widened,.asked",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := c.runningConfig(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.recordByCommand(cmd.Context(), config, logging.VerbPrivacyReport); err != nil {
				return err
			}
			report := config.policy()
			lines, err := c.readLedger(cmd.Context(), config)
			if err != nil {
				return err
			}
			report.Asked = askedServices(lines, time.Now())
			if c.json {
				return c.printJSON(report)
			}
			out := &lineWriter{w: c.out}
			report.print(out)
			c.incidentBanner(cmd.Context(), config, make(map[string]bool))
			return out.err
		},
	}
}

// languageFlag adds --lang.
func languageFlag(cmd *cobra.Command, lang *string) {
	cmd.Flags().StringVar(lang, "lang", "en", "the language: en or de")
}

func speak(lang string) (language, error) {
	switch lang {
	case "de":
		return german(), nil
	case "en":
		return english(), nil
	}
	return language{}, wrongUsage("--lang is en or de, not %s", quote(lang))
}

// speakOf is the words of a language, and the running config to speak of.
func (c *console) speakOf(ctx context.Context, lang string) (language, *Config, error) {
	l, err := speak(lang)
	if err != nil {
		return l, nil, err
	}
	config, err := c.runningConfig(ctx)
	return l, config, err
}

func newPrivacyStatement(c *console) *cobra.Command {
	var lang string
	cmd := &cobra.Command{
		Use:   "statement",
		Short: "Write the relay's part of a privacy statement",
		Long: `Write the part of a privacy statement that speaks of the relay: what is logged and for
how long, what happens to mail, who gets what. It is made from the fields that the log has
and from the running config, so that it says what is done. It is no legal advice: have
it checked.`,
		Example: "  tacet privacy statement --lang de\n  tacet privacy statement > statement.txt",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, config, err := c.speakOf(cmd.Context(), lang)
			if err != nil {
				return err
			}
			text := config.statement(l)
			if c.json {
				return c.printJSON(map[string]any{"language": lang, "paragraphs": text})
			}
			_, err = fmt.Fprintln(c.out, strings.Join(text, "\n\n"))
			return err
		},
	}
	languageFlag(cmd, &lang)
	return cmd
}

func newPrivacyRecord(c *console) *cobra.Command {
	var lang string
	cmd := &cobra.Command{
		Use:   "record",
		Short: "Write the relay's entry in the record of processing activities",
		Long: `Write the relay's entry in the record of processing activities (Art. 30 GDPR), made from
the running config. What only you can say is marked. It is no legal advice: have it checked.`,
		Example: "  tacet privacy record --lang de\n  tacet privacy record --json",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, config, err := c.speakOf(cmd.Context(), lang)
			if err != nil {
				return err
			}
			out := &lineWriter{w: c.out}
			for _, e := range config.article30(l, lang == "de") {
				if c.json {
					if err := c.printJSON(e); err != nil {
						return err
					}
					continue
				}
				out.line("%s\n  %s\n", e.Title, e.Text)
			}
			return out.err
		},
	}
	languageFlag(cmd, &lang)
	return cmd
}
