package main

import (
	"fmt"
	"strings"
	"time"

	"tacet/logging"
	"tacet/relay"
)

// fieldName is what a key of the relay log is called in a privacy statement.
type fieldName struct{ de, en string }

// fieldNames names the keys of the relay log that stand in every line. Header
// fields have a sentence of their own.
func fieldNames() map[string]fieldName {
	return map[string]fieldName{
		"time":      {"Zeitpunkt", "time"},
		"next_host": {"IP-Adresse des nächsten Hosts", "IP address of the next host"},
		"user":      {"Nutzername (bei Mail-Submission)", "user name (on mail submission)"},
		"client":    {"Client-IP-Adresse (bei Mail-Submission)", "client IP address (on mail submission)"},
		"tls":       {"Informationen zur verwendeten Transportverschlüsselung (TLS)", "the transport encryption used (TLS)"},
		"sender":    {"Absender", "sender"},
		"recipient": {"Empfänger", "recipient"},
		"subject":   {"Betreff", "subject"},
		"status":    {"Weiterleitungsstatus", "forwarding status"},
	}
}

// language is one that statements are made in.
type language struct {
	and                                          string
	name                                         func(fieldName) string
	period                                       func(time.Duration) string
	logged, headers                              string
	kept, shorter, logins, destroyed             string
	live, sealed                                 string
	incidents, mails, queue                      string
	hops, smarthost, routes                      string
	others, audit, habits                        string
	digests, attachments, links, text            string
	listsAddress, listsDomain, noDigests         string
	tls                                          map[relay.TLSPolicy]string
	clients, clear, mx, carried, onRecord, title string
	rights                                       string
}

func german() language {
	return language{
		title: "Transport von E-Mails (%s)",
		and:   " und ",
		name:  func(n fieldName) string { return n.de },
		period: func(d time.Duration) string {
			if d%day == 0 {
				return pluralDays(days(d))
			}
			return fmt.Sprintf("%d Stunden", int(d.Hours()))
		},
		logged:      "Protokolliert werden: %s. Weitere Angaben werden nicht protokolliert.",
		headers:     "Bei inhaltsbezogenen Ablehnungen werden auch die Kopfzeilen der abgelehnten E-Mail protokolliert, nie ihr Text.",
		kept:        "Die Protokolle bleiben %s gespeichert.",
		shorter:     "Kürzer gespeichert werden: %s.",
		logins:      "fehlgeschlagene Anmeldungen und TLS-Verbindungen",
		destroyed:   "Danach wird der Schlüssel vernichtet, mit dem sie verschlüsselt sind, so dass auch Kopien in Backups nicht mehr lesbar sind. Das Gleiche gilt für Einträge, die auf Wunsch einer betroffenen Person gelöscht werden.",
		live:        "Die Protokolle vergangener Tage sind verschlüsselt gespeichert.",
		sealed:      "Alle Protokolle sind verschlüsselt gespeichert.",
		incidents:   "Temporär können zur anlassbezogenen Fehlersuche durch unsere Mitarbeiter deutlich detailliertere Protokolle angelegt werden. Sie sind an einen Anlass, eine verantwortliche Person, einen eng bestimmten Gegenstand und eine Frist von höchstens 72 Stunden gebunden, enthalten nie Zugangsdaten und werden nach Wegfall des Anlasses, spätestens mit Ablauf der Frist, gelöscht.",
		mails:       "E-Mails bleiben in unserem System, bis sie zum nächsten Server weitergeleitet sind, und werden dann unlesbar gemacht. Bis dahin sind sie verschlüsselt gespeichert.",
		queue:       "Was sich %s lang nicht weiterleiten lässt, wird gelöscht; der Absender wird benachrichtigt.",
		hops:        "Adressen und Inhalte werden nur übermittelt, soweit es für den Mailtransport notwendig ist: an die für die Empfänger zuständigen Mailserver, und dort nur die eigenen Empfänger; an das DNS nur die Domains.",
		smarthost:   "Die Weiterleitung erfolgt über %s; im DNS werden nur Domains abgefragt.",
		routes:      "Für einzelne Domains ist ein anderer Weg festgelegt: %s.",
		others:      "Protokolle werden nicht an Dritte übermittelt.",
		noDigests:   "Fingerprints oder Hashwerte von E-Mails werden an keine externen Dienste übermittelt.",
		digests:     "An den externen Dienst %s werden Hashwerte %s übermittelt, nie Inhalte oder Adressen (Zweck: %s).",
		attachments: "von Anhängen", links: "von Links", text: "des Textes von E-Mails",
		listsAddress: "Bei den Sperrlisten %s werden die IP-Adressen einliefernder Server abgefragt (Zweck: %s).",
		listsDomain:  "Bei den Sperrlisten %s werden die Domains von Absendern abgefragt (Zweck: %s).",
		habits:       "Damit gestohlene Zugangsdaten nicht zum Versand an Fremde dienen, wird bei Nutzern mit einer Grenze für neue Empfänger %s lang gespeichert, an wen sie geschrieben haben: verschlüsselt und als Hashwerte mit einem geheimen Schlüssel, nicht als Adressen.",
		audit:        "Die Tätigkeit unserer Administratoren wird protokolliert (wer, was, wann, aus welchem Anlass, nie das Ergebnis) und 365 Tage aufbewahrt.",
		tls: map[relay.TLSPolicy]string{
			relay.TLSOpportunistic: "Beim Weiterleiten wird TLS-Transportverschlüsselung verwendet, wenn der Kommunikationspartner dies unterstützt.",
			relay.TLSRequire:       "Weitergeleitet wird nur mit TLS-Transportverschlüsselung.",
			relay.TLSVerify:        "Weitergeleitet wird nur mit TLS-Transportverschlüsselung und geprüftem Zertifikat.",
			relay.TLSNone:          "Beim Weiterleiten wird nicht in jedem Fall TLS-Transportverschlüsselung verwendet, auch wenn der Kommunikationspartner dies unterstützt.",
		},
		clients:  "Beim Einliefern wird TLS angeboten; eine Anmeldung ist nur verschlüsselt möglich.",
		clear:    "Ein Zugang zum Einliefern bietet kein TLS an.",
		mx:       "Für eingehende E-Mails an %s dient dieser Server auch als Mailserver (MX oder Fallback-MX): Er speichert sie nur, bis der zuständige Server sie angenommen hat.",
		onRecord: "Bei ihnen wird auch die IP-Adresse des einliefernden Servers protokolliert.",
		carried:  "Die IP-Adresse des einliefernden Servers wird bis zur Weiterleitung mit der E-Mail gespeichert und dem zuständigen Server mitgeteilt.",
		rights:   "Betroffene Personen erhalten auf Wunsch Auskunft über die zu ihrer Adresse gespeicherten Protokolleinträge und E-Mails.",
	}
}

