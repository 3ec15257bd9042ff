package pebblestore

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"tacet/queue"
)

// Survey gives what List gives, read in the order of the disk: for who goes
// over a large queue, some microseconds a message. What changed in the last
// milliseconds may be missing, and a message that cannot be read is left out.
func (s *Store) Survey(ctx context.Context, f queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, fmt.Errorf("survey: %w", err))
			return
		}
		sv := surveyor{s: s, reader: slotReader{s: &s.keys.slots}}
		if err := sv.run(ctx, f, yield); err != nil {
			yield(nil, fmt.Errorf("survey: %w", err))
		}
	}
}

// surveyor goes over the envelope records and, beside them, the state records.
type surveyor struct {
	s      *Store
	states *pebble.Iterator
	more   bool
	reader slotReader
	plain  []byte
	state  []byte
}

func (sv *surveyor) run(ctx context.Context, f queue.Filter, yield func(*queue.Envelope, error) bool) (err error) {
	snapshot := sv.s.db.NewSnapshot()
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	sv.states, err = snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixState}, UpperBound: []byte{prefixState + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sv.states.Close()) }()
	envelopes, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixEnvelope}, UpperBound: []byte{prefixEnvelope + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, envelopes.Close()) }()
	sv.more = sv.states.First()
	now := time.Now()
	for ok := envelopes.First(); ok; ok = envelopes.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := envelopes.Key()
		if len(key) != recordKeySize {
			continue
		}
		id := queue.ID(key[1:])
		if f.Older > 0 && now.Sub(id.Time()) < f.Older {
			continue // the states of such ones are passed with the next
		}
		sealed, err := envelopes.ValueAndErr()
		if err != nil {
			return err
		}
		e := sv.open(id, key, sealed)
		if e == nil || !matches(f, e) {
			continue
		}
		if !yield(e, nil) {
			return nil
		}
	}
	return envelopes.Error()
}

// open reads one envelope and the states that belong to it, nil if the message
// is not queued any more or damaged.
func (sv *surveyor) open(id queue.ID, key, sealed []byte) *queue.Envelope {
	if len(sealed) < envelopeHeader+tagSize || sealed[0] != sealVersion {
		return nil
	}
	aead, err := sv.cipherOf(id)
	if err != nil {
		return nil
	}
	nonce := fixedNonce(sealEnvelope)
	plain, err := aead.Open(sv.plain[:0], nonce[:], sealed[envelopeHeader:], associated(key, sealed[:envelopeHeader]))
	if err != nil {
		return nil
	}
	sv.plain = plain
	d := decoder{b: plain}
	r, ok := d.envelope(id, false)
	if !ok {
		return nil
	}
	sv.s.retried(r.env.Recipients, r.retries)
	en := &entry{env: r.env, aead: aead}
	for ; sv.more; sv.more = sv.states.Next() {
		k := sv.states.Key()
		if len(k) != stateKeySize {
			continue
		}
		order := bytes.Compare(k[1:recordKeySize], id[:])
		if order > 0 {
			break
		}
		if order < 0 || int(binary.BigEndian.Uint16(k[recordKeySize:])) >= len(r.env.Recipients) {
			continue
		}
		if err := sv.s.applyState(en, k, sv.states.Value(), sv.state, false); err != nil {
			return nil
		}
	}
	return r.env
}

func (sv *surveyor) cipherOf(id queue.ID) (cipher.AEAD, error) {
	e, slot, err := sv.s.place(id)
	if err != nil {
		return nil, err
	}
	if e != nil {
		return e.aead(id)
	}
	return sv.reader.fresh(slot, id)
}

// Waiting is one message's wait in one destination.
type Waiting struct {
	ID          queue.ID // tells when it arrived
	Destination queue.Destination
	Held        bool // until it is released
}

// Waits goes over what waits, each message once for each of its destinations,
// in no order. It reads memory alone: 1,000,000 messages take some tenths of a
// second, and mail flows meanwhile. A message that cannot be read waits nowhere.
func (s *Store) Waits(ctx context.Context) iter.Seq2[Waiting, error] {
	return func(yield func(Waiting, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(Waiting{}, fmt.Errorf("waits: %w", err))
			return
		}
		const atOnce = 1 << 12
		some := make([]Waiting, 0, atOnce)
		for from := uint32(1); ; {
			var more bool
			some, from, more = s.waitsFrom(some[:0], from, atOnce)
			for _, w := range some {
				if !yield(w, nil) {
					return
				}
			}
			if err := ctx.Err(); err != nil {
				yield(Waiting{}, fmt.Errorf("waits: %w", err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// waitsFrom appends what the groups from number from on say, up to n of them,
// and returns where to go on.
func (s *Store) waitsFrom(b []Waiting, from uint32, n int) (some []Waiting, next uint32, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	for next = from; next < x.groups.next && len(b) < n; next++ {
		g := x.groups.at(next)
		if g.msg == 0 {
			continue // not in use
		}
		m := x.msgs.at(g.msg)
		if m.flags&msgDamaged != 0 {
			continue
		}
		b = append(b, Waiting{ID: m.id, Destination: x.dests.at(g.dest()).name, Held: g.pos == posParked && m.flags&msgHeld != 0})
	}
	return b, next, next < x.groups.next
}
