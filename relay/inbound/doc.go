// Package inbound is the SMTP server: listeners, sessions, AUTH, and the one
// place where an error becomes a reply (reply.go). Below it, package wire owns every
// octet of a connection; go-smtp keeps the transaction and the SASL dialogue.
//
// Its one invariant: a client reads 250 after its content only if
// [Relay].Accept has returned a queue ID for the whole of it.
//
//	s := inbound.New(inbound.Config{
//		Hostname: "relay.example.org",
//		TLS:      &tls.Config{GetCertificate: certificates.Get},
//		Relay:    theRelay,
//		Auth:     users,
//		Limits:   inbound.Limits{MaxMessageSize: 50 << 20, MaxRecipients: 1000, Connections: 10000},
//	})
//	ln, err := inbound.Listen(ctx, "127.0.0.1:2587") // or one that systemd handed over
//	…
//	go s.Serve(ln, inbound.Listener{Kind: inbound.Submission, TLS: inbound.StartTLS})
//	…
//	err = s.Shutdown(ctx) // idle clients read 421, transactions finish until ctx ends
package inbound
