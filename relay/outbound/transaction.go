package outbound

import (
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"tacet/queue"
)

const (
	// hotConnection is how long after its last reply a connection surely still
	// stands: only then the end of content goes out before the first answer. Were the
	// connection gone, nobody could say whether the message was taken.
	hotConnection = time.Second
	// inOneWrite is the most content that goes into one write with its commands.
	inOneWrite = 32 << 10
	// maxCommands is the most that is written before replies are read (RFC 2920
	// §3.1: neither side may wait for the other's window).
	maxCommands = 48 << 10
	// groupPatience bounds the answers to one group of commands, as a multiple of the time-out of one.
	groupPatience = 4
)

// transaction is one MAIL with its recipients and the content.
type transaction struct {
	*attempt
	c      *conn
	stream io.ReadCloser // content that is not in memory
	batch  []int         // of open: those of this transaction
	taken  []int         // of batch: those that the peer has taken
	until  time.Time     // when the answers to a group have to be there

	utf8     bool
	chunk    bool   // BDAT, otherwise DATA
	blocks   int    // of content, written
	ended    bool   // the end of content was sent
	replies  int    // read in this transaction
	answered int    // of batch: RCPT was answered
	refused  *fault // MAIL was not answered by 2yz
}

// transact does one transaction with as many of the open recipients as the
// peer takes at once. Those that got the last word are no longer open; a fault
// concerns the others. stale tells that c, a kept connection, was gone before it was used.
func (a *attempt) transact(ctx context.Context, c *conn) (f *fault, stale bool) {
	t := &a.transaction
	*t = transaction{attempt: a, c: c, taken: t.taken[:0]}
	if f := t.fits(); f != nil || len(a.open) == 0 {
		return f, false
	}
	if t.stream, f = openStream(&a.claim.Content); f != nil {
		return f, false
	}
	t.batch = a.open[:min(len(a.open), c.maxRecipients())]
	c.mails++
	c.follow()
	if f = c.xforward(ctx, a.env); f == nil {
		f = t.run()
	}
	if c.trace != nil {
		remarkFault(c.trace, f)
		c.trace.End()
	}
	if t.stream != nil {
		t.stream.Close()
	}
	if f != nil {
		c.reset = true
		if t.ended && t.refused == nil {
			t.ambiguous(f)
			f = nil
		}
	}
	a.compact()
	return f, f != nil && f.stale && c.kept
}

// openStream opens content that is not in memory, before the peer hears of it.
func openStream(content *queue.Content) (io.ReadCloser, *fault) {
	if content.Open == nil {
		return nil, nil
	}
	in, err := content.Open()
	if err != nil {
		return nil, unreadable(err)
	}
	return in, nil
}

// ambiguous is the last word for those whose content was sent to its end and
// who got no answer: the peer may have taken it (RFC 1047).
func (t *transaction) ambiguous(f *fault) {
	r := queue.Reply{Stage: queue.StageEnd, Cause: queue.CauseAmbiguous}
	if f.reply.Code != 0 && f.reply.Cause == queue.CauseNone { // 421: the peer says that it has not
		r = f.reply
	}
	for _, i := range t.taken {
		t.settle(i, r)
	}
	for _, i := range t.batch[t.answered:] {
		t.settle(i, r)
	}
}

// run sends the commands and the content in the manner that the peer allows.
func (t *transaction) run() *fault {
	content := &t.claim.Content
	t.chunk = t.c.peer.chunking
	if !t.c.peer.pipelining {
		return t.lockstep()
	}
	early := t.chunk && t.stream == nil && len(content.Head) <= inOneWrite &&
		(!t.c.kept || t.c.rested < hotConnection) && !mayCommand(content.Head)
	return t.pipelined(early)
}

// lockstep sends one command after the other.
func (t *transaction) lockstep() *fault {
	t.wait()
	if t.c.reset {
		t.c.said(queue.StageMail, resetCommand)
		if f := t.send(resetCommand); f != nil {
			return f
		}
		if f := t.onReset(); f != nil {
			return f
		}
	}
	if f := t.send(t.mail(t.c.out[:0])); f != nil {
		return f
	}
	if f := t.onMail(); f != nil {
		return f
	}
	if t.refused != nil {
		return t.refused
	}
	for _, i := range t.batch {
		t.wait() // answers are not a group here
		if f := t.send(t.rcpt(t.c.out[:0], i)); f != nil {
			return f
		}
		if f := t.onRcpt(i); f != nil {
			return f
		}
	}
	switch {
	case len(t.taken) == 0:
		t.c.reset = true
		return nil
	case t.chunk:
		return t.content()
	}
	t.wait()
	t.c.said(queue.StageData, dataCommand)
	if f := t.send(dataCommand); f != nil {
		return f
	}
	return t.onData()
}

// pipelined sends all commands in one write (RFC 2920). early: with BDAT and the content.
func (t *transaction) pipelined(early bool) *fault {
	out := t.c.out[:0]
	if t.c.reset {
		t.c.said(queue.StageMail, resetCommand)
		out = append(out, resetCommand...)
	}
	out = t.mail(out)
	for n, i := range t.batch {
		if len(out) > maxCommands {
			t.batch = t.batch[:n]
			break
		}
		out = t.rcpt(out, i)
	}
	switch {
	case early:
		start := len(out)
		out = appendChunk(out, t.claim.Content.Size)
		t.c.said(queue.StageContent, out[start:])
		out = append(out, t.claim.Content.Head...)
		t.traceContent(t.claim.Content.Head)
	case !t.chunk:
		t.c.said(queue.StageData, dataCommand)
		out = append(out, dataCommand...)
	}
	t.c.out = out[:0]
	if early {
		if f := t.end(); f != nil {
			return f
		}
	}
	t.wait()
	if f := t.send(out); f != nil {
		return f
	}
	return t.answers(early)
}

