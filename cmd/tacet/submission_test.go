package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptMail submits a message to a listener on loopback and prints each reply from MAIL on:
//
//	mail PORT USER:PASSWORD SENDER FROM RECIPIENT...
//
// FROM is the value of the From field; "|" in it begins another line of the header, and "-" is
// no From field. It fails if the message is not accepted.
func scriptMail(ts *testscript.TestScript, neg bool, args []string) {
	user, password, _ := strings.Cut(args[1], ":")
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(scriptPatience)))
	client, err := smtp.NewClient(conn, "127.0.0.1")
	ts.Check(err)
	ts.Check(client.StartTLS(&tls.Config{InsecureSkipVerify: true})) // loopback, of this very test
	ts.Check(client.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")))
	err = mailThrough(client.Text, args[2], args[3], args[4:], func(code int, text string) {
		fmt.Fprintf(ts.Stdout(), "%d %s\n", code, strings.ReplaceAll(text, "\n", " "))
	})
	if (err == nil) == neg {
		ts.Fatalf("accepted or not: %v", err)
	}
}

var errNotAccepted = errors.New("not accepted")

// mailThrough is the transaction; said hears each reply.
func mailThrough(conn *textproto.Conn, sender, from string, to []string, said func(int, string)) error {
	say := func(line string) (int, error) {
		if err := conn.PrintfLine("%s", line); err != nil {
			return 0, err
		}
		code, text, err := conn.ReadResponse(0)
		if err == nil {
			said(code, text)
		}
		return code, err
	}
	if code, err := say("MAIL FROM:<" + sender + ">"); code != 250 {
		return errors.Join(errNotAccepted, err)
	}
	taken := 0
	for _, recipient := range to {
		code, err := say("RCPT TO:<" + recipient + ">")
		if err != nil {
			return err
		}
		if code == 250 {
			taken++
		}
	}
	if taken == 0 {
		return errNotAccepted
	}
	if code, err := say("DATA"); code != 354 {
		return errors.Join(errNotAccepted, err)
	}
	header := "From: " + strings.ReplaceAll(from, "|", "\r\n") + "\r\n"
	if from == "-" {
		header = ""
	}
	if code, err := say(header + "Subject: secret-of-the-header\r\n\r\nx\r\n."); code != 250 {
		return errors.Join(errNotAccepted, err)
	}
	return nil
}
