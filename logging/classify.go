package logging

import (
	"bytes"
	"strings"
	"sync"
)

// classifyText is how many octets of a reply are looked at.
const classifyText = 1024

// Classify finds the reason that a remote host's reply gives: its code (0 or
// 200 to 599), enhanced code (zero if there was none), text, and the stage it
// answered. Nothing of the text is kept. A positive reply has no reason; where
// nothing fits, it is [ReasonOther].
//
// Known phrases come first, because many hosts answer 550 5.7.1 to everything;
// then the enhanced code, then what the text names together, then the phrases
// that say little, then what code and stage tell alone.
func Classify(stage Stage, code int, enhanced [3]uint16, text string) Reason {
	if code >= 200 && code < 400 {
		return ReasonNone
	}
	var folded string
	if text != "" {
		var space [classifyText]byte
		folded = string(fold(space[:0], text))
	}
	if r := strongIndex().find(strongPhrases, folded); r != ReasonNone {
		return atStage(stage, r)
	}
	if r := byEnhanced(stage, code, enhanced); r != ReasonNone {
		return r
	}
	if r := byNotions(folded); r != ReasonNone {
		return atStage(stage, r)
	}
	if r := weakIndex().find(weakPhrases, folded); r != ReasonNone {
		return r
	}
	return byCode(stage, code, enhanced)
}

// atStage reads a reason by what was answered: no recipient was named yet when the
// reverse-path is refused.
func atStage(stage Stage, r Reason) Reason {
	if stage == StageMail && r == ReasonUserUnknown {
		return ReasonSenderRejected
	}
	return r
}

// fold gives text in lower case, with each run of white space, line ends and
// underscores as one space, cut to what dst has room for. Mailboxes are left
// out of it: spam@example.org is nobody's verdict.
func fold(dst []byte, text string) []byte {
	space, skip := true, false
	for i := 0; i < len(text) && len(dst) < cap(dst); i++ {
		c := text[i]
		switch {
		case c == '@':
			dst = dst[:bytes.LastIndexAny(dst, mailboxEnds)+1]
			skip = true
			continue
		case skip && c > ' ' && strings.IndexByte(mailboxEnds, c) < 0:
			continue
		case c <= ' ' || c == '_':
			if skip = false; space {
				continue
			}
			space, c = true, ' '
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
			space = false
		default:
			space, skip = false, false
		}
		dst = append(dst, c)
	}
	return dst
}

// mailboxEnds is what a mailbox in a reply stands between.
const mailboxEnds = " <>()[]:;,\"'"

// phraseIndex finds the phrases of a table by their first three octets, so
// that a text is gone through once however many phrases there are.
type phraseIndex struct {
	heads [phraseBuckets]uint16 // 1 + the first entry of the bucket; 0: none
	list  []phraseEntry
}

type phraseEntry struct {
	phrase string // at least three octets
	group  uint16 // its place in the table: the least one wins
	next   uint16 // like heads
}

const phraseBuckets = 1 << 13

func phraseBucket(s string) uint32 {
	return (uint32(s[0])<<16 | uint32(s[1])<<8 | uint32(s[2])) * 2654435761 >> (32 - 13)
}

func indexPhrases(groups []phraseGroup) *phraseIndex {
	x := new(phraseIndex)
	for g, group := range groups {
		for _, phrase := range group.phrases {
			head := &x.heads[phraseBucket(phrase)]
			x.list = append(x.list, phraseEntry{phrase, uint16(g), *head})
			*head = uint16(len(x.list))
		}
	}
	return x
}

// The tables, indexed when first needed.
var (
	strongIndex = sync.OnceValue(func() *phraseIndex { return indexPhrases(strongPhrases) })
	weakIndex   = sync.OnceValue(func() *phraseIndex { return indexPhrases(weakPhrases) })
)

// find gives the reason of the first group of which a phrase is in text.
func (x *phraseIndex) find(groups []phraseGroup, text string) Reason {
	best := len(groups)
	for ; len(text) >= 3; text = text[1:] {
		for at := x.heads[phraseBucket(text)]; at != 0; {
			entry := &x.list[at-1]
			if int(entry.group) < best && strings.HasPrefix(text, entry.phrase) {
				best = int(entry.group)
			}
			at = entry.next
		}
	}
	if best == len(groups) {
		return ReasonNone
	}
	return groups[best].reason
}

