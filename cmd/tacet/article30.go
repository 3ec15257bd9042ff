package main

import (
	"fmt"
	"slices"
	"strings"
)

// entry is one row of the record of processing activities (Art. 30 GDPR).
type entry struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// article30 is the record of what the relay processes. What only the operator
// can say is left open, and marked.
func (c *Config) article30(l language, german bool) []entry {
	names := strings.Join([]string{c.Hostname, c.Postmaster}, ", ")
	hops := []string{}
	asked := c.outsideParties() // these have sentences of their own
	for _, p := range c.parties() {
		if !slices.Contains(asked, p) {
			hops = append(hops, p.Who)
		}
	}
	if german {
		return []entry{
			{"Bezeichnung der Verarbeitung", "Transport von E-Mails (SMTP-Relay) auf " + names},
			{"Verantwortlicher, Vertreter, Datenschutzbeauftragter", "[vom Betreiber einzutragen]"},
			{"Zwecke", "Annahme, Zwischenspeicherung und Weiterleitung von E-Mails; Protokollierung zur Störungsbehebung und Nachweisbarkeit des Transports; Protokollierung der Administratorentätigkeit"},
			{"Rechtsgrundlage", "[vom Betreiber einzutragen]"},
			{"Kategorien betroffener Personen", "Nutzer des Relays, Absender und Empfänger von E-Mails, Administratoren"},
			{"Kategorien personenbezogener Daten", "Relay-Protokoll: " + l.fields() + ", bei inhaltsbezogenen Ablehnungen die Kopfzeilen. Warteschlange: E-Mails mit ihrem Umschlag bis zur Weiterleitung. Nutzerdatei: Namen, Passwort-Hashes, erlaubte Absenderadressen, Grenzen; bei Nutzern mit Grenzen die Zahl der Nachrichten und Empfänger eines Tages. Vorfälle: SMTP-Dialoge, befristet. Audit-Protokoll: Name, Handlung, Zeit, Anlass"},
			{"Empfänger", strings.Join(hops, "; ") + ". Keine Übermittlung von Protokollen. " + c.askedOutside(l)},
			{"Übermittlung in Drittländer", "nur, soweit der Mailserver eines Empfängers dort steht; sonst keine [vom Betreiber zu prüfen]"},
			{"Löschfristen", c.keptFor(l) + " " + fmt.Sprintf(l.queue, l.period(c.Queue.Lifetime)) + " Zugestellte E-Mails werden mit dem letzten Empfänger unlesbar. Vorfälle: 4 Stunden, höchstens 72. Audit-Protokoll: 365 Tage"},
			{"Technische und organisatorische Maßnahmen", "Verschlüsselung der Warteschlange mit einem Schlüssel je Nachricht und der abgeschlossenen Protokolltage mit einem Schlüssel je Tag; Löschung durch Schlüsselvernichtung; Schlüsselordner in keinem Backup; " + c.transport(l) + " Verwaltung nur über einen lokalen Socket; verkettetes Audit-Protokoll; keine Telemetrie"},
			{"Abweichungen von den Voreinstellungen", c.departures("keine")},
		}
	}
	return []entry{
		{"Processing activity", "Transport of e-mail (SMTP relay) at " + names},
		{"Controller, representative, data protection officer", "[to be filled in by the operator]"},
		{"Purposes", "taking, keeping for a time and forwarding e-mails; logging, to mend faults and to account for the transport; logging of what administrators do"},
		{"Legal basis", "[to be filled in by the operator]"},
		{"Categories of persons", "users of the relay, senders and recipients of e-mails, administrators"},
		{"Categories of personal data", "relay log: " + l.fields() + ", and of e-mails rejected for their content the header fields. Queue: e-mails with their envelope until they are forwarded. Users file: names, password hashes, addresses to send as, limits; of users with limits how many messages and recipients they sent within a day. Incidents: SMTP dialogues, for a time. Audit log: name, action, time, occasion"},
		{"Recipients", strings.Join(hops, "; ") + ". Logs are passed to nobody. " + c.askedOutside(l)},
		{"Transfer to third countries", "only where the mail server of a recipient is there; otherwise none [to be checked by the operator]"},
		{"Time limits for erasure", c.keptFor(l) + " " + fmt.Sprintf(l.queue, l.period(c.Queue.Lifetime)) + " Delivered e-mails become unreadable with the last recipient. Incidents: 4 hours, 72 at most. Audit log: 365 days"},
		{"Technical and organisational measures", "encryption of the queue under a key per message, and of each day of the log that is over under a key per day; deletion by destruction of keys; the key folder is in no backup; " + c.transport(l) + " Administration by a local socket only; chained audit log; no telemetry"},
		{"Departures from the defaults", c.departures("none")},
	}
}

// departures lists the settings that widen.
func (c *Config) departures(none string) string {
	p := c.policy()
	if len(p.Widened) == 0 {
		return none
	}
	list := make([]string, len(p.Widened))
	for i, s := range p.Widened {
		list[i] = s.Key + " = " + s.Value
	}
	return strings.Join(list, "; ")
}
