// Package wire stands between a client's socket and go-smtp's server. It owns
// TLS, deadlines, line and chunk framing, limits, and every octet the client
// reads; it hands go-smtp one command line at a time, made by itself of
// constants, and the content goes past go-smtp to the session.
//
// Its one invariant: what a client sent is executed as a command only if it
// stood, complete and ended by CR LF, where the protocol expects a command; and a
// message is whole only if its end of data, or every octet of its last chunk, was read.
//
// A connection lives in two stages, so that one that is idle costs little:
//
//	c := wire.New(socket, settings)      // any net.Conn
//	if c.Converse() {                    // greeting, EHLO, STARTTLS, NOOP …
//		handOver <- c                    // AUTH or MAIL came: go-smtp serves it from here
//	} else {
//		c.Close()
//	}
//
// and within a session of go-smtp:
//
//	m := c.Mail()                        // parsed and checked: path and parameters
//	r := c.Rcpt()
//	io.Copy(spool, c.Content())          // CRLF lines, not dot-stuffed; DATA and BDAT alike
package wire
