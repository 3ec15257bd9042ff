package logging

// Reason says why, as one of a closed list. It is the one thing that is kept
// of an error or of a remote host's words: see [Classify].
type Reason uint16

// The reasons. The zero Reason is absent.
const (
	ReasonNone Reason = iota

	// Finding the next hop.
	ReasonDNSTemporary     // DNS gave no answer for now
	ReasonNoSuchDomain     // the domain does not exist
	ReasonNoMX             // the domain has neither MX nor address
	ReasonNullMX           // the domain takes no mail (null MX)
	ReasonMXUnresolved     // no MX host has a usable address for now
	ReasonAddressForbidden // every address of the next hop is in a range that must not be contacted
	ReasonLoopsBack        // the best MX is this relay
	ReasonBadDomain        // not a valid domain name

	// Reaching it.
	ReasonRefused          // connection refused
	ReasonUnreachable      // no route to the host
	ReasonTimeout          // no answer in time
	ReasonClosed           // the other side closed the connection
	ReasonProtocol         // the answer was not SMTP, or out of step
	ReasonAllHostsFailed   // no host of the next hop could be used
	ReasonConcurrencyLimit // the next hop takes no more connections from us

	// Our own rules about the next hop.
	ReasonTLSRequired   // we require TLS and the next hop has none
	ReasonTLSUnverified // the certificate is not the required one
	ReasonTLSHandshake  // the TLS handshake failed
	ReasonAuthFailed    // our login at the smarthost was refused
	ReasonNo8BitMIME    // the next hop lacks 8BITMIME
	ReasonNoSMTPUTF8    // internationalized addresses are not supported (SMTPUTF8)
	ReasonNoRequireTLS  // the next hop lacks REQUIRETLS
	ReasonTooLarge      // the message is too large for the next hop
	ReasonLineTooLong   // a line of the message is longer than SMTP allows

	// Of the relay itself.
	ReasonAmbiguous      // the connection ended after the final dot: the next hop may have taken the message
	ReasonShutdown       // the relay was stopping
	ReasonLocal          // a fault of the relay itself
	ReasonContentDamaged // the stored content does not match its checksum
	ReasonExpired        // the lifetime in the queue is over
	ReasonDeletedByAdmin // an admin deleted the message
	ReasonTooManyHops    // too many Received fields

	// What the relay refuses to its clients.
	ReasonPolicy          // refused by policy
	ReasonSyntax          // a command or the framing was malformed
	ReasonSize            // the message is larger than we take
	ReasonLimit           // a limit on recipients, errors, connections or rate
	ReasonAuthRequired    // a login is required
	ReasonBadCredentials  // wrong user or password
	ReasonRelayDenied     // relaying is not allowed
	ReasonTLSRequiredByUs // we require TLS of the client
	ReasonLoop            // a mail loop was found
	ReasonContent         // a content check of ours refused it
	ReasonNoRoom          // no room or the store is unavailable

	// What a next hop answers about the recipient.
	ReasonUserUnknown         // no such mailbox
	ReasonMailboxFull         // the mailbox is full
	ReasonMailboxDisabled     // the mailbox is disabled
	ReasonMailboxBusy         // the mailbox is busy or locked for now
	ReasonMailboxMoved        // the mailbox has moved
	ReasonRecipientRestricted // the recipient takes mail from certain senders only
	ReasonRecipientRejected   // the recipient was refused without a closer reason
	ReasonRecipientLimit      // the recipient gets too much mail at this time
	ReasonAddressSyntax       // an address was found malformed
	ReasonTooManyRecipients   // too many recipients
	ReasonMailNotAccepted     // the host takes no mail, or none for this domain

	// About the sender.
	ReasonSenderRejected      // the sender address was refused
	ReasonSenderDomainUnknown // the sender's domain was not found
	ReasonSenderVerifyFailed  // the sender address could not be verified
	ReasonSenderNotAllowed    // this login may not use this sender address
	ReasonSenderLimit         // the sender's or account's quota is used up

	// About our host.
	ReasonGreylisted          // greylisted: try again later
	ReasonBlockedByList       // our address or a domain is on a block list
	ReasonReputation          // our address or domain has a poor reputation
	ReasonDynamicAddress      // our address counts as dynamic or residential
	ReasonPTRMissing          // our address lacks a matching reverse DNS name
	ReasonHeloRejected        // our HELO name was refused
	ReasonRateLimited         // we send too fast
	ReasonTooManyConnections  // too many connections
	ReasonTLSRequiredByRemote // the next hop requires TLS

	// About authentication of the message.
	ReasonUnauthenticated // neither SPF nor DKIM vouches for the message
	ReasonSPFFailed       // SPF check failed
	ReasonDKIMFailed      // DKIM check failed
	ReasonDMARCFailed     // DMARC check failed

	// About the content.
	ReasonSpamSuspected     // suspected to be spam
	ReasonVirusFound        // a virus was found
	ReasonAttachmentBlocked // an attachment of this kind is not taken
	ReasonLinkBlocked       // a link in the message is on a block list
	ReasonPhishingSuspected // suspected to be phishing
	ReasonHeaderInvalid     // the header is malformed
	ReasonContentRejected   // the content was refused

	// About the next hop itself.
	ReasonSystemProblem   // a fault at the next hop
	ReasonDiskFullRemote  // the next hop has no room
	ReasonOverloaded      // the next hop is overloaded
	ReasonRemoteShutdown  // the next hop is down for maintenance or stopping
	ReasonRemoteDNS       // the next hop could not resolve a name
	ReasonRemoteTimeout   // the next hop gave up waiting
	ReasonRemoteRouting   // the next hop cannot pass the message on
	ReasonCommandRejected // the next hop does not know or refused a command
	ReasonTryAgainLater   // try again later, without a closer reason
	ReasonOther           // none of these: see the codes

	reasonEnd
)

