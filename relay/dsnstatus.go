package relay

import "tacet/queue"

// statusOf is the Status field of a report (RFC 3464 §2.3.4): what the next
// hop said, if it said so, in the class that the outcome is of; else what the
// cause or the reply code stands for.
func statusOf(kind queue.Notify, reply queue.Reply) queue.Enhanced {
	if kind == queue.NotifySuccess {
		return queue.Enhanced{2, 0, 0}
	}
	status := reply.Enhanced
	switch {
	case reply.Cause == queue.CauseExpired:
		return queue.Enhanced{4, 4, 7}
	case reply.Cause != queue.CauseNone:
		status = causeStatus[reply.Cause]
	case status.IsZero() || int(status[0]) != reply.Code/100:
		status = queue.Enhanced{uint16(reply.Code / 100), 0, 0}
	}
	if kind == queue.NotifyDelay {
		status[0] = 4
	}
	if status[0] != 4 && status[0] != 5 {
		status = queue.Enhanced{5, 0, 0}
	}
	return status
}

// causeStatus is the enhanced code (RFC 3463 and its registry) that stands
// for each cause.
var causeStatus = [...]queue.Enhanced{
	queue.CauseDNSTemporary:     {4, 4, 3},
	queue.CauseNoSuchDomain:     {5, 1, 2},
	queue.CauseNoMX:             {5, 4, 4},
	queue.CauseNullMX:           {5, 1, 10}, // RFC 7505 §4.2
	queue.CauseMXUnresolved:     {4, 4, 4},
	queue.CauseAddressForbidden: {5, 4, 4},
	queue.CauseLoopsBack:        {5, 4, 6},
	queue.CauseBadDomain:        {5, 1, 2},
	queue.CauseRefused:          {4, 4, 1},
	queue.CauseUnreachable:      {4, 4, 1},
	queue.CauseTimeout:          {4, 4, 2},
	queue.CauseClosed:           {4, 4, 2},
	queue.CauseProtocol:         {4, 5, 0},
	queue.CauseTLSRequired:      {4, 7, 10}, // RFC 7293's registry: encryption needed
	queue.CauseTLSUnverified:    {4, 7, 5},
	queue.CauseTLSHandshake:     {4, 7, 5},
	queue.CauseAuthFailed:       {4, 7, 8},
	queue.CauseNo8BitMIME:       {5, 6, 3},
	queue.CauseNoSMTPUTF8:       {5, 6, 7}, // RFC 6531 §3.5
	queue.CauseTooLarge:         {5, 3, 4},
	queue.CauseLineTooLong:      {5, 6, 0},
	queue.CauseNoRequireTLS:     {5, 7, 30}, // RFC 8689 §4.2.1
	queue.CauseAmbiguous:        {4, 4, 2},
	queue.CauseShutdown:         {4, 3, 2},
	queue.CauseLocal:            {4, 3, 0},
	queue.CauseContentDamaged:   {4, 3, 0},
	queue.CauseExpired:          {4, 4, 7},
	queue.CauseDeletedByAdmin:   {5, 7, 1},
	queue.CauseTooManyHops:      {5, 4, 6},
	queue.CauseAllHostsFailed:   {4, 4, 0},
	queue.CauseConcurrencyLimit: {4, 4, 5},
}

// topic is a family of outcomes that are explained alike.
type topic uint8

const (
	topicUnknown topic = iota // refused, without a word why
	topicBusy                 // put off, without a word why
	topicHandedOn
	topicMailboxUnknown
	topicMailboxMoved
	topicMailboxOff
	topicMailboxFull
	topicBadAddress
	topicDomainUnknown
	topicDomainNoMail
	topicDomainBroken
	topicDNS
	topicSenderRefused
	topicTooLarge
	topicServerFull
	topicServerDown
	topicUnreachable
	topicInterrupted
	topicLoop
	topicProtocol
	topicContent
	topicLine
	topicUTF8
	topicPolicy
	topicUnproven
	topicEncryption
	topicRequireTLS
	topicSmarthost
	topicLocal
	topicDeleted
)

// topicOf is what the reply is about.
func topicOf(reply queue.Reply) topic {
	if reply.Cause != queue.CauseNone && reply.Cause != queue.CauseExpired {
		return causeTopic[reply.Cause]
	}
	if reply.Code == 0 {
		return topicUnreachable
	}
	if t := enhancedTopic(reply.Enhanced); t != topicUnknown {
		return t
	}
	return codeTopic(reply)
}

