package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"tacet/logging"
)

// canary is a random word in one place of the message, and whether the relay
// log may hold what stands there.
type canary struct {
	Place  string `json:"place"`
	Word   string `json:"word"`
	logged bool
}

// newCanaries makes a word for every place.
func newCanaries() []canary {
	var list []canary
	for _, one := range []struct {
		place  string
		logged bool
	}{
		{"sender", true}, {"recipient", true}, {"user", true}, {"subject", true},
		{"from", false}, {"to", false}, {"message-id", false}, {"field", false}, {"body", false}, {"envid", false},
		{"password", false}, {"helo", false}, {"sni", false},
	} {
		list = append(list, canary{one.place, "canary" + strings.ToLower(rand.Text()[:16]), one.logged})
	}
	return list
}

func newPrivacySelftest(c *console) *cobra.Command {
	var stderr, address string
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Send a canary through the running relay and look for it everywhere",
		Long: `Submit one message to a listener of the running relay, as a mail client does: over TLS and
with a login that the relay makes for this one time. Sender, recipient, user, password,
EHLO name, server name, subject, other header fields and body each hold a random word. It
goes to a next hop of the command's own, and once it is
delivered everything that the relay writes or answers is searched for these words, in
plain and in the usual encodings: log, audit log, queue, keys, incidents, metrics and
answers of the control socket, and with --stderr the file that its standard error goes to.

The test fails unless sender, recipient, user and subject stand in the relay log, there
alone, and the other words nowhere. The queue's folder and the log have to be readable.`,
		Example: "  tacet privacy selftest\n  tacet privacy selftest --address 192.0.2.1:587\n  tacet privacy selftest --stderr /var/log/tacet.err --json",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.selftest(cmd.Context(), address, stderr) },
	}
	cmd.Flags().StringVar(&address, "address", "", "the submission listener to use; if absent the first one with TLS, or one on loopback for the time of the test")
	cmd.Flags().StringVar(&stderr, "stderr", "", "the file that the daemon's standard error goes to")
	return cmd
}

// selftestTime bounds the delivery of a canary.
const selftestTime = 20 * time.Second

// found is what was looked through, and what was found there that must not be.
type found struct {
	Where string   `json:"where"`
	OK    bool     `json:"ok"`
	Leaks []string `json:"leaks,omitempty"` // places of canaries
}

func (c *console) selftest(ctx context.Context, address, stderr string) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	client, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	hop, err := startCapture()
	if err != nil {
		return err
	}
	canaries := newCanaries()
	id, err := client.sendCanary(ctx, hop, address, canaries)
	err = errors.Join(err, hop.stop())
	if err != nil {
		return err
	}
	results := []found{hop.judge(canaries)}
	inLog, err := judgeLog(ctx, config, id, canaries)
	if err != nil {
		return err
	}
	results = append(results, inLog)
	answers, err := client.judgeAnswers(ctx, canaries)
	if err != nil {
		return err
	}
	results = append(results, answers...)
	files, err := judgeFiles(config, stderr, canaries)
	if err != nil {
		return err
	}
	return c.reportSelftest(append(results, files...))
}

func (c *console) reportSelftest(results []found) error {
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
		if c.json {
			c.printJSON(r)
			continue
		}
		verdict := "ok"
		if !r.OK {
			verdict = "FAILED: " + strings.Join(r.Leaks, ", ")
		}
		fmt.Fprintf(c.out, "%-30s %s\n", r.Where, verdict)
	}
	if failed > 0 {
		return fmt.Errorf("the self-test failed in %s", plural(failed, "place"))
	}
	return nil
}

// sendCanary has the daemon send the message, and returns its queue ID once it is delivered.
func (c *controlClient) sendCanary(ctx context.Context, hop *capture, address string, canaries []canary) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*selftestTime)
	defer cancel()
	q := url.Values{"hop": {hop.address.String()}}
	if address != "" {
		q.Set("address", address)
	}
	for _, one := range canaries {
		q.Set(one.Place, one.Word)
	}
	var sent struct{ ID string }
	err := c.get(ctx, http.MethodPost, "privacy/selftest?"+q.Encode(), &sent)
	return sent.ID, err
}

