package reputation

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"tacet/relay"
)

// Pyzor asks one Pyzor server, as its anonymous user, how often a text was reported. All
// methods may be called at the same time.
type Pyzor struct {
	Service   string // in the ledger
	Ledger    *Ledger
	Threshold int64 // as many reports mean that the text is listed
	// Dial connects to the server by UDP.
	Dial func(ctx context.Context) (net.Conn, error)

	breaker breaker
}

// The limits of an answer, and of how many datagrams that answer something else are passed over.
const (
	maxPyzorAnswer = 8192
	maxStrays      = 8
)

// The threads below it are those of errors that belong to no question.
const firstThread = 1024

var (
	errPyzorAnswer = errors.New("the Pyzor server gave no answer that can be read")
	errPyzorCode   = errors.New("the Pyzor server refused the question")
	errOtherThread = errors.New("an answer to another question")
)

// Listed tells whether the text was reported as often as Threshold says, and not
// vouched for.
func (p *Pyzor) Listed(ctx context.Context, d relay.TextDigest) (bool, error) {
	if !p.breaker.allow(time.Now()) {
		return false, errResting
	}
	answer, err := p.check(ctx, d)
	listed := err == nil && answer.reports >= p.Threshold && answer.vouched == 0
	if !errors.Is(ctx.Err(), context.Canceled) { // nobody waits for the answer any more
		p.breaker.note(err == nil, time.Now())
		p.Ledger.count(p.Service, Text, Counts{Listed: one(listed), Failed: one(err != nil)})
	}
	if err != nil {
		return false, fmt.Errorf("ask a Pyzor server: %w", err)
	}
	return listed, nil
}

// check sends the question and waits for its answer.
func (p *Pyzor) check(ctx context.Context, d relay.TextDigest) (a pyzorAnswer, err error) {
	p.Ledger.count(p.Service, Text, Counts{Asked: 1})
	conn, err := p.Dial(ctx)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	thread := firstThread + rand.IntN(1<<16-firstThread)
	if _, err := conn.Write(pyzorCheck(d, thread, time.Now())); err != nil {
		return a, fmt.Errorf("send a question: %w", err)
	}
	packet := make([]byte, maxPyzorAnswer)
	for range maxStrays {
		n, err := conn.Read(packet)
		if err != nil {
			return a, fmt.Errorf("wait for an answer: %w", err)
		}
		a, err = parsePyzorAnswer(packet[:n], thread)
		if !errors.Is(err, errOtherThread) {
			return a, err
		}
	}
	return a, errOtherThread
}

// pyzorCheck is a question about a digest: all that such a packet ever holds. The
// signature is that of the anonymous user, whose key is empty.
func pyzorCheck(d relay.TextDigest, thread int, now time.Time) []byte {
	text := fmt.Sprintf("Op: check\nOp-Digest: %s\nThread: %d\nPV: 2.1\nUser: anonymous\nTime: %d", d.Hex(), thread, now.Unix())
	return fmt.Appendf(nil, "%s\nSig: %s\n\n", text, pyzorSignature(text, now.Unix()))
}

// pyzorSignature is H(H(message) ":" time ":" H(user ":" key)).
func pyzorSignature(text string, now int64) string {
	key := sha1.Sum([]byte("anonymous:"))
	inner := sha1.Sum([]byte(text))
	sum := sha1.Sum(fmt.Appendf(inner[:], ":%d:%s", now, hex.EncodeToString(key[:])))
	return hex.EncodeToString(sum[:])
}

// pyzorAnswer is what is read of an answer.
type pyzorAnswer struct{ reports, vouched int64 }

// parsePyzorAnswer reads the answer to the question of that thread. A field that stands
// twice, or is no number where one belongs, makes it none.
func parsePyzorAnswer(packet []byte, thread int) (a pyzorAnswer, err error) {
	fields := make(map[string]string)
	for line := range bytes.Lines(packet) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, found := strings.Cut(string(line), ":")
		name = strings.ToLower(name)
		if _, twice := fields[name]; !found || twice || len(fields) > 20 {
			return a, errPyzorAnswer
		}
		fields[name] = strings.TrimSpace(value)
	}
	number := func(name string) int64 {
		n, e := strconv.ParseInt(fields[name], 10, 64)
		if e != nil || n < 0 {
			err = errPyzorAnswer
		}
		return n
	}
	got, code := number("thread"), number("code")
	switch {
	case err != nil:
		return a, err
	case got != int64(thread) && got >= firstThread:
		return a, errOtherThread
	case got != int64(thread) || code != 200:
		return a, errPyzorCode
	}
	a.reports, a.vouched = number("count"), number("wl-count")
	return a, err
}