// enhancedTopic goes by the subject and the detail of an enhanced code.
func enhancedTopic(e queue.Enhanced) topic {
	if e.IsZero() {
		return topicUnknown
	}
	for _, t := range enhancedTopics {
		if t.subject == e[1] && (t.from <= e[2] && e[2] <= t.to) {
			return t.topic
		}
	}
	return topicUnknown
}

var enhancedTopics = []struct {
	subject, from, to uint16
	topic             topic
}{
	{1, 1, 1, topicMailboxUnknown},
	{1, 2, 2, topicDomainUnknown},
	{1, 3, 5, topicBadAddress},
	{1, 6, 6, topicMailboxMoved},
	{1, 7, 9, topicSenderRefused},
	{1, 10, 10, topicDomainNoMail},
	{2, 1, 1, topicMailboxOff},
	{2, 2, 2, topicMailboxFull},
	{2, 3, 3, topicTooLarge},
	{3, 1, 1, topicServerFull},
	{3, 2, 3, topicServerDown},
	{3, 4, 4, topicTooLarge},
	{3, 0, 99, topicServerDown},
	{4, 3, 3, topicDNS},
	{4, 4, 4, topicDomainBroken},
	{4, 6, 6, topicLoop},
	{4, 0, 99, topicUnreachable},
	{5, 0, 99, topicProtocol},
	{6, 7, 10, topicUTF8},
	{6, 0, 99, topicContent},
	{7, 4, 6, topicEncryption},
	{7, 10, 11, topicEncryption},
	{7, 20, 29, topicUnproven}, // DKIM, SPF, reverse DNS, DMARC: RFC 7372
	{7, 30, 30, topicRequireTLS},
	{7, 0, 99, topicPolicy},
}

// codeTopic goes by the reply code alone (RFC 5321 §4.2.3) and by where it came.
func codeTopic(reply queue.Reply) topic {
	rcpt := reply.Stage == queue.StageRcpt
	switch reply.Code {
	case 552:
		if rcpt {
			return topicMailboxFull
		}
		return topicTooLarge
	case 452:
		return topicServerFull
	case 550, 551, 553:
		if rcpt {
			return topicMailboxUnknown
		}
		return topicPolicy
	case 421:
		return topicServerDown
	case 500, 501, 502, 503, 504, 555:
		return topicProtocol
	case 523, 530, 538:
		return topicEncryption
	case 521, 556:
		return topicDomainNoMail // RFC 7504
	}
	if reply.Code/100 == 5 {
		return topicUnknown
	}
	return topicBusy
}

var causeTopic = [...]topic{
	queue.CauseDNSTemporary:     topicDNS,
	queue.CauseNoSuchDomain:     topicDomainUnknown,
	queue.CauseNoMX:             topicDomainNoMail,
	queue.CauseNullMX:           topicDomainNoMail,
	queue.CauseMXUnresolved:     topicDomainBroken,
	queue.CauseAddressForbidden: topicDomainBroken,
	queue.CauseLoopsBack:        topicLoop,
	queue.CauseBadDomain:        topicBadAddress,
	queue.CauseRefused:          topicUnreachable,
	queue.CauseUnreachable:      topicUnreachable,
	queue.CauseTimeout:          topicUnreachable,
	queue.CauseClosed:           topicInterrupted,
	queue.CauseProtocol:         topicProtocol,
	queue.CauseTLSRequired:      topicEncryption,
	queue.CauseTLSUnverified:    topicEncryption,
	queue.CauseTLSHandshake:     topicEncryption,
	queue.CauseAuthFailed:       topicSmarthost,
	queue.CauseNo8BitMIME:       topicContent,
	queue.CauseNoSMTPUTF8:       topicUTF8,
	queue.CauseTooLarge:         topicTooLarge,
	queue.CauseLineTooLong:      topicLine,
	queue.CauseNoRequireTLS:     topicRequireTLS,
	queue.CauseAmbiguous:        topicInterrupted,
	queue.CauseShutdown:         topicLocal,
	queue.CauseLocal:            topicLocal,
	queue.CauseContentDamaged:   topicLocal,
	queue.CauseExpired:          topicUnreachable,
	queue.CauseDeletedByAdmin:   topicDeleted,
	queue.CauseTooManyHops:      topicLoop,
	queue.CauseAllHostsFailed:   topicUnreachable,
	queue.CauseConcurrencyLimit: topicServerDown,
}