// judgeLog reads the records of the message: what may be there has to be there,
// in its own field.
func judgeLog(ctx context.Context, config *Config, id string, canaries []canary) (found, error) {
	result := found{Where: "records of the relay log"}
	words := make(map[string]string)
	for _, one := range canaries {
		words[one.Place] = one.Word
	}
	deadline, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	options := logging.ReadOptions{
		Dir: config.Log.Dir, KeyDir: config.logKeyDir(), Last: -1, Follow: true,
		Filter: logging.Filter{ID: id, Events: []logging.Event{logging.Delivered}},
	}
	for line, err := range logging.Read(deadline, options) {
		if err != nil {
			return result, fmt.Errorf("reading the relay log: %w", err)
		}
		for place, field := range map[string]string{"sender": line.Sender, "recipient": line.Recipient, "user": line.User, "subject": line.Subject} {
			if !strings.Contains(field, words[place]) {
				result.Leaks = append(result.Leaks, place+" is missing")
			}
		}
		for _, one := range canaries {
			if !one.logged && containsWord(line.Raw, one.Word) {
				result.Leaks = append(result.Leaks, one.Place)
			}
		}
		result.OK = len(result.Leaks) == 0
		return result, nil
	}
	result.Leaks = []string{"there is no record of the delivery"}
	return result, nil
}

// judgeAnswers searches what the control socket answers.
func (c *controlClient) judgeAnswers(ctx context.Context, canaries []canary) ([]found, error) {
	var results []found
	for _, path := range []string{"health", "stats", "config", "incidents/open", "../metrics"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tacet/v1/"+path, nil)
		if err != nil {
			return nil, fmt.Errorf("asking the daemon: %w", err)
		}
		req.URL.Path = filepath.Clean(req.URL.Path)
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, fmt.Errorf("asking the daemon: %w", err)
		}
		content, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("reading the daemon's answer: %w", err)
		}
		results = append(results, judgeContent("answer: "+strings.TrimPrefix(path, "../"), content, canaries, false))
	}
	return results, nil
}

// judgeFiles searches every file that the relay writes.
func judgeFiles(config *Config, stderr string, canaries []canary) ([]found, error) {
	results := []found{
		{Where: "files of the relay log", OK: true}, {Where: "files of the audit log", OK: true},
		{Where: "all other files", OK: true},
	}
	search := func(path string) error {
		kind := 2
		name := filepath.Base(path)
		if filepath.Dir(path) == config.Log.Dir && strings.HasPrefix(name, "relay-") {
			kind = 0
		} else if strings.HasPrefix(name, "audit-") {
			kind = 1
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil {
			return fmt.Errorf("searching the relay's files: %w", err)
		}
		r := &results[kind]
		for _, leak := range judgeContent("", content, canaries, kind == 0).Leaks {
			if r.OK = false; !slices.Contains(r.Leaks, leak) {
				r.Leaks = append(r.Leaks, leak)
			}
		}
		return nil
	}
	for _, root := range []string{config.DataDir, config.Log.Dir} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return fmt.Errorf("searching the relay's files: %w", err)
			case !entry.Type().IsRegular():
				return nil
			}
			return search(path)
		})
		if err != nil {
			return nil, err
		}
	}
	if stderr != "" {
		content, err := os.ReadFile(stderr)
		if err != nil {
			return nil, fmt.Errorf("searching standard error: %w", err)
		}
		results = append(results, judgeContent("standard error", content, canaries, false))
	}
	return results, nil
}

// judgeContent searches one content. In the relay log some words may stand.
func judgeContent(where string, content []byte, canaries []canary, log bool) found {
	r := found{Where: where, OK: true}
	for _, one := range canaries {
		if log && one.logged {
			continue
		}
		if containsWord(content, one.Word) {
			r.OK = false
			r.Leaks = append(r.Leaks, one.Place)
		}
	}
	return r
}

// containsWord looks for a word in plain and in the encodings that a leak is
// most likely to have. The word is lower-case ASCII.
func containsWord(content []byte, word string) bool {
	for _, form := range forms(word) {
		if bytes.Contains(content, form) {
			return true
		}
	}
	return false
}

// forms are the encodings of a word: with upper case, in base64 at its three
// alignments, hexadecimal, UTF-16, and its unkeyed hash.
func forms(word string) [][]byte {
	sum := sha256.Sum256([]byte(word))
	list := [][]byte{
		[]byte(word), []byte(strings.ToUpper(word)), []byte(hex.EncodeToString([]byte(word))),
		sum[:], []byte(hex.EncodeToString(sum[:])),
	}
	for pad := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + word))
		// The characters at the ends depend on what stands before and behind.
		list = append(list, []byte(coded[4:len(coded)-4]))
	}
	var wide []byte
	for _, unit := range utf16.Encode([]rune(word)) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	return append(list, wide)
}

// answerSelftest sends a canary through the queue and out to the next hop that
// the command has opened on loopback, and answers once it is delivered.
func (c *control) answerSelftest(w http.ResponseWriter, r *http.Request) {
	if !c.recordAction(w, peerOf(r.Context()).action(logging.VerbSelftest)) {
		return
	}
	id, err := c.sendCanary(context.WithoutCancel(r.Context()), r.URL.Query())
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"id": id})
}
