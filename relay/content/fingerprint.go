package content

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"tacet/queue"
	"tacet/relay"
)

// HashList knows digests. It is told nothing else of a message.
type HashList interface {
	Listed(ctx context.Context, d relay.Digest) (bool, error)
}

// TextList knows texts by their digest. It is told nothing else of a message.
type TextList interface {
	Listed(ctx context.Context, d relay.TextDigest) (bool, error)
}

// The limits of what is asked of one message, and of what is read for it: as many
// octets of its texts, in as many messages at a time.
const (
	maxAttachments = 20
	maxLinks       = 20
	maxText        = 512 << 10
	readers        = 16
)

// Listed is what becomes of a message of which a service knows something.
type Listed uint8

// What becomes of it.
const (
	ListedMark   Listed = iota // the next hop reads it in a field
	ListedHold                 // it is kept until an operator releases it
	ListedReject               // it is refused in the session
)

// Fingerprints asks outside services about digests of a message: of its attachments,
// its links and its text, each where there is someone to ask. A message with more of them
// than the limits is asked about in part; which part is left to chance.
type Fingerprints struct {
	Name        string // of the service, for the field that marks a message; letters, digits, blanks, "-._"
	Attachments HashList
	Links       HashList
	LinkForm    LinkForm
	Text        TextList
	Action      Listed
	Strict      bool // what has no one structure is refused; otherwise that is an error

	slots chan struct{}
}

// NewFingerprints makes the check ready.
func NewFingerprints(f Fingerprints) *Fingerprints {
	f.slots = make(chan struct{}, readers)
	return &f
}

// Check implements [relay.Check].
func (f *Fingerprints) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	questions, err := f.questions(ctx, m)
	if f.Strict && (errors.Is(err, errAmbiguous) || errors.Is(err, errTooDeep)) {
		return relay.Verdict{Rejection: rejectionStructure()}, nil
	}
	if err != nil {
		return relay.Verdict{}, err
	}
	ground, err := ask(ctx, questions)
	if ground == relay.GroundNone {
		return relay.Verdict{}, err
	}
	switch f.Action {
	case ListedReject:
		return relay.Verdict{Rejection: &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassContent, Ground: ground,
			Text: "The message, or something in it, is on a block list that is used here"}}, nil
	case ListedHold:
		return relay.Verdict{Hold: true}, nil
	}
	return relay.Verdict{Added: []byte("X-Listed-By: " + f.Name + "\r\n")}, nil
}

// question is one that is ready to be asked: of the message it holds a digest.
type question struct {
	listed func(context.Context) (bool, error)
	ground relay.Ground
}

// questions reads the message. What it kept of it meanwhile is gone when it returns.
func (f *Fingerprints) questions(ctx context.Context, m *relay.Message) (all []question, err error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	keep := 0
	if f.Links != nil || f.Text != nil {
		keep = maxText
	}
	var parts []Part
	var attachments []relay.Digest
	err = walkText(ctx, m, keep, func(p *Part) error {
		if p.Size > 0 && (!strings.HasPrefix(p.Type, "text/") || len(p.Names) > 0) && !slices.Contains(attachments, p.Digest) {
			attachments = append(attachments, p.Digest)
		}
		keep -= len(p.Text)
		parts = append(parts, *p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.Attachments != nil {
		all = append(all, digestQuestions(f.Attachments, sample(attachments, maxAttachments))...)
	}
	if f.Links != nil {
		all = append(all, digestQuestions(f.Links, linkDigests(parts, f.LinkForm, maxLinks))...)
	}
	if f.Text != nil && keep > 0 { // of a longer text the digest would be another
		if d, ok := textDigest(parts); ok {
			all = append(all, question{func(ctx context.Context) (bool, error) { return f.Text.Listed(ctx, d) }, relay.GroundSpam})
		}
	}
	return all, nil
}

func digestQuestions(l HashList, digests []relay.Digest) (all []question) {
	for _, d := range digests {
		all = append(all, question{func(ctx context.Context) (bool, error) { return l.Listed(ctx, d) }, relay.GroundLink})
	}
	return all
}

// ask asks all questions at the same time, until one has an answer that counts. The
// error is that of one without an answer.
func ask(ctx context.Context, questions []question) (relay.Ground, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	ground, failed := relay.GroundNone, error(nil)
	for _, q := range questions {
		wg.Go(func() {
			hit, err := q.listed(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case hit && ground == relay.GroundNone:
				ground = q.ground
				cancel() // one is enough
			case err != nil:
				failed = err
			}
		})
	}
	wg.Wait()
	if ground != relay.GroundNone {
		return ground, nil
	}
	return relay.GroundNone, failed
}
