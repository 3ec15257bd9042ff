package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"tacet/relay"
)

// content is how far the content of a message was read, by DATA or by BDAT.
type content struct {
	scan    scanner
	chunked bool  // BDAT
	last    bool  // BDAT: the chunk under way is the last
	tail    int   // octets of the CR LF that ends the content, yet to be given
	left    int64 // BDAT: octets of the chunk yet to be read
	size    int64 // octets of content so far
	drained int64 // octets read after the content was refused
	tiny    bool  // BDAT: the chunk under way is too small to be meant well

	waited  time.Duration // for content, within the window
	between time.Duration // for the next BDAT, within the window
	window  int64         // octets that came in the window

	err  error // sticky: io.EOF at the end, what the content is refused for, or how the connection was lost
	over bool  // the end of the content was reached
	mute bool  // the final reply is not for the client: it gave the message up, or is gone
}

var (
	errTruncated = errors.New("the connection ended within the content")
	errStalled   = errors.New("the content came too slowly")
	errGivenUp   = errors.New("the client gave the message up")
)

// Content reads the content of the message under way to io.EOF: lines that end
// in CR LF, the last one included, without dot-stuffing. A [*relay.Rejection] says that the
// content is refused; any other error that the connection is lost or the client gave up.
func (c *Conn) Content() io.Reader { return (*contentReader)(c) }

// Complete tells whether the content was read to its end and nothing was wrong with it.
func (c *Conn) Complete() bool { return c.content.err == io.EOF }

// Lost tells whether there is no one left to answer about the content: the client is
// gone, was cut off, or gave the message up.
func (c *Conn) Lost() bool { return c.content.mute }

// Refusal is what the content is refused for, as far as it was read; otherwise nil.
func (c *Conn) Refusal() *relay.Rejection {
	r, _ := errors.AsType[*relay.Rejection](c.content.err)
	return r
}

type contentReader Conn

func (cr *contentReader) Read(p []byte) (int, error) {
	c := (*Conn)(cr)
	d := &c.content
	if d.err != nil || len(p) == 0 {
		return 0, d.err
	}
	if d.tail > 0 {
		n := copy(p, "\r\n"[2-d.tail:])
		if d.tail -= n; d.tail == 0 {
			d.err = io.EOF
		}
		return n, nil
	}
	run, err := c.step(len(p))
	if err == nil {
		if c.trace != nil {
			c.trace.Content(run)
		}
		if d.size += int64(len(run)); d.scan.bad {
			err = errBareLineEnd
			c.set.Counters.BadContent.Add(1)
		} else if limit := c.set.MaxMessageSize; limit > 0 && d.size > limit {
			err = errTooLarge
			c.set.Counters.TooLarge.Add(1)
		}
	} else if err == io.EOF {
		return cr.end(p)
	}
	if err != nil {
		d.err = err
		return 0, err
	}
	return copy(p, run), nil
}

// end ends the content. A last chunk need not end in CR LF, but a text line does.
func (cr *contentReader) end(p []byte) (int, error) {
	d := &cr.content
	switch {
	case d.scan.cr: // a CR with nothing after it
		cr.set.Counters.BadContent.Add(1)
		d.err = errBareLineEnd
	case !d.scan.start:
		d.tail = 2
		return cr.Read(p)
	default:
		d.err = io.EOF
	}
	return 0, d.err
}

// tooLarge refuses a chunk that the limit leaves no room for, before it is read.
func (c *Conn) tooLarge() {
	d := &c.content
	if limit := c.set.MaxMessageSize; limit > 0 && d.err == nil && d.left > limit-d.size {
		d.err = errTooLarge
		c.set.Counters.TooLarge.Add(1)
	}
}

// step gives the next run of content, at most most octets of it, as it lies in the
// input buffer. io.EOF says that the content is over, anything else that the connection is.
func (c *Conn) step(most int) ([]byte, error) {
	d := &c.content
	for {
		if d.over {
			return nil, io.EOF
		}
		if d.chunked && d.left == 0 {
			if d.last {
				d.over = true
			} else if err := c.nextChunk(); err != nil {
				return nil, err
			}
			continue
		}
		if c.r == c.w {
			if err := c.wait(); err != nil {
				return nil, err
			}
		}
		src := c.in[c.r:c.w]
		if d.chunked {
			n := d.scan.run(src[:min(int64(len(src)), d.left, int64(most))], false)
			d.left -= int64(n)
			d.window += int64(n)
			c.r += n
			return src[:n], nil
		}
		if d.scan.start && src[0] == '.' {
			if err := c.dot(src); err != nil {
				return nil, err
			}
			continue
		}
		n := d.scan.run(src[:min(len(src), most)], true)
		d.window += int64(n)
		c.r += n
		return src[:n], nil
	}
}

