package relay

import "tacet/queue"

// advice explains a topic in one language: what happened, and what the reader can do.
type advice struct{ what, do string }

// advices is a topic's advice in the languages of a report. US-ASCII in en.what,
// which stands in the part for machines too.
type advices struct{ en, de advice }

// explain is the advice for a reply in a report of the kind.
func explain(kind queue.Notify, reply queue.Reply) advices {
	if kind == queue.NotifySuccess {
		return topics[topicHandedOn]
	}
	return topics[topicOf(reply)]
}

var topics = [...]advices{
	topicUnknown: {
		advice{"The recipient's mail server refused the message.", "Its own words below may say why. If they do not help, ask the recipient in another way."},
		advice{"Der Mailserver des Empfängers hat die Nachricht abgelehnt.", "Seine Antwort unten nennt vielleicht den Grund. Wenn nicht, fragen Sie den Empfänger auf anderem Weg."},
	},
	topicBusy: {
		advice{"The recipient's mail server does not take the message for now.", "This is often over soon. If it lasts, ask the recipient in another way."},
		advice{"Der Mailserver des Empfängers nimmt die Nachricht zurzeit nicht an.", "Das geht oft bald vorüber. Wenn nicht, fragen Sie den Empfänger auf anderem Weg."},
	},
	topicHandedOn: {
		advice{"The message was handed on to a mail server that sends no such reports.", "You need not do anything. You will hear again only if it fails later."},
		advice{"Die Nachricht wurde einem Mailserver übergeben, der solche Berichte nicht sendet.", "Sie müssen nichts tun. Sie hören nur dann wieder davon, wenn sie später scheitert."},
	},
	topicMailboxUnknown: {
		advice{"The recipient's mail server knows no such mailbox.", "Check the address for typing errors, above all the part before the @, and send the message again."},
		advice{"Der Mailserver des Empfängers kennt dieses Postfach nicht.", "Prüfen Sie die Adresse auf Tippfehler, vor allem den Teil vor dem @, und senden Sie die Nachricht noch einmal."},
	},
	topicMailboxMoved: {
		advice{"The mailbox has moved, and its new address is not known here.", "Ask the recipient for the new address."},
		advice{"Das Postfach ist umgezogen; die neue Adresse ist hier nicht bekannt.", "Fragen Sie den Empfänger nach der neuen Adresse."},
	},
	topicMailboxOff: {
		advice{"The mailbox exists but takes no mail.", "Ask the recipient in another way, or use another address."},
		advice{"Das Postfach gibt es, es nimmt aber keine Nachrichten an.", "Fragen Sie den Empfänger auf anderem Weg oder nehmen Sie eine andere Adresse."},
	},
	topicMailboxFull: {
		advice{"The recipient's mailbox is full.", "Tell the recipient in another way, and send the message again when there is room."},
		advice{"Das Postfach des Empfängers ist voll.", "Sagen Sie es dem Empfänger auf anderem Weg und senden Sie die Nachricht noch einmal, wenn wieder Platz ist."},
	},
	topicBadAddress: {
		advice{"The address is not written as an e-mail address is.", "Check it for typing errors: blanks, commas or missing parts."},
		advice{"Die Adresse ist nicht wie eine E-Mail-Adresse geschrieben.", "Prüfen Sie sie auf Tippfehler: Leerzeichen, Kommas oder fehlende Teile."},
	},
	topicDomainUnknown: {
		advice{"The part of the address after the @ does not exist on the Internet.", "Check it for typing errors and send the message again."},
		advice{"Den Teil der Adresse nach dem @ gibt es im Internet nicht.", "Prüfen Sie ihn auf Tippfehler und senden Sie die Nachricht noch einmal."},
	},
	topicDomainNoMail: {
		advice{"The part of the address after the @ exists, but takes no e-mail at all.", "Check it for typing errors, or ask the recipient for another address."},
		advice{"Den Teil der Adresse nach dem @ gibt es, er nimmt aber gar keine E-Mail an.", "Prüfen Sie ihn auf Tippfehler oder fragen Sie den Empfänger nach einer anderen Adresse."},
	},
	topicDomainBroken: {
		advice{"The recipient's domain does not say properly where its mail is to be sent.", "Only the operator of that domain can mend this. Tell the recipient in another way."},
		advice{"Die Domain des Empfängers gibt nicht richtig an, wohin ihre Post gesendet werden soll.", "Das kann nur der Betreiber dieser Domain beheben. Sagen Sie es dem Empfänger auf anderem Weg."},
	},
	topicDNS: {
		advice{"It could not be found out where the recipient's domain takes its mail.", "This is often over soon. If it lasts, check the part of the address after the @."},
		advice{"Es war nicht festzustellen, wo die Domain des Empfängers ihre Post annimmt.", "Das geht oft bald vorüber. Wenn nicht, prüfen Sie den Teil der Adresse nach dem @."},
	},
	topicSenderRefused: {
		advice{"The recipient's mail server does not accept your own address as the sender.", "Check the sender address that your mail program uses, or ask your postmaster."},
		advice{"Der Mailserver des Empfängers nimmt Ihre eigene Adresse nicht als Absender an.", "Prüfen Sie die Absenderadresse in Ihrem Mailprogramm oder fragen Sie Ihren Postmaster."},
	},
	topicTooLarge: {
		advice{"The message is larger than the recipient's mail server takes.", "Send it with smaller attachments, or hand large files over in another way."},
		advice{"Die Nachricht ist größer, als der Mailserver des Empfängers annimmt.", "Senden Sie sie mit kleineren Anhängen oder übergeben Sie große Dateien auf anderem Weg."},
	},
	topicServerFull: {
		advice{"The recipient's mail server has no room for the message for now.", "If this lasts, tell the recipient in another way."},
		advice{"Der Mailserver des Empfängers hat zurzeit keinen Platz für die Nachricht.", "Wenn das anhält, sagen Sie es dem Empfänger auf anderem Weg."},
	},
	topicServerDown: {
		advice{"The recipient's mail server has a fault of its own or is overloaded.", "This is often over soon. If it lasts, tell the recipient in another way."},
		advice{"Der Mailserver des Empfängers ist gestört oder überlastet.", "Das geht oft bald vorüber. Wenn nicht, sagen Sie es dem Empfänger auf anderem Weg."},
	},
	topicUnreachable: {
		advice{"The recipient's mail server could not be reached.", "Check the part of the address after the @. If it is right, try again later, or tell the recipient in another way."},
		advice{"Der Mailserver des Empfängers war nicht zu erreichen.", "Prüfen Sie den Teil der Adresse nach dem @. Ist er richtig, versuchen Sie es später noch einmal oder sagen Sie es dem Empfänger auf anderem Weg."},
	},
	topicInterrupted: {
		advice{"The connection to the recipient's mail server broke before it had confirmed the message.", "It may have arrived all the same. Ask the recipient before you send it again."},
		advice{"Die Verbindung zum Mailserver des Empfängers brach ab, bevor er die Nachricht bestätigt hat.", "Sie kann trotzdem angekommen sein. Fragen Sie den Empfänger, bevor Sie sie noch einmal senden."},
	},
	topicLoop: {
		advice{"The message ran in a circle between mail servers and was stopped.", "This is a fault in a forwarding or in the recipient's domain. Tell the recipient or your postmaster."},
		advice{"Die Nachricht lief zwischen Mailservern im Kreis und wurde angehalten.", "Das ist ein Fehler in einer Weiterleitung oder in der Domain des Empfängers. Sagen Sie es dem Empfänger oder Ihrem Postmaster."},
	},
	topicProtocol: {
		advice{"The recipient's mail server did not understand this one, or the other way round.", "You cannot mend this yourself. Send this report to your postmaster."},
		advice{"Der Mailserver des Empfängers und dieser hier haben sich nicht verstanden.", "Das können Sie nicht selbst beheben. Senden Sie diesen Bericht an Ihren Postmaster."},
	},
	topicContent: {
		advice{"The recipient's mail server cannot take the message in the form it has.", "Send it again as simple text, with attachments of a common kind."},
		advice{"Der Mailserver des Empfängers kann die Nachricht in dieser Form nicht annehmen.", "Senden Sie sie noch einmal als einfachen Text, mit Anhängen gängiger Art."},
	},
	topicLine: {
		advice{"The message has a line of more than 998 characters, which mail servers may not pass on.", "Send it again with shorter lines: as formatted text (HTML), or with the long text in an attachment."},
		advice{"Die Nachricht hat eine Zeile von mehr als 998 Zeichen; so dürfen Mailserver sie nicht weitergeben.", "Senden Sie sie noch einmal mit kürzeren Zeilen: als formatierten Text (HTML) oder mit dem langen Text als Anhang."},
	},
	topicUTF8: {
		advice{"The recipient's mail server takes no addresses or header fields with letters beyond A to Z.", "Use an address of plain letters for yourself and for the recipient, if there is one."},
		advice{"Der Mailserver des Empfängers nimmt keine Adressen oder Kopfzeilen mit anderen Buchstaben als A bis Z an.", "Nehmen Sie für sich und den Empfänger Adressen aus einfachen Buchstaben, wenn es sie gibt."},
	},
	topicPolicy: {
		advice{"The recipient's mail server refused the message by its rules: as unwanted, or because you may not write there.", "Its own words below may say why. Ask the recipient in another way, or send them to your postmaster."},
		advice{"Der Mailserver des Empfängers hat die Nachricht nach seinen Regeln abgelehnt: als unerwünscht, oder weil Sie dorthin nicht schreiben dürfen.", "Seine Antwort unten nennt vielleicht den Grund. Fragen Sie den Empfänger auf anderem Weg oder senden Sie sie Ihrem Postmaster."},
	},
	topicUnproven: {
		advice{"The recipient's mail server doubts that the message really comes from your domain (SPF, DKIM, DMARC or reverse DNS).", "Send this report to your postmaster, who can mend it, and check which server your mail program sends through."},
		advice{"Der Mailserver des Empfängers bezweifelt, dass die Nachricht wirklich von Ihrer Domain kommt (SPF, DKIM, DMARC oder Reverse-DNS).", "Senden Sie diesen Bericht an Ihren Postmaster, der das beheben kann, und prüfen Sie, über welchen Server Ihr Mailprogramm sendet."},
	},
	topicEncryption: {
		advice{"The connection to the recipient's mail server could not be encrypted as it has to be.", "The message was not sent unprotected. Tell the recipient or your postmaster."},
		advice{"Die Verbindung zum Mailserver des Empfängers ließ sich nicht so verschlüsseln wie verlangt.", "Die Nachricht wurde nicht ungeschützt gesendet. Sagen Sie es dem Empfänger oder Ihrem Postmaster."},
	},
	topicRequireTLS: {
		advice{"You asked for encryption on the whole way, and the recipient's mail server does not promise that.", "Send the message without this demand, or in another way."},
		advice{"Sie haben Verschlüsselung auf dem ganzen Weg verlangt; der Mailserver des Empfängers sagt sie nicht zu.", "Senden Sie die Nachricht ohne diese Forderung oder auf anderem Weg."},
	},
	topicSmarthost: {
		advice{"This mail server was not let in by the one it sends through.", "You cannot mend this yourself. Tell your postmaster."},
		advice{"Dieser Mailserver wurde von dem, über den er sendet, nicht eingelassen.", "Das können Sie nicht selbst beheben. Sagen Sie es Ihrem Postmaster."},
	},
	topicLocal: {
		advice{"This mail server has a fault of its own.", "You cannot mend this yourself. Tell your postmaster."},
		advice{"Dieser Mailserver hat selbst eine Störung.", "Das können Sie nicht selbst beheben. Sagen Sie es Ihrem Postmaster."},
	},
	topicDeleted: {
		advice{"An administrator of this mail server deleted the message before it was delivered.", "Ask your postmaster why."},
		advice{"Ein Administrator dieses Mailservers hat die Nachricht vor der Zustellung gelöscht.", "Fragen Sie Ihren Postmaster nach dem Grund."},
	},
}
