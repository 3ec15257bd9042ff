package logging

import (
	"strings"
	"sync"
)

// A reply that has none of the known phrases often still names two things that
// give it away together: an account and a quota, a sender and a check.

// notion is one such thing. A text has a set of them.
type notion uint32

const (
	ofMailbox   notion = 1 << iota // who mail is for
	ofSender                       // who it is from
	ofDomain                       // a domain, or a host's name
	ofFull                         // too much is in it
	ofDisabled                     // switched off
	ofMissing                      // not there, or not right
	ofClosed                       // for some only
	ofPassingOn                    // passing mail on
	ofRefusing                     // a no
	ofChecking                     // looking whether something is right
	ofDiffering                    // two that ought to be the same
	ofContent                      // what is sent
	ofNames                        // the DNS
	ofFailing                      // what went wrong
	ofLoad                         // means and their use
	ofSomeTime                     // for now
	ofPolicy                       // rules of the house
)

// notionWords are what stands for a notion, as fold writes it; their order is that of the notions.
var notionWords = []phraseGroup{
	{phrases: []string{"mailbox", "mail box", "inbox", "account", "user", "recipient", "rcpt", "active address", "address is inactiv", "mail address", "mailaddress", "due to inactivity", "mailfolder", "mail folder", "addressee", "maildrop", "alias", "mailing list", "postfach", "benutzer", "empfänger", "destinataire", "boîte", "destinatario", "casella", "buzon", "usuario"}},
	{phrases: []string{"sender", "mail from", "mailfrom", "from address", "from: address", "return path", "return-path", "reverse path", "reverse-path", "envelope from", "postmaster verif"}},
	{phrases: []string{"domain", "host name", "hostname", "invalid host"}},
	{phrases: []string{"quota", "full", "storage", "enough space", "no space", "out of space", "space left", "allowed size", "exhausted", "zuviele mails", "zu viele mails", "voll", "speicherplatz", "pleine", "piena", "llena", "exceeded its limit", "mailbox size", "size limit for the mailbox"}},
	{phrases: []string{"disabled", "inactiv", "deactivated", "suspend", " locked", "expired", "closed", "not activated", "not active", "frozen", "not an active", "never logged", "hasn't entered", "not logged in", "now disabled", "terminated", "cancelled", "canceled", "discontinued", "abandoned", "unavailable", "deaktiviert", "gesperrt", "désactiv", "disattivat", "desactivad", "turned off", "switched off"}},
	{phrases: []string{"not exist", "n't exist", "no exist", "no longer exist", "nt exist", "not found", "unknown", "invalid", "not valid", "no such", "not available", "not be found", "> not used", "not in use", "not a member", "not known", "not a local", "lookup in domain map", "not defined", "illegal", "no valid", "not registered", "no record of", "not match any", "unbekannt", "existiert nicht", "inconnu", "n'existe pas", "sconosciuto", "no existe", "desconocido", "incorrect"}},
	{phrases: []string{"restricted", "refused to receive", "accept mail only", "only from", "not wish to receive", "not want", "members only", "not allowed to send to", "private list", "not accepting mail from you", "moderated"}},
	{phrases: []string{"to relay", "relay to", "relaying", "relays ", "relay through", "relay for", " relay msg", "a gateway", "third party"}},
	{phrases: []string{"refused", "refuse ", "denied", "reject", "not allowed", "not permitted", "prohibit", "forbid", "not a gateway", "no longer relays", "unauthorized", "unauthorised", "not accept", "blocked", "discarded", "not welcome", "verweigert", "abgelehnt"}},
	{phrases: []string{"verif", "check fail", "validat", "callout", "callback"}},
	{phrases: []string{"mismatch", "must be same", "be the same", "does not match", "not match", "must match", "not in my domain", "not equal", "differ", "not belong", "same as"}},
	{phrases: []string{"message", "content", "mail data", "mail is", "e-mail", "email", "body", "mime", "invalid data", "your mail", "nachricht"}},
	{phrases: []string{"name server", "nameserver", "dns ", "dns:", "dns-", "resolver", "name lookup", "mx record", "mx list"}},
	{phrases: []string{"fail", "error", "timeout", "timed out", "can't", "cannot", "could not", "unable", "fehler"}},
	{phrases: []string{"busy", "resources", "overload", "load too high", "load average", "too loaded"}},
	{phrases: []string{"temporar", "try again", "later", "for now", "vorübergehend"}},
	{phrases: []string{"policy", "policies", "not authorized", "your access", "security", "rules.", "administrat"}},
}

// notionRules are read from the top; the first of which a text has everything counts.
var notionRules = []struct {
	all, none notion
	reason    Reason
}{
	{all: ofSender | ofDiffering, reason: ReasonSenderNotAllowed},
	{all: ofSender | ofChecking, none: ofDomain, reason: ReasonSenderVerifyFailed},
	{all: ofSender | ofDomain | ofMissing, reason: ReasonSenderDomainUnknown},
	{all: ofMailbox | ofFull, reason: ReasonMailboxFull},
	{all: ofNames | ofFailing, reason: ReasonRemoteDNS},
	{all: ofPassingOn | ofRefusing, reason: ReasonRelayDenied},
	{all: ofMailbox | ofMissing, none: ofSender, reason: ReasonUserUnknown},
	{all: ofMailbox | ofDisabled | ofSomeTime, reason: ReasonMailboxBusy},
	{all: ofMailbox | ofDisabled, reason: ReasonMailboxDisabled},
	{all: ofMailbox | ofClosed, reason: ReasonRecipientRestricted},
	{all: ofMailbox | ofChecking | ofFailing, none: ofSender, reason: ReasonUserUnknown},
	{all: ofSender | ofMissing, reason: ReasonSenderRejected},
	{all: ofSender | ofRefusing, none: ofMailbox | ofPolicy, reason: ReasonSenderRejected},
	{all: ofLoad, reason: ReasonOverloaded},
	{all: ofContent | ofMissing, none: ofMailbox | ofSender | ofDomain | ofPolicy, reason: ReasonContentRejected},
	{all: ofContent | ofRefusing, none: ofMailbox | ofSender | ofDomain | ofPolicy, reason: ReasonContentRejected},
}

var notionIndex = sync.OnceValue(func() *phraseIndex { return indexPhrases(notionWords) })

// notions are all that a folded text has.
func (x *phraseIndex) notions(text string) (has notion) {
	for ; len(text) >= 3; text = text[1:] {
		for at := x.heads[phraseBucket(text)]; at != 0; {
			entry := &x.list[at-1]
			if strings.HasPrefix(text, entry.phrase) {
				has |= 1 << entry.group
			}
			at = entry.next
		}
	}
	return has
}

// byNotions is what the notions of a folded text tell together.
func byNotions(text string) Reason {
	has := notionIndex().notions(text)
	for _, rule := range notionRules {
		if has&rule.all == rule.all && has&rule.none == 0 {
			return rule.reason
		}
	}
	return ReasonNone
}