// answers reads what the peer says to a group of commands: all of it, to stay
// in step, also where MAIL was refused.
func (t *transaction) answers(early bool) *fault {
	if t.c.reset {
		if f := t.onReset(); f != nil {
			return f
		}
	}
	if f := t.onMail(); f != nil {
		return f
	}
	for _, i := range t.batch {
		if f := t.onRcpt(i); f != nil {
			return t.because(f)
		}
	}
	var f *fault
	switch {
	case early:
		f = t.onEarlyEnd()
	case !t.chunk:
		f = t.onData()
	case t.refused == nil && len(t.taken) > 0:
		f = t.content()
	default:
		t.c.reset = true
	}
	return t.because(f)
}

// because lets the answer to MAIL, where that was a refusal, outweigh what came after it.
func (t *transaction) because(f *fault) *fault {
	if t.refused != nil {
		return t.refused
	}
	return f
}

// mail and rcpt add a command to b.
func (t *transaction) mail(b []byte) []byte {
	t.told()
	b, start := appendMail(b, t.env, t.body(), t.claim.Content.Size, t.sender, &t.c.peer, t.utf8), len(b)
	t.c.said(queue.StageMail, b[start:])
	return b
}

func (t *transaction) rcpt(b []byte, i int) []byte {
	b, start := appendRcpt(b, &t.env.Recipients[t.claim.Recipients[i]], t.rcpts[i], &t.c.peer, t.utf8), len(b)
	if t.c.trace != nil {
		t.about(i)
		t.c.said(queue.StageRcpt, b[start:])
		t.about(-1)
	}
	return b
}

var (
	resetCommand = []byte("RSET\r\n")
	dataCommand  = []byte("DATA\r\n")
)

func appendChunk(b []byte, size int64) []byte {
	b = append(b, "BDAT "...)
	b = strconv.AppendInt(b, size, 10)
	return append(b, " LAST\r\n"...) // RFC 3030 §2
}

// content sends the content and takes the answer to it. All answers before it are read.
func (t *transaction) content() *fault {
	if !t.c.inStep() { // an answer that is here already answers something else
		return t.c.outOfStep(queue.StageContent)
	}
	content := &t.claim.Content
	w := contentWriter{to: t, left: content.Size, dots: !t.chunk, binary: t.env.Body == queue.BodyBinaryMIME && t.chunk, wide: t.long || t.c.primary}
	w.buf = t.c.out[:0]
	if t.stream == nil {
		w.buf = slices.Grow(w.buf, min(len(content.Head), blockSize)+len(finalDot)+maxChunkCommand)
	}
	if t.chunk {
		w.buf = appendChunk(w.buf, content.Size)
		t.c.said(queue.StageContent, w.buf)
	}
	f := t.fill(&w)
	t.c.out = w.buf[:0]
	switch {
	case f == nil:
		return t.onEnd()
	case f.reply.Cause == queue.CauseLineTooLong: // the peer waits for the rest in vain
		t.c.dead, t.long = true, true
		if t.c.peer.anyLine() {
			f.again = true
			return f
		}
		return tooLongLine()
	case t.ended || f.reply.Code == 0:
		t.c.dead = true
		return f
	}
	t.c.dead = true // refused while it was under way
	t.settleTaken(f.reply)
	return nil
}

// maxChunkCommand is the room for "BDAT 9223372036854775807 LAST", and some stuffed dots.
const maxChunkCommand = 64

func (t *transaction) fill(w *contentWriter) *fault {
	if t.stream == nil {
		if f := w.writeAll(t.claim.Content.Head); f != nil {
			return f
		}
	} else if f := w.copyFrom(t.stream, t.c.streamBlock()); f != nil {
		return f
	}
	return w.close()
}

// writeBlock writes one block of content. Before each but the first the peer may have
// interrupted: it need not hear the rest.
func (t *transaction) writeBlock(b []byte, last bool) *fault {
	if t.blocks > 0 && t.c.spoke() {
		return t.interrupted()
	}
	t.blocks++
	t.traceContent(b)
	if last {
		if f := t.end(); f != nil {
			return f
		}
	}
	f := t.c.write(queue.StageContent, b, t.c.client.config.Timeouts.DataBlock)
	if f != nil && !last && f.reply.Cause == queue.CauseClosed {
		if why := t.interrupted(); why.reply.Code != 0 {
			return why
		}
	}
	return f
}

// interrupted takes what the peer says while the content is under way. A
// refusal is the last word; 2yz cannot be an answer to what it does not have yet.
func (t *transaction) interrupted() *fault {
	r, f := t.c.read(queue.StageContent, lastWords, nil)
	switch {
	case f != nil:
		return f
	case r.class() == 4 || r.class() == 5:
		return &fault{reply: r.toQueue(queue.StageContent)}
	}
	return t.c.outOfStep(queue.StageContent)
}

// lastWords is how long a reply is waited for that should be here already.
const lastWords = 2 * time.Second

// end is called before the end of content is sent. From here on the end of
// the context no longer ends the connection.
func (t *transaction) end() *fault {
	if !t.c.unwatch() {
		return t.c.failed(queue.StageContent, errStopped)
	}
	t.ended = true
	return nil
}
