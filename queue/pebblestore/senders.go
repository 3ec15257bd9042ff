package pebblestore

import (
	"hash/maphash"

	"tacet/queue"
)

// senders tells senders apart: the authenticated user, or else the client's
// address, or else the reverse-path. It never writes what it makes of them,
// and another process makes something else.
type senders struct{ seed maphash.Seed }

func (s *senders) init() { s.seed = maphash.MakeSeed() }

// of is the number of a sender. Two may have the same: then they share.
func (s *senders) of(from []byte) uint32 { return uint32(maphash.Bytes(s.seed, from)) }

func (s *senders) ofEnvelope(e *queue.Envelope) uint32 {
	switch {
	case e.Origin.User != "":
		return uint32(maphash.String(s.seed, e.Origin.User))
	case e.Origin.Client.IsValid():
		var room [64]byte
		client, _ := e.Origin.Client.AppendBinary(room[:0]) // it never fails
		return s.of(client)
	}
	return uint32(maphash.String(s.seed, string(e.Sender)))
}

// firstOf is the first that is not empty, as an envelope record has them.
func firstOf(user, client, reversePath []byte) []byte {
	switch {
	case len(user) > 0:
		return user
	case len(client) > 0:
		return client
	}
	return reversePath
}
