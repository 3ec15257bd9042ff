package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"time"
)

// submit sends the first message as a mail client would: STARTTLS with the
// certificate verified, AUTH PLAIN, MAIL, RCPT, DATA.
func (p *playground) submit(ctx context.Context) (err error) {
	pool, err := p.pool()
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.starttls.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return err
	}
	host := p.starttls.Addr().String()
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return client.StartTLS(&tls.Config{RootCAs: pool, ServerName: host}) },
		func() error { return client.Auth(smtp.PlainAuth("", p.user, p.password, host)) },
		func() error { return client.Mail(trySender) },
		func() error { return client.Rcpt(tryRecipient) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	body, err := client.Data()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(body, "From: Anna <%s>\r\nTo: Bob <%s>\r\nSubject: Hello from tacet try\r\n\r\nIt works.\r\n", trySender, tryRecipient)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	return client.Quit()
}
