package outbound

import "tacet/queue"

// fits sees whether the peer can take the message as it is, before it hears
// of it: nothing is changed to make it fit. A fault concerns all that are open;
// single recipients that do not fit get their last word here.
func (t *transaction) fits() *fault {
	p := &t.c.peer
	if t.env.RequireTLS && !p.requireTLS { // another hop may offer it (RFC 8689 §4.2.1)
		return noRequireTLS(queue.StageMail)
	}
	if p.size && p.maxSize > 0 && t.claim.Content.Size > p.maxSize { // RFC 1870 §6.2
		return ours(queue.StageMail, queue.CauseTooLarge, queue.Enhanced{5, 3, 4})
	}
	if t.long && !p.anyLine() && !t.c.primary {
		return tooLongLine()
	}
	if f := t.fitsBody(p); f != nil {
		return f
	}
	return t.fitsUTF8(p)
}

// noRequireTLS is the fault of a host that mail given with REQUIRETLS may not
// go to, for good as far as this host goes (RFC 8689 §4.2.1).
func noRequireTLS(stage queue.Stage) *fault {
	return &fault{reply: queue.Reply{Stage: stage, Cause: queue.CauseNoRequireTLS, Enhanced: queue.Enhanced{5, 7, 30}}}
}

// fitsBody looks at 8BITMIME and BINARYMIME. A message that was only declared
// as 8-bit goes anywhere.
func (t *transaction) fitsBody(p *peer) *fault {
	switch {
	case t.env.Body == queue.BodyBinaryMIME && !(p.binaryMIME && p.chunking):
		return ours(queue.StageMail, queue.CauseNo8BitMIME, queue.Enhanced{5, 6, 3})
	case t.env.Body != queue.Body8BitMIME || p.eightBitMIME:
		return nil
	}
	if err := t.scan.look(t.claim.Content); err != nil {
		return unreadable(err)
	}
	if t.scan.eightBit {
		return ours(queue.StageMail, queue.CauseNo8BitMIME, queue.Enhanced{5, 6, 3})
	}
	return nil
}

// fitsUTF8 looks at SMTPUTF8 (RFC 6531 §3.2, §3.5). Where only domains are
// beyond ASCII, A-labels do.
func (t *transaction) fitsUTF8(p *peer) *fault {
	beyond := t.sender.utf8Local || t.sender.utf8Domain
	for _, i := range t.open {
		beyond = beyond || t.rcpts[i].utf8Local || t.rcpts[i].utf8Domain
	}
	if !beyond && !t.env.UTF8 {
		return nil
	}
	if p.smtputf8 {
		t.utf8 = true
		return nil
	}
	if t.env.UTF8 {
		if err := t.scan.look(t.claim.Content); err != nil {
			return unreadable(err)
		}
	}
	if t.sender.utf8Local || t.env.UTF8 && t.scan.utf8Header || !asciiDomain(t.sender) {
		return ours(queue.StageMail, queue.CauseNoSMTPUTF8, queue.Enhanced{5, 6, 7})
	}
	for _, i := range t.open {
		if t.rcpts[i].utf8Local || !asciiDomain(t.rcpts[i]) {
			t.settle(i, queue.Reply{Stage: queue.StageRcpt, Cause: queue.CauseNoSMTPUTF8, Enhanced: queue.Enhanced{5, 6, 7}})
		}
	}
	t.compact()
	return nil
}

// anyLine tells whether the peer takes lines of any length (RFC 3030 §3). Text
// with long lines is said to be BINARYMIME there, as what it is; nobody else gets it.
func (p *peer) anyLine() bool { return p.binaryMIME && p.chunking }

// tooLongLine is the refusal of text that no peer without BINARYMIME can be
// trusted to keep as it is: some cut such lines, some break them.
func tooLongLine() *fault {
	return ours(queue.StageContent, queue.CauseLineTooLong, queue.Enhanced{5, 6, 0})
}

// body is what MAIL says of the content.
func (t *transaction) body() queue.BodyType {
	if t.long && t.c.peer.anyLine() {
		return queue.BodyBinaryMIME
	}
	return t.env.Body
}

func asciiDomain(m mailbox) bool {
	if !m.utf8Domain {
		return true
	}
	_, ok := aLabels(m.domain)
	return ok
}
