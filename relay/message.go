package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"tacet/queue"
)

// Session is what is known of a client's session beside the envelope. It ends
// with the session: nothing of it is stored or logged.
type Session struct {
	Protocol string     // for the Received field (RFC 3848)
	Client   netip.Addr // of any listener; may be invalid
	Peer     netip.Addr // where the connection really comes from: the client, or the proxy that named it
	Helo     string     // the name in EHLO or HELO on an mx listener, unchecked; empty elsewhere

	Server     netip.AddrPort // where the client connected to; may be invalid
	Attendance *Attendance    // those who followed the session so far; nil: none
}

// Message is a message as checks see it: what it will be when it is relayed,
// apart from the relay's own trace field. A check changes nothing in it.
type Message struct {
	Envelope *queue.Envelope
	Session  *Session
	Added    []byte // fields that checks have put before the message so far
	Header   []byte // the message's own fields, without the empty line
	Size     int64  // octets of Header, empty line and body, as they came

	trace []byte // the relay's Received field
	blank bool   // the empty line is there
	body  []byte // its beginning, or all of it
	rest  *spool // what follows; nil: nothing
	hold  bool
}

// Body reads the body from its start: CRLF lines, not dot-stuffed. Readers are
// independent of each other, each for one goroutine, and good while the check runs.
func (m *Message) Body() io.Reader {
	if m.rest == nil {
		return bytes.NewReader(m.body)
	}
	return io.MultiReader(bytes.NewReader(m.body), m.rest.reader())
}

// Content reads the message's own fields, the empty line and the body.
func (m *Message) Content() io.Reader {
	return io.MultiReader(bytes.NewReader(m.Header), bytes.NewReader(lineBreak), m.Body())
}

// Whole reads what Content does, behind the fields that were added.
func (m *Message) Whole() io.Reader {
	return io.MultiReader(bytes.NewReader(m.Added), m.Content())
}

var lineBreak = []byte("\r\n")

// newMessage makes the checks' view of a message whose relayed form begins
// with head, trace field first; rest is the spooled remainder, or nil.
func newMessage(e *queue.Envelope, s *Session, head []byte, trace int, rest *spool) *Message {
	own := head[trace:]
	info := ScanHeader(own)
	m := &Message{
		Envelope: e, Session: s, trace: head[:trace:trace], blank: info.Blank,
		Header: own[:info.End:info.End], body: own[info.Body:], rest: rest, Size: int64(len(own)),
	}
	if rest != nil {
		m.Size += rest.size
	}
	return m
}

// NewMessage makes a message of a text in memory, as a check would see it that
// is asked by a relay: for whoever calls checks without one. The text has CRLF lines.
func NewMessage(e *queue.Envelope, s *Session, text []byte) *Message {
	return newMessage(e, s, text, 0, nil)
}

// relayed gives the message back in the form that [queue.Store] takes it.
func (m *Message) relayed() (head []byte, rest io.Reader) {
	head = make([]byte, 0, len(m.Added)+len(m.trace)+len(m.Header)+len(lineBreak)+len(m.body))
	head = append(head, m.Added...)
	head = append(head, m.trace...)
	head = append(head, m.Header...)
	if m.blank {
		head = append(head, lineBreak...)
	}
	head = append(head, m.body...)
	switch {
	case m.rest != nil && len(head) <= queue.InMemory:
		return head, m.rest.reader()
	case m.rest != nil:
		return nil, io.MultiReader(bytes.NewReader(head), m.rest.reader())
	case len(head) > queue.InMemory:
		return nil, bytes.NewReader(head)
	}
	return head, nil
}

var (
	errCheckPanicked = errors.New("a content check panicked")
	errSpoolDamaged  = errors.New("the spooled content is not what was written")
)

// spoolError wraps what went wrong with a spool file, without its name.
func spoolError(what string, err error) error { return fmt.Errorf("%s spooled content: %w", what, err) }
