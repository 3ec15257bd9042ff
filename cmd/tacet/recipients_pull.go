package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay/recipients"
)

// RecipientsConfig is [recipients]: how a fallback knows who exists.
type RecipientsConfig struct {
	Key     string
	Source  string
	Every   time.Duration
	MaxAge  time.Duration
	Unknown recipients.Policy
	Probe   bool
}

// knowsRecipients tells whether anything of it is in use.
func (c *Config) knowsRecipients() bool { return c.Recipients.Key != "" || c.Recipients.Probe }

func (c *Config) recipientsFile() string { return filepath.Join(c.DataDir, "recipients.list") }

// recipientsKey reads the key of the list.
func (c *Config) recipientsKey() (recipients.VerifyKey, error) {
	text, err := os.ReadFile(c.Recipients.Key)
	if err != nil {
		return recipients.VerifyKey{}, fmt.Errorf("recipients.key: %w", err)
	}
	key, err := recipients.ParseVerifyKey(string(text))
	if err != nil {
		return key, fmt.Errorf("recipients.key %s: %w", c.Recipients.Key, err)
	}
	return key, nil
}

// openRecipients reads the list that is here.
func (c *Config) openRecipients() (*recipients.List, error) {
	if c.Recipients.Key == "" {
		return nil, errors.New("no list is in use: recipients.key in the config names the recipients-verify.key of `tacet recipients key`")
	}
	key, err := c.recipientsKey()
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(c.recipientsFile())
	if err != nil {
		return nil, fmt.Errorf("reading the list of recipients: %w", err)
	}
	list, err := recipients.Open(key, content)
	if err != nil {
		return nil, fmt.Errorf("reading the list of recipients: %w", err)
	}
	return list, nil
}

// pullRecipients fetches the list and keeps it if it is sound and no older
// than the one that is here.
func (c *Config) pullRecipients(ctx context.Context) (*recipients.List, error) {
	if c.Recipients.Key == "" || c.Recipients.Source == "" {
		return nil, errors.New("there is nothing to fetch: recipients.source in the config says where the list is, recipients.key names the recipients-verify.key of `tacet recipients key`")
	}
	key, err := c.recipientsKey()
	if err != nil {
		return nil, err
	}
	content, err := fetchList(ctx, c.Recipients.Source)
	if err != nil {
		return nil, fmt.Errorf("fetching the list of recipients: %w", err)
	}
	list, err := recipients.Open(key, content)
	if err != nil {
		return nil, fmt.Errorf("fetching the list of recipients: %w", err)
	}
	if old, err := c.openRecipients(); err == nil && recipients.Newer(old, list) {
		return nil, fmt.Errorf("the list of recipients is of %s, older than the one that is here: it is refused", list.Date.Format(time.DateTime))
	}
	if list.Date.After(time.Now().Add(time.Hour)) {
		return nil, errors.New("the list of recipients is of a time to come: see to the clocks of both sites")
	}
	// Whoever pulls, the daemon must be able to read it; without the key nobody makes anything of it.
	err = writeWhole(c.recipientsFile(), content, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("data_dir %s is not there yet: start the relay once", c.DataDir)
	}
	return list, err
}

func fetchList(ctx context.Context, source string) ([]byte, error) {
	if path, ok := strings.CutPrefix(source, "file:"); ok {
		return readSource(ctx, path)
	}
	if !strings.HasPrefix(source, "https://") {
		return readSource(ctx, source)
	}
	ctx, cancel := context.WithTimeout(ctx, sourceWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, errors.New("recipients.source is no address of the web")
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the server redirects") }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, recipients.MaxList+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return content, nil
}

// asker asks the primary for one recipient, while it can be reached.
type asker struct{ d *daemon }

// Verify implements recipients.Verifier.
func (a asker) Verify(ctx context.Context, to queue.ForwardPath) queue.Reply {
	at := a.d.routes.Destination(to)
	if a.d.relay.Unreachable(at) {
		return queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseUnreachable}
	}
	return a.d.client.Verify(ctx, at, to)
}

func (d *daemon) recipientsConfig(c *Config) recipients.Config {
	config := recipients.Config{MaxAge: c.Recipients.MaxAge, Unknown: c.Recipients.Unknown}
	if c.Recipients.Probe {
		config.Verifier = asker{d}
	}
	return config
}

// directory is who exists, as the config has it. The list that is here is read.
func (d *daemon) directory(c *Config) *recipients.Directory {
	if !c.knowsRecipients() {
		return nil
	}
	directory := recipients.New(d.recipientsConfig(c))
	if c.Recipients.Key != "" {
		if list, err := c.openRecipients(); err == nil {
			directory.Use(list)
		} else if !errors.Is(err, fs.ErrNotExist) {
			d.ops.Log(logging.OpRecipientsFailed, logging.Err(err))
		}
	}
	return directory
}

// recipientsTick is how soon a list that was fetched by hand is seen.
const recipientsTick = time.Minute

// keepRecipients fetches the list on its timer.
func (d *daemon) keepRecipients(ctx context.Context) {
	tick := time.NewTicker(recipientsTick)
	defer tick.Stop()
	var last time.Time
	stale := false
	for {
		c := d.settings()
		if directory := d.people.Load(); directory != nil && c.Recipients.Key != "" {
			if time.Since(last) >= c.Recipients.Every && c.Recipients.Source != "" {
				last = time.Now()
				if _, err := c.pullRecipients(ctx); err != nil && ctx.Err() == nil {
					d.ops.Log(logging.OpRecipientsFailed, logging.Err(err))
				}
			}
			if list, err := c.openRecipients(); err == nil && recipients.Newer(list, directory.List()) {
				directory.Use(list)
				d.ops.Log(logging.OpRecipientsLoaded, logging.Count(list.Len()))
			}
			list := directory.List()
			old := list == nil || time.Since(list.Date) >= c.Recipients.MaxAge
			if old && !stale {
				d.ops.Log(logging.OpRecipientsStale)
			}
			stale = old
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
