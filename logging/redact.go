package logging

import "net/netip"

// StatusOnly makes what shows a record to those who may see how a mail went
// and not whose it was: without the fields of [ClassIdentity] and [ClassSensitive].
func StatusOnly() func(Line) Line {
	enc := newEncoder()
	return func(l Line) Line {
		r := l.Record
		r.User, r.Client, r.Sender, r.HasSender, r.Recipient = "", netip.Addr{}, "", false, ""
		removeSubject.apply(&r)
		return enc.line(&r)
	}
}