// byEnhanced reads the codes that mean one thing (RFC 3463 and the registry
// that RFC 5248 began). Those that everybody uses for everything (x.0.0,
// x.7.0, x.7.1) say nothing here.
func byEnhanced(stage Stage, code int, enhanced [3]uint16) Reason {
	if enhanced[0] != 4 && enhanced[0] != 5 {
		return ReasonNone
	}
	switch [2]uint16{enhanced[1], enhanced[2]} {
	case [2]uint16{1, 1}, [2]uint16{1, 10}:
		if enhanced[0] == 4 {
			return ReasonNone // put off, not unknown: the text knows why
		}
		return ReasonUserUnknown
	case [2]uint16{1, 2}:
		return ReasonMailNotAccepted
	case [2]uint16{1, 3}, [2]uint16{1, 7}:
		return ReasonAddressSyntax
	case [2]uint16{1, 6}:
		return ReasonMailboxMoved
	case [2]uint16{1, 8}:
		return ReasonSenderDomainUnknown
	case [2]uint16{2, 1}:
		if enhanced[0] == 4 {
			return ReasonMailboxBusy
		}
		return ReasonMailboxDisabled
	case [2]uint16{2, 2}:
		return ReasonMailboxFull
	case [2]uint16{2, 3}, [2]uint16{3, 4}:
		return ReasonTooLarge
	case [2]uint16{3, 1}:
		return ReasonDiskFullRemote
	case [2]uint16{3, 2}:
		if enhanced[0] == 5 {
			return ReasonMailNotAccepted
		}
	case [2]uint16{3, 5}:
		return ReasonSystemProblem
	case [2]uint16{4, 1}:
		if enhanced[0] == 5 && code == 550 && stage == StageRcpt {
			return ReasonUserUnknown // Exchange Online's edge: no such recipient
		}
	case [2]uint16{4, 3}:
		return ReasonRemoteDNS
	case [2]uint16{4, 4}:
		return ReasonRemoteRouting
	case [2]uint16{4, 5}:
		return ReasonOverloaded
	case [2]uint16{4, 6}:
		return ReasonLoop
	case [2]uint16{5, 1}, [2]uint16{5, 2}, [2]uint16{5, 4}, [2]uint16{5, 5}:
		return ReasonCommandRejected
	case [2]uint16{5, 3}:
		return ReasonTooManyRecipients
	case [2]uint16{6, 7}, [2]uint16{6, 9}:
		return ReasonNoSMTPUTF8
	case [2]uint16{7, 8}, [2]uint16{7, 9}:
		if stage == StageAuth || code == 535 || code == 534 {
			return ReasonAuthFailed
		}
	case [2]uint16{7, 10}, [2]uint16{7, 11}:
		return ReasonTLSRequiredByRemote
	case [2]uint16{7, 20}, [2]uint16{7, 21}, [2]uint16{7, 22}:
		return ReasonDKIMFailed
	case [2]uint16{7, 23}, [2]uint16{7, 24}:
		return ReasonSPFFailed
	case [2]uint16{7, 25}:
		return ReasonPTRMissing
	case [2]uint16{7, 26}:
		return ReasonUnauthenticated
	case [2]uint16{7, 27}:
		return ReasonSenderDomainUnknown // the sender's domain has a null MX (RFC 7505)
	case [2]uint16{7, 28}:
		return ReasonRateLimited // mail flood
	}
	return ReasonNone
}

// byCode is what code and stage tell alone.
func byCode(stage Stage, code int, enhanced [3]uint16) Reason {
	if code < 400 || code > 559 && code != 571 {
		return ReasonOther // none of SMTP's
	}
	switch code {
	case 421:
		return ReasonTryAgainLater
	case 432, 454, 534, 535:
		if stage == StageAuth {
			return ReasonAuthFailed
		}
	case 452:
		return ReasonDiskFullRemote
	case 455, 500, 501, 502, 503, 504, 555:
		return ReasonCommandRejected
	case 521, 556:
		return ReasonMailNotAccepted
	case 523:
		return ReasonTooLarge
	case 530:
		return ReasonAuthRequired
	case 538:
		return ReasonTLSRequiredByRemote
	case 551:
		return ReasonMailboxMoved
	case 552:
		if stage == StageRcpt {
			return ReasonMailboxFull
		}
		return ReasonTooLarge
	case 450, 451:
		return ReasonTryAgainLater
	}
	switch {
	case enhanced[1] == 7 || stage == StageGreeting && code == 554:
		return ReasonPolicy
	case stage == StageAuth && code/100 == 5:
		return ReasonAuthFailed
	case stage == StageEhlo && code/100 == 5:
		return ReasonHeloRejected
	case stage == StageMail && code/100 == 5:
		return ReasonSenderRejected
	case stage == StageRcpt && code/100 == 5:
		return ReasonRecipientRejected
	case (stage == StageContent || stage == StageEnd) && code/100 == 5:
		return ReasonContentRejected
	case code/100 == 4:
		return ReasonTryAgainLater
	}
	return ReasonOther
}
