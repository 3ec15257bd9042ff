package logging

import (
	"bytes"
	"net/netip"
)

// StatusOnly makes what shows a record to those who may see how a mail went
// and not whose it was: without the fields of [ClassIdentity] and [ClassSensitive].
func StatusOnly() func(Line) (Line, error) {
	enc := newEncoder()
	return func(l Line) (Line, error) {
		r := l.Record
		r.User, r.Client, r.Sender, r.HasSender, r.Recipient = "", netip.Addr{}, "", false, ""
		removeSubject.apply(&r)
		buf, err := enc.encode(&r, r.Time)
		if err != nil {
			return Line{}, err
		}
		defer buf.Free()
		return Line{r, bytes.TrimSuffix(bytes.Clone(buf.Bytes()), newline)}, nil
	}
}
