package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

// The longest command lines, with their CR LF (RFC 5321 §4.5.3.1.4 and what
// the parameters add; RFC 4954 §4 for AUTH and the lines of its dialogue).
const (
	maxLine     = 2048
	maxAuthLine = 12288
)

var (
	errStopping = errors.New("the server is going down")
	errLineEnd  = errors.New("a line does not end in CR LF, or holds CR, LF or NUL")
	errLineLong = errors.New("a line is too long")
	errForeign  = errors.New("the client speaks another protocol")
	errControl  = errors.New("a line holds a control character")
)

// flushAt is how many octets of replies are gathered at most.
const flushAt = 16 << 10

// borrow replaces the small input buffer by a big one.
func (c *Conn) borrow() {
	if c.big != nil {
		return
	}
	c.big = c.set.buffer()
	n := copy(c.big[:], c.in[c.r:c.w])
	c.in, c.scanned = c.big[:], max(c.scanned-c.r, 0)
	c.r, c.w = 0, n
}

// giveBack returns the big buffer.
func (c *Conn) giveBack() {
	if c.big == nil {
		return
	}
	c.set.buffers.Put(c.big)
	c.big, c.in = nil, c.smallIn[:]
	c.r, c.w, c.scanned = 0, 0, 0
}

// room makes room for more input, at least one octet. Only a line that the
// biggest buffer cannot hold finds none, and those are refused before.
func (c *Conn) room() {
	switch {
	case c.r == c.w:
		c.r, c.w, c.scanned = 0, 0, 0
	case c.w < len(c.in):
	case c.r > 0:
		n := copy(c.in, c.in[c.r:c.w])
		c.scanned = max(c.scanned-c.r, 0)
		c.r, c.w = 0, n
	default:
		c.borrow()
	}
}

// flush writes the replies gathered so far.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if c.trace != nil {
		c.replied()
		c.told = 0
	}
	now := time.Now()
	if limit := c.set.CommandTimeout; c.writeBy.Sub(now) < limit/2 {
		c.writeBy = now.Add(limit)
		if err := c.raw.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	_, err := c.nc.Write(c.out)
	c.out = c.smallOut[:0]
	return err
}

// fill waits at most limit for input and reads it. It is the one place where
// a session waits for its client, so replies are flushed here. If idle, the
// server's going down ends the wait.
func (c *Conn) fill(limit time.Duration, idle bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.room()
	now := time.Now()
	until := now.Add(limit)
	for {
		// Setting a deadline costs more than reading the clock, so one that is
		// a thirty-second too early stands.
		if early := until.Sub(c.readBy); early < 0 || early > limit/32 {
			c.readBy = until
			if err := c.raw.SetReadDeadline(until); err != nil {
				return err
			}
		}
		if idle && c.stop.Load() {
			return errStopping
		}
		n, err := c.nc.Read(c.in[c.w:])
		if n > 0 {
			c.w += n
			return nil // an error comes again with the next read
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.stop.Load() {
			if idle {
				return errStopping
			}
			if c.readBy = (time.Time{}); time.Now().Before(until) {
				continue // woken by Stop in the middle of a transaction
			}
		}
		return err
	}
}

// line reads the next line and returns it without its CR LF. It lies in the
// input buffer: the next read of input overwrites it. It is the one place
// where commands are read.
func (c *Conn) line(idle bool) ([]byte, error) {
	c.following() // the greeting too
	line, err := c.readLine(idle)
	if err == nil {
		c.heard(line)
	}
	return line, err
}

func (c *Conn) readLine(idle bool) ([]byte, error) {
	limit := c.set.CommandTimeout
	start := time.Time{}
	c.scanned = c.r
	for {
		if c.r == c.w {
			c.giveBack()
		}
		if !c.spoken && c.r < c.w && (c.in[c.r] < ' ' || c.in[c.r] >= 0x7f) {
			return nil, errForeign // TLS, or anything else that is no text
		}
		if i := bytes.IndexByte(c.in[c.scanned:c.w], '\n'); i >= 0 {
			return c.cut(c.scanned + i)
		}
		c.scanned = c.w
		if n := c.w - c.r; n >= maxLine && (n >= maxAuthLine || !c.longLine()) {
			return nil, errLineLong
		}
		// The time is for the whole line, however it drips in.
		if c.r < c.w {
			if start.IsZero() {
				start = time.Now()
			} else if limit = c.set.CommandTimeout - time.Since(start); limit <= 0 {
				return nil, os.ErrDeadlineExceeded
			}
		}
		if err := c.fill(limit, idle); err != nil {
			return nil, err
		}
	}
}

// longLine tells whether the line at hand may be as long as AUTH needs.
func (c *Conn) longLine() bool {
	_, auth := cutPrefixFold(c.in[c.r:c.w], "AUTH ")
	return auth || c.phase == phaseSASL
}

// cut takes the line that ends with the LF at in[lf].
func (c *Conn) cut(lf int) ([]byte, error) {
	line := c.in[c.r:lf]
	limit := maxLine
	if len(line) >= maxLine && c.longLine() {
		limit = maxAuthLine
	}
	c.r = lf + 1
	c.spoken = true
	if len(line) >= limit {
		return nil, errLineLong
	}
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return nil, errLineEnd
	}
	line = line[:len(line)-1]
	control := false
	for _, b := range line {
		if b < ' ' || b == 0x7f {
			if b == 0 || b == '\r' {
				return nil, errLineEnd
			}
			control = true
		}
	}
	if control {
		return nil, errControl
	}
	return line, nil
}

// lost tells the client why the connection ends for an error of a read, as far
// as there is something to tell, and returns io.EOF.
func (c *Conn) lost(err error) error {
	n := c.set.Counters
	switch {
	case err == errStopping:
		c.last(replyShutdown)
	case err == errLineEnd:
		n.BadCommands.Add(1)
		c.hangUp(replyLineEnd)
	case err == errLineLong:
		n.BadCommands.Add(1)
		c.hangUp(replyLineLong)
	case err == errForeign:
		n.Foreign.Add(1)
		c.last("")
	case errors.Is(err, os.ErrDeadlineExceeded):
		n.TimedOut.Add(1)
		c.last(replyIdle)
	default:
		c.out = c.out[:0]
		c.ending = true
	}
	return io.EOF
}

// last says the last words of the connection.
func (c *Conn) last(reply string) {
	c.out = append(c.out, reply...)
	c.ending = true
}

// hangUp says the last words to a client that may still be talking.
func (c *Conn) hangUp(reply string) {
	c.last(reply)
	c.talking = true
}

// linger lets a client that is still talking read the last words: closing a
// TCP socket with unread input resets it, and the reply would be lost. It ends soon.
func (c *Conn) linger() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || c.tlsc != nil && c.tlsc.CloseWrite() != nil || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	buf := c.set.buffer()
	defer c.set.buffers.Put(buf)
	for left := lingerMost; left > 0; {
		n, err := c.raw.Read(buf[:])
		if err != nil {
			return
		}
		left -= n
	}
}

const (
	lingerTime = time.Second
	lingerMost = 4 << 20 // octets
)