func english() language {
	return language{
		title:       "Transport of e-mail (%s)",
		and:         " and ",
		name:        func(n fieldName) string { return n.en },
		period:      configDuration,
		logged:      "We log: %s. Nothing else is logged.",
		headers:     "Where an e-mail is rejected for its content its header fields are logged too, never its text.",
		kept:        "The logs are kept for %s.",
		shorter:     "Kept for less time: %s.",
		logins:      "failed logins and TLS connections",
		destroyed:   "After that the key is destroyed under which they are encrypted, so that copies in backups cannot be read any more either. The same holds for entries that are deleted because a person concerned asks for it.",
		live:        "The logs of past days are stored encrypted.",
		sealed:      "All logs are stored encrypted.",
		incidents:   "For a time, and bound to an occasion, our staff may make much more detailed logs to find a fault. They are bound to an occasion, a person in charge, a narrow subject and a deadline of 72 hours at most, never hold credentials, and are deleted when the occasion has ended, at the latest at the deadline.",
		mails:       "E-mails stay in our system until they are forwarded to the next server, and are then made unreadable. Until then they are stored encrypted.",
		queue:       "What cannot be forwarded within %s is deleted, and its sender is told.",
		hops:        "Addresses and contents are passed on only as far as the transport of mail needs it: to the mail servers of the recipients, each of which sees its own recipients only; to DNS, the domains only.",
		smarthost:   "Mail is forwarded by way of %s; DNS is asked for domains only.",
		routes:      "For some domains another way is set: %s.",
		others:      "Logs are not passed to third parties.",
		noDigests:   "No fingerprints or hashes of e-mails are passed to external services.",
		digests:     "The external service %s is told hashes %s, never contents or addresses (purpose: %s).",
		attachments: "of attachments", links: "of links", text: "of the text of e-mails",
		listsAddress: "The block lists %s are asked about the IP addresses of delivering servers (purpose: %s).",
		listsDomain:  "The block lists %s are asked about the domains of senders (purpose: %s).",
		habits:       "So that stolen passwords do not serve to write to strangers, it is kept for %s to whom users wrote that have a limit of new recipients: encrypted, and as hashes with a secret key, not as addresses.",
		audit:        "What our administrators do is logged (who, what, when, for which occasion, never the result) and kept for 365 days.",
		tls: map[relay.TLSPolicy]string{
			relay.TLSOpportunistic: "Mail is forwarded under TLS transport encryption if the other side supports it.",
			relay.TLSRequire:       "Mail is forwarded under TLS transport encryption only.",
			relay.TLSVerify:        "Mail is forwarded under TLS transport encryption with a verified certificate only.",
			relay.TLSNone:          "Mail is not always forwarded under TLS transport encryption, even if the other side supports it.",
		},
		clients:  "TLS is offered to those who submit mail; a login is possible under TLS only.",
		clear:    "One way to submit mail offers no TLS.",
		mx:       "This server also takes incoming e-mails to %s (as MX or fallback MX): it keeps them only until the server in charge has taken them.",
		onRecord: "Of these the IP address of the delivering server is logged, too.",
		carried:  "The IP address of the delivering server is kept with the e-mail until it is forwarded, and told to the server in charge.",
		rights:   "On request, persons concerned are told which log entries and e-mails are stored about their address.",
	}
}

