package outbound

import (
	"bytes"
	"time"

	"tacet/queue"
)

// send writes commands. All answers to earlier ones are read by then: what is
// here already would be taken for the answer to these.
func (t *transaction) send(b []byte) *fault {
	if !t.c.inStep() {
		return t.c.outOfStep(queue.StageMail)
	}
	f := t.c.write(queue.StageMail, b, t.c.client.config.Timeouts.Command)
	if f != nil {
		f.stale = t.unheard(f)
	}
	return f
}

// wait starts the time that the answers to a group of commands may take together.
func (t *transaction) wait() {
	t.until = time.Now().Add(groupPatience * t.c.client.config.Timeouts.Command)
}

// answer reads the reply to one command of a group.
func (t *transaction) answer(stage queue.Stage, limit time.Duration) (*reply, *fault) {
	r, f := t.c.read(stage, min(limit, time.Until(t.until)), nil)
	if f != nil {
		f.stale = t.unheard(f)
		return nil, f
	}
	t.replies++
	return r, nil
}

// unheard tells whether the connection ended before the peer answered anything.
func (t *transaction) unheard(f *fault) bool {
	return t.replies == 0 && f.reply.Cause == queue.CauseClosed
}

func (t *transaction) onReset() *fault {
	r, f := t.answer(queue.StageMail, t.c.client.config.Timeouts.Command)
	if f != nil {
		return f
	}
	if r.class() != 2 {
		f = t.c.outOfStep(queue.StageMail)
		f.stale = true
		return f
	}
	t.c.reset = false
	return nil
}

// onMail takes the answer to MAIL. A refusal concerns all that are open: 4yz
// leads to the next hop, 5yz is the last word.
func (t *transaction) onMail() *fault {
	r, f := t.answer(queue.StageMail, t.c.client.config.Timeouts.Command)
	switch {
	case f != nil:
		return f
	case r.class() == 2:
		return nil
	case r.class() == 3:
		return t.c.outOfStep(queue.StageMail)
	}
	t.refused = &fault{reply: r.toQueue(queue.StageMail), decided: r.class() == 5}
	switch r.code {
	case 421: // a kept connection is told so when the peer is tired of it
		t.refused.reply.Cause, t.refused.stale = queue.CauseConcurrencyLimit, true
		return t.refused // nothing follows
	case 503: // a kept connection whose sequence the peer sees otherwise
		t.refused.stale = true
		t.c.dead = t.c.kept
		if t.c.kept {
			t.refused.decided = false
		}
	}
	t.c.reset = true
	return nil
}

// onRcpt takes the answer for one recipient.
func (t *transaction) onRcpt(i int) *fault {
	t.about(i)
	r, f := t.answer(queue.StageRcpt, t.c.client.config.Timeouts.Command)
	t.about(-1)
	switch {
	case f != nil:
		return f
	case t.refused != nil:
		return nil
	case r.class() == 3:
		return t.c.outOfStep(queue.StageRcpt)
	case r.code == 421:
		return &fault{reply: r.toQueue(queue.StageRcpt)}
	}
	t.answered++
	if r.class() == 2 { // 250, 251 and 252 alike (RFC 5321 §4.3.2)
		t.taken = append(t.taken, i)
		return nil
	}
	if r.code == 552 { // RFC 5321 §4.5.3.1.10: to be treated as 452
		r.code = 452
		if !r.enhanced.IsZero() {
			r.enhanced[0] = 4
		}
	}
	if len(t.taken) > 0 && tooMany(r) {
		return nil // stays open, for the next transaction
	}
	t.settle(i, r.toQueue(queue.StageRcpt))
	return nil
}

// tooMany tells whether the peer wants the recipient in another transaction
// (RFC 5321 §4.5.3.1.10).
func tooMany(r *reply) bool {
	return r.code == 452 && (r.enhanced.IsZero() || r.enhanced == queue.Enhanced{4, 5, 3})
}

// onData takes the answer to DATA and goes on with the content.
func (t *transaction) onData() *fault {
	r, f := t.answer(queue.StageData, t.c.client.config.Timeouts.DataStart)
	nobody := len(t.taken) == 0 || t.refused != nil
	switch {
	case f != nil && nobody: // everyone has the last word; the connection is dead
		return nil
	case f != nil:
		return f
	case nobody:
		t.c.reset = true
		if r.code == 354 {
			t.emptyContent()
		}
		return nil
	case r.code == 354:
		return t.content()
	case r.class() == 2 || r.class() == 3:
		return t.c.outOfStep(queue.StageData)
	case r.code == 421:
		return &fault{reply: r.toQueue(queue.StageData)}
	}
	t.settleTaken(r.toQueue(queue.StageData))
	t.c.reset = true
	return nil
}

// emptyContent ends a DATA that the peer granted although there is nobody to
// receive it (RFC 2920 §3.1).
func (t *transaction) emptyContent() {
	limits := &t.c.client.config.Timeouts
	if f := t.c.write(queue.StageContent, finalDot, limits.DataBlock); f == nil {
		t.c.read(queue.StageEnd, limits.Command, nil) // what fails shows in t.c.dead
	}
}

// onEarlyEnd takes the answer to a chunk that went out with its commands.
func (t *transaction) onEarlyEnd() *fault {
	if len(t.taken) == 0 || t.refused != nil {
		t.c.read(queue.StageEnd, t.c.client.config.Timeouts.DataEnd, nil) // 503 or 554; what fails shows in t.c.dead
		t.c.reset = true
		return nil
	}
	r, f := t.c.read(queue.StageEnd, t.c.client.config.Timeouts.DataEnd, nil)
	if f != nil {
		return f
	}
	if !t.c.inStep() && !t.c.saysGoodbye() || r.class() == 2 && r.enhanced[1] == 1 {
		// One reply too many, or one about an address (RFC 3463 §3.2): what
		// was just read may have been the answer to RCPT.
		return t.c.outOfStep(queue.StageEnd)
	}
	return t.final(r)
}

// onEnd takes the answer to the final dot or chunk.
func (t *transaction) onEnd() *fault {
	r, f := t.c.read(queue.StageEnd, t.c.client.config.Timeouts.DataEnd, nil)
	if f != nil {
		return f
	}
	return t.final(r)
}

// final is the last word for those who were taken.
func (t *transaction) final(r *reply) *fault {
	if r.class() == 3 {
		return t.c.outOfStep(queue.StageEnd)
	}
	q := r.toQueue(queue.StageEnd)
	if r.class() == 2 { // any 2yz: the peer has the message (RFC 5321 §4.2.1)
		q.RemoteID = remoteID(q.Text)
		t.mute = t.mute || !t.c.peer.dsn
		t.result.Reports = !t.mute
	} else {
		t.c.reset = true
	}
	t.settleTaken(q)
	return nil
}

func (t *transaction) settleTaken(r queue.Reply) {
	for _, i := range t.taken {
		t.settle(i, r)
	}
}

// saysGoodbye tells whether what the peer has sent beyond its last reply
// begins as the 421 of a server that closes.
func (c *conn) saysGoodbye() bool {
	b, _ := c.in.Peek(min(c.in.Buffered(), 3))
	return bytes.HasPrefix([]byte("421"), b)
}
