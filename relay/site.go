package relay

import (
	"bytes"
	"net/netip"
	"slices"

	"tacet/queue"
)

// fromSite tells whether the other site's relay brings the message.
func (c *Config) fromSite(e *queue.Envelope, s *Session) bool {
	return len(c.Sites) > 0 && !e.Origin.Submission && s.Peer.IsValid() &&
		slices.ContainsFunc(c.Sites, func(p netip.Prefix) bool { return p.Contains(s.Peer.Unmap()) })
}

// receivedID is the queue ID in the first trace field of a header block, which is
// the client's own (RFC 5321 §4.4), or empty. It reaches the log, so it is
// held to the same pattern as the IDs that next hops give.
func receivedID(header []byte) string {
	for f := range Fields(header) {
		if bytes.EqualFold(f.Name, []byte("Received")) {
			words := bytes.Fields(clauses(f.Unfolded()))
			for i := len(words) - 2; i >= 0; i-- { // what the client called itself stands before it
				if bytes.EqualFold(words[i], []byte("id")) {
					return queueID(string(words[i+1]))
				}
			}
			return ""
		}
	}
	return ""
}

// clauses is a trace field's value without comments and date.
func clauses(value []byte) []byte {
	out := make([]byte, 0, len(value))
	depth := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
			out = append(out, ' ')
		case depth > 0 && c == '\\':
			i++
		case depth > 0:
		case c == ';':
			return out
		default:
			out = append(out, c)
		}
	}
	return out
}

// The length of a queue ID of any server.
const (
	shortestID = 5
	longestID  = 64
)

// queueID is s if it has the form of a server's queue ID, and otherwise empty.
func queueID(s string) string {
	if len(s) < shortestID || len(s) > longestID {
		return ""
	}
	digit := false
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digit = true
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '-', c == '.', c == '_':
		default:
			return ""
		}
	}
	if !digit {
		return ""
	}
	return s
}