// statement is the part of a privacy statement that speaks of the relay, one
// paragraph each, made from the log's schema and the config.
func (c *Config) statement(l language) []string {
	paragraphs := []string{
		fmt.Sprintf(l.title, c.Hostname),
		fmt.Sprintf(l.logged, l.fields()) + " " + l.headers,
		c.keptFor(l) + " " + l.destroyed + " " + c.atRest(l),
		l.incidents,
		l.mails + " " + fmt.Sprintf(l.queue, l.period(c.Queue.Lifetime)),
		c.passedOn(l) + " " + l.others + " " + c.askedOutside(l),
		c.transport(l),
	}
	if c.hasKind(KindSubmission) && c.Submission.Memory > 0 {
		paragraphs = append(paragraphs, fmt.Sprintf(l.habits, l.period(c.Submission.Memory)))
	}
	if c.hasKind(KindMX) && len(c.Relay.Domains) > 0 {
		text := fmt.Sprintf(l.mx, l.join(c.Relay.Domains))
		if c.Primary.Introduce != relay.IntroduceNone {
			text += " " + l.carried
		}
		if c.Log.IncomingClient {
			text += " " + l.onRecord
		}
		paragraphs = append(paragraphs, text)
	}
	return append(paragraphs, l.audit, l.rights)
}

// fields names what a line of the log holds.
func (l language) fields() string {
	var names []string
	known := fieldNames()
	for _, f := range logging.Schema() {
		if name, ok := known[f.Key]; ok {
			names = append(names, l.name(name))
		}
	}
	return l.join(names)
}

func (l language) join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + l.and + names[last]
}

func (c *Config) keptFor(l language) string {
	text := fmt.Sprintf(l.kept, l.period(c.Log.Retention))
	var less []string
	if c.Log.RetentionLogins < c.Log.Retention {
		less = append(less, l.logins+" ("+l.period(c.Log.RetentionLogins)+")")
	}
	known := fieldNames()
	for _, key := range []string{"subject", "client", "user"} {
		if period := c.fieldPeriod(key); period < c.Log.Retention {
			name, _, _ := strings.Cut(l.name(known[key]), " (")
			less = append(less, name+" ("+l.period(period)+")")
		}
	}
	if len(less) > 0 {
		text += " " + fmt.Sprintf(l.shorter, l.join(less))
	}
	return text
}

func (c *Config) atRest(l language) string {
	if c.Log.Live == LiveSealed {
		return l.sealed
	}
	return l.live
}

func (c *Config) passedOn(l language) string {
	text := l.hops
	if c.Delivery.NextHop != "" {
		text = fmt.Sprintf(l.smarthost, c.Delivery.NextHop)
	}
	var ways []string
	for _, r := range c.Delivery.Routes {
		if r.NextHop != "" {
			ways = append(ways, r.Domain+" ("+r.NextHop+")")
		}
	}
	if len(ways) > 0 {
		text += " " + fmt.Sprintf(l.routes, l.join(ways))
	}
	return text
}

func (c *Config) transport(l language) string {
	text := l.tls[c.tlsOf()] + " " + l.clients
	for _, listener := range c.Listeners {
		if listener.TLS == ListenerNoTLS {
			return l.tls[c.tlsOf()] + " " + l.clear
		}
	}
	return text
}