// dot looks at a line that begins with a dot: it is the end of the data or the
// dot is stuffing (RFC 5321 §4.5.2).
func (c *Conn) dot(src []byte) error {
	end := []byte(".\r\n")
	switch {
	case bytes.HasPrefix(src, end):
		c.r += len(end)
		c.content.over = true
	case len(src) < len(end) && bytes.HasPrefix(end, src):
		return c.wait() // for the rest of it
	default:
		c.r++
		c.content.scan.start = false
	}
	return nil
}

// wait reads more content. A client that brings less than the minimum rate over
// a window is cut off. Only the time spent waiting for it counts.
func (c *Conn) wait() error {
	d := &c.content
	if d.window >= c.set.quota {
		d.window, d.waited, d.between = 0, 0, 0
	}
	err := error(os.ErrDeadlineExceeded)
	if left := c.set.ContentWindow - d.waited; left > 0 {
		start := time.Now()
		err = c.fill(left, false)
		d.waited += time.Since(start)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.stalled()
	}
	d.mute = true
	c.set.Counters.Truncated.Add(1)
	c.out = c.out[:0]
	c.ending = true
	return errTruncated
}

// stalled cuts a client off that brings its content too slowly. One whose content is refused already
// learns that: who ends lines in LF alone never ends a message either, and comes back after a 421.
func (c *Conn) stalled() error {
	reply := replyStalled
	if r := c.Refusal(); r != nil {
		reply = fmt.Sprintf("%d %d.%d.%d %s, closing\r\n", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
	}
	c.content.mute = true
	c.set.Counters.Stalled.Add(1)
	c.hangUp(reply)
	return errStalled
}

// tinyChunk is the size below which a chunk that is not the last counts as junk.
const tinyChunk = 64

// nextChunk answers the chunk just read and reads commands up to the next BDAT.
// Between two chunks nothing else goes on with the message (RFC 3030 §2).
func (c *Conn) nextChunk() error {
	d := &c.content
	if d.tiny {
		c.idle(replyChunk)
	} else {
		c.out = append(c.out, replyChunk...)
	}
	for !c.ending {
		start := time.Now()
		line, err := c.line(false)
		// Small chunks with long pauses are no way around the minimum rate.
		if d.between += time.Since(start); d.between > c.set.CommandTimeout && d.window < c.set.quota {
			return c.stalled()
		}
		if err == errControl {
			c.fail(replyControl)
			continue
		}
		if err != nil {
			d.mute = true
			c.set.Counters.Truncated.Add(1)
			_ = c.lost(err)
			return errTruncated
		}
		var buf [12]byte
		verb, args := split(line, &buf)
		switch string(verb) {
		case "BDAT":
			size, last, ok := parseChunk(args)
			if !ok {
				c.set.Counters.BadCommands.Add(1)
				c.hangUp(replyChunkSyntax)
				break
			}
			d.left, d.last, d.tiny = size, last, size < tinyChunk && !last
			c.borrow()
			c.tooLarge()
			return d.err
		case "RSET", "EHLO", "HELO", "QUIT":
			// It is read again once go-smtp knows that the message is given up.
			c.r -= len(line) + 2
			d.mute = true
			d.over = true
			return errGivenUp
		case "MAIL", "RCPT", "DATA", "AUTH", "STARTTLS":
			c.fail(replyInChunks)
		default:
			c.constant(verb)
		}
	}
	d.mute = true
	return errTruncated
}

// endContent reads what the session left of the content, so that it is never
// read as commands, and ends go-smtp's DATA.
func (c *Conn) endContent() error {
	d := &c.content
	for !c.ending && !d.over {
		if d.chunked && d.left == 0 {
			break // the reply answers this chunk, and ends the transaction
		}
		run, err := c.step(bigBuffer)
		if err != nil {
			break
		}
		if d.drained += int64(len(run)); d.drained > c.set.drain {
			c.hangUp("") // after the refusal
		}
	}
	c.feed = feedEnd
	return nil
}

// skip reads over a chunk that belongs to no transaction. It returns false if the connection ends.
func (c *Conn) skip(size int64) bool {
	if size > c.set.drain {
		c.hangUp(replyLineLong)
		return false
	}
	c.content = content{}
	for size > 0 {
		if c.r == c.w {
			c.borrow()
			if err := c.wait(); err != nil {
				return false
			}
		}
		n := min(size, int64(c.w-c.r))
		c.r += int(n)
		c.content.window += n
		size -= n
	}
	c.content = content{}
	return true
}
