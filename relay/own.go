package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"tacet/queue"
)

// ErrUnsigned says that mail of the relay's own was not queued, since there is no key
// to sign it with.
var ErrUnsigned = errors.New("there is no key for the domain of the relay's own mail")

// maxSignatures bounds what signing puts before a message, in octets.
const maxSignatures = 4 << 10

// Originate queues a message that the relay itself wrote, with the signature of its From's
// domain. Where there is no key for that it goes unsigned, or if it must not, [ErrUnsigned] says so.
// content has CRLF lines.
func (r *Relay) Originate(ctx context.Context, e *queue.Envelope, content []byte, signed bool) error {
	signature, err := r.signature(ctx, e, content)
	if err != nil {
		return err
	}
	if len(signature) == 0 && signed {
		return ErrUnsigned
	}
	_, err = r.Accept(ctx, e, bytes.NewReader(append(signature, content...)), Session{Protocol: "ESMTP"})
	return err
}

// signReport puts a signature before a report. One that can't be made is missed:
// a report that comes unsigned is better than none.
func (r *Relay) signReport(ctx context.Context, report *queue.Report) {
	signature, err := r.signature(ctx, report.Envelope, report.Content)
	if err != nil {
		r.unchecked(&Inspection{FailOpen: true}, err)
		return
	}
	if len(signature) > 0 {
		report.Content = append(signature, report.Content...)
	}
}

// signature is the fields that sign content of the relay's own; nil: it has no key for it.
func (r *Relay) signature(ctx context.Context, e *queue.Envelope, content []byte) ([]byte, error) {
	signer := r.config.Load().Signer
	if signer == nil {
		return nil, nil
	}
	m := NewMessage(e, &Session{}, content)
	ctx = context.WithoutCancel(ctx) // it takes a moment, and its message is to go out signed
	v, err := within(ctx, &Inspection{Check: signer}, func(ctx context.Context) (Verdict, error) { return signer.Check(ctx, m) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("sign a message of the relay's own: %w", err)
	case len(v.Added) > maxSignatures:
		return nil, fmt.Errorf("sign a message of the relay's own: signatures of %d octets", len(v.Added))
	}
	return v.Added[:len(v.Added):len(v.Added)], nil
}