// reasonText is how a reason is called in the log and explained to people.
type reasonText struct{ name, english, german string }

var reasonTable = [reasonEnd]reasonText{
	ReasonDNSTemporary:        {"dns_temporary", "DNS gave no answer for now", "DNS gab vorerst keine Antwort"},
	ReasonNoSuchDomain:        {"no_such_domain", "the domain does not exist", "die Domain gibt es nicht"},
	ReasonNoMX:                {"no_mx", "the domain has neither MX nor address", "die Domain hat weder MX noch Adresse"},
	ReasonNullMX:              {"null_mx", "the domain takes no mail (null MX)", "die Domain nimmt keine Mail an (Null-MX)"},
	ReasonMXUnresolved:        {"mx_unresolved", "no MX host has a usable address for now", "kein MX-Host hat vorerst eine brauchbare Adresse"},
	ReasonAddressForbidden:    {"address_forbidden", "every address of the next hop is in a range that must not be contacted", "alle Adressen des Ziels liegen in gesperrten Bereichen"},
	ReasonLoopsBack:           {"loops_back", "the best MX is this relay", "der beste MX ist dieses Relay selbst"},
	ReasonBadDomain:           {"bad_domain", "not a valid domain name", "kein gültiger Domainname"},
	ReasonRefused:             {"connection_refused", "connection refused", "Verbindung abgelehnt"},
	ReasonUnreachable:         {"unreachable", "no route to the host", "Host nicht erreichbar"},
	ReasonTimeout:             {"timeout", "no answer in time", "keine Antwort innerhalb der Frist"},
	ReasonClosed:              {"connection_closed", "the other side closed the connection", "die Gegenseite hat die Verbindung beendet"},
	ReasonProtocol:            {"protocol_error", "the answer was not SMTP, or out of step", "die Antwort war kein SMTP oder aus dem Takt"},
	ReasonAllHostsFailed:      {"all_hosts_failed", "no host of the next hop could be used", "kein Host des Ziels war benutzbar"},
	ReasonConcurrencyLimit:    {"concurrency_limit", "the next hop takes no more connections from us", "das Ziel nimmt keine weiteren Verbindungen von uns an"},
	ReasonTLSRequired:         {"tls_required", "we require TLS and the next hop has none", "wir verlangen TLS, das Ziel bietet keines"},
	ReasonTLSUnverified:       {"tls_unverified", "the certificate is not the required one", "das Zertifikat ist nicht das verlangte"},
	ReasonTLSHandshake:        {"tls_handshake", "the TLS handshake failed", "der TLS-Handshake schlug fehl"},
	ReasonAuthFailed:          {"auth_failed", "our login at the smarthost was refused", "unsere Anmeldung am Smarthost wurde abgelehnt"},
	ReasonNo8BitMIME:          {"no_8bitmime", "the next hop lacks 8BITMIME", "dem Ziel fehlt 8BITMIME"},
	ReasonNoSMTPUTF8:          {"no_smtputf8", "internationalized addresses are not supported (SMTPUTF8)", "internationalisierte Adressen werden nicht unterstützt (SMTPUTF8)"},
	ReasonNoRequireTLS:        {"no_requiretls", "the next hop lacks REQUIRETLS", "dem Ziel fehlt REQUIRETLS"},
	ReasonLineTooLong:         {"line_too_long", "a line of the message is longer than SMTP allows", "eine Zeile der Nachricht ist länger, als SMTP erlaubt"},
	ReasonTooLarge:            {"too_large", "the message is too large for the next hop", "die Nachricht ist zu groß für das Ziel"},
	ReasonAmbiguous:           {"ambiguous", "the connection ended after the final dot: the next hop may have taken the message", "die Verbindung endete nach dem Schlusspunkt: vielleicht hat das Ziel die Nachricht"},
	ReasonShutdown:            {"shutdown", "the relay was stopping", "das Relay wurde gerade beendet"},
	ReasonLocal:               {"local", "a fault of the relay itself", "ein Fehler des Relays selbst"},
	ReasonContentDamaged:      {"content_damaged", "the stored content does not match its checksum", "der gespeicherte Inhalt passt nicht zu seiner Prüfsumme"},
	ReasonExpired:             {"expired", "the lifetime in the queue is over", "die Lebensdauer in der Warteschlange ist abgelaufen"},
	ReasonDeletedByAdmin:      {"deleted_by_admin", "an admin deleted the message", "ein Administrator hat die Nachricht gelöscht"},
	ReasonTooManyHops:         {"too_many_hops", "too many Received fields", "zu viele Received-Felder"},
	ReasonPolicy:              {"policy", "refused by policy", "durch Richtlinie abgelehnt"},
	ReasonSyntax:              {"syntax", "a command or the framing was malformed", "ein Kommando oder die Rahmung war fehlerhaft"},
	ReasonSize:                {"size", "the message is larger than we take", "die Nachricht ist größer, als wir annehmen"},
	ReasonLimit:               {"limit", "a limit on recipients, errors, connections or rate", "eine Grenze für Empfänger, Fehler, Verbindungen oder Rate"},
	ReasonAuthRequired:        {"auth_required", "a login is required", "eine Anmeldung ist nötig"},
	ReasonBadCredentials:      {"bad_credentials", "wrong user or password", "Benutzer oder Passwort falsch"},
	ReasonRelayDenied:         {"relay_denied", "relaying is not allowed", "Weiterleitung nicht erlaubt"},
	ReasonTLSRequiredByUs:     {"tls_required_by_us", "we require TLS of the client", "wir verlangen TLS vom Client"},
	ReasonLoop:                {"loop", "a mail loop was found", "eine Mailschleife wurde erkannt"},
	ReasonContent:             {"content", "a content check of ours refused it", "eine unserer Inhaltsprüfungen lehnte ab"},
	ReasonNoRoom:              {"no_room", "no room or the store is unavailable", "kein Platz oder Speicher nicht verfügbar"},
	ReasonUserUnknown:         {"user_unknown", "no such mailbox", "das Postfach gibt es nicht"},
	ReasonMailboxFull:         {"mailbox_full", "the mailbox is full", "das Postfach ist voll"},
	ReasonMailboxDisabled:     {"mailbox_disabled", "the mailbox is disabled", "das Postfach ist gesperrt"},
	ReasonMailboxBusy:         {"mailbox_busy", "the mailbox is busy or locked for now", "das Postfach ist vorerst belegt"},
	ReasonMailboxMoved:        {"mailbox_moved", "the mailbox has moved", "das Postfach ist umgezogen"},
	ReasonRecipientRestricted: {"recipient_restricted", "the recipient takes mail from certain senders only", "der Empfänger nimmt nur von bestimmten Absendern an"},
	ReasonRecipientRejected:   {"recipient_rejected", "the recipient was refused without a closer reason", "der Empfänger wurde ohne nähere Angabe abgelehnt"},
	ReasonRecipientLimit:      {"recipient_limit", "the recipient gets too much mail at this time", "der Empfänger bekommt gerade zu viel Mail"},
	ReasonAddressSyntax:       {"address_syntax", "an address was found malformed", "eine Adresse gilt als fehlerhaft"},
	ReasonTooManyRecipients:   {"too_many_recipients", "too many recipients", "zu viele Empfänger"},
	ReasonMailNotAccepted:     {"mail_not_accepted", "the host takes no mail, or none for this domain", "der Host nimmt keine Mail an, oder keine für diese Domain"},
	ReasonSenderRejected:      {"sender_rejected", "the sender address was refused", "die Absenderadresse wurde abgelehnt"},
	ReasonSenderDomainUnknown: {"sender_domain_unknown", "the sender's domain was not found", "die Domain des Absenders wurde nicht gefunden"},
	ReasonSenderVerifyFailed:  {"sender_verify_failed", "the sender address could not be verified", "die Absenderadresse ließ sich nicht bestätigen"},
	ReasonSenderNotAllowed:    {"sender_not_allowed", "this login may not use this sender address", "diese Anmeldung darf diese Absenderadresse nicht benutzen"},
	ReasonSenderLimit:         {"sender_limit", "the sender's or account's quota is used up", "das Kontingent des Absenders ist verbraucht"},
	ReasonGreylisted:          {"greylisted", "greylisted: try again later", "Greylisting: später noch einmal"},
	ReasonBlockedByList:       {"blocked_by_list", "our address or a domain is on a block list", "unsere Adresse oder eine Domain steht auf einer Sperrliste"},
	ReasonReputation:          {"reputation", "our address or domain has a poor reputation", "unsere Adresse oder Domain hat einen schlechten Ruf"},
	ReasonDynamicAddress:      {"dynamic_address", "our address counts as dynamic or residential", "unsere Adresse gilt als dynamisch"},
	ReasonPTRMissing:          {"ptr_missing", "our address lacks a matching reverse DNS name", "unserer Adresse fehlt ein passender Reverse-DNS-Name"},
	ReasonHeloRejected:        {"helo_rejected", "our HELO name was refused", "unser HELO-Name wurde abgelehnt"},
	ReasonRateLimited:         {"rate_limited", "we send too fast", "wir senden zu schnell"},
	ReasonTooManyConnections:  {"too_many_connections", "too many connections", "zu viele Verbindungen"},
	ReasonTLSRequiredByRemote: {"tls_required_by_remote", "the next hop requires TLS", "das Ziel verlangt TLS"},
	ReasonUnauthenticated:     {"unauthenticated", "neither SPF nor DKIM vouches for the message", "weder SPF noch DKIM bürgt für die Nachricht"},
	ReasonSPFFailed:           {"spf_failed", "SPF check failed", "SPF-Prüfung fehlgeschlagen"},
	ReasonDKIMFailed:          {"dkim_failed", "DKIM check failed", "DKIM-Prüfung fehlgeschlagen"},
	ReasonDMARCFailed:         {"dmarc_failed", "DMARC check failed", "DMARC-Prüfung fehlgeschlagen"},
	ReasonSpamSuspected:       {"spam_suspected", "suspected to be spam", "unter Spamverdacht"},
	ReasonVirusFound:          {"virus_found", "a virus was found", "ein Virus wurde gefunden"},
	ReasonAttachmentBlocked:   {"attachment_blocked", "an attachment of this kind is not taken", "ein Anhang dieser Art wird nicht angenommen"},
	ReasonLinkBlocked:         {"link_blocked", "a link in the message is on a block list", "ein Link in der Nachricht steht auf einer Sperrliste"},
	ReasonPhishingSuspected:   {"phishing_suspected", "suspected to be phishing", "unter Phishingverdacht"},
	ReasonHeaderInvalid:       {"header_invalid", "the header is malformed", "der Nachrichtenkopf ist fehlerhaft"},
	ReasonContentRejected:     {"content_rejected", "the content was refused", "der Inhalt wurde abgelehnt"},
	ReasonSystemProblem:       {"system_problem", "a fault at the next hop", "ein Fehler beim Ziel"},
	ReasonDiskFullRemote:      {"disk_full_remote", "the next hop has no room", "beim Ziel fehlt Platz"},
	ReasonOverloaded:          {"overloaded", "the next hop is overloaded", "das Ziel ist überlastet"},
	ReasonRemoteShutdown:      {"remote_shutdown", "the next hop is down for maintenance or stopping", "das Ziel wird gewartet oder beendet"},
	ReasonRemoteDNS:           {"remote_dns", "the next hop could not resolve a name", "das Ziel konnte einen Namen nicht auflösen"},
	ReasonRemoteTimeout:       {"remote_timeout", "the next hop gave up waiting", "das Ziel hat das Warten aufgegeben"},
	ReasonRemoteRouting:       {"remote_routing", "the next hop cannot pass the message on", "das Ziel kann die Nachricht nicht weitergeben"},
	ReasonCommandRejected:     {"command_rejected", "the next hop does not know or refused a command", "das Ziel kennt ein Kommando nicht oder lehnte es ab"},
	ReasonTryAgainLater:       {"try_again_later", "try again later, without a closer reason", "später noch einmal, ohne nähere Angabe"},
	ReasonOther:               {"other", "none of these: see the codes", "nichts davon: siehe Codes"},
}

// String gives the reason's name in the log, "" for none or an unknown one.
func (r Reason) String() string {
	if r < reasonEnd {
		return reasonTable[r].name
	}
	return ""
}

// Meaning explains the reason in one line, in German for the language "de"
// and in English for every other.
func (r Reason) Meaning(language string) string {
	switch {
	case r >= reasonEnd:
		return ""
	case language == "de":
		return reasonTable[r].german
	}
	return reasonTable[r].english
}

// Reasons gives all reasons there are, in the order of their table.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd-1)
	for r := ReasonNone + 1; r < reasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

// ParseReason finds the reason with the given name.
func ParseReason(name string) (Reason, bool) {
	for r := ReasonNone + 1; r < reasonEnd; r++ {
		if reasonTable[r].name == name {
			return r, true
		}
	}
	return ReasonNone, false
}
