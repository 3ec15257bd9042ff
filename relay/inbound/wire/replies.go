package wire

import "tacet/relay"

// The replies. None repeats what the client said.
const (
	replyMail     = "250 2.1.0 Sender accepted\r\n"
	replyRcpt     = "250 2.1.5 Recipient accepted\r\n"
	replyReset    = "250 2.0.0 Reset\r\n"
	replyNoop     = "250 2.0.0 OK\r\n"
	replyChunk    = "250 2.0.0 Chunk received\r\n"
	replyVrfy     = "252 2.5.0 Send the message and see\r\n" // RFC 5321 §3.5.3
	replyHelp     = "214 2.0.0 See RFC 5321\r\n"
	replyData     = "354 End the message with <CR><LF>.<CR><LF>\r\n"
	replyStartTLS = "220 2.0.0 Ready to start TLS\r\n"
	replyAuthed   = "235 2.7.0 Authenticated\r\n"
	replyBye      = "221 2.0.0 Bye\r\n"

	replyShutdown    = "421 4.3.2 The server is going down, try again shortly\r\n"
	replyIdle        = "421 4.4.2 Idle for too long, closing\r\n"
	replyStalled     = "421 4.4.2 The message came too slowly, closing\r\n"
	replyTooMany     = "421 4.7.0 Too many errors, closing\r\n"
	replyTooJunk     = "421 4.7.0 Too many commands without a message, closing\r\n"
	replyEarly       = "554 5.5.1 Wait for the greeting, closing\r\n"
	replyForeign     = "421 4.7.0 This is SMTP, closing\r\n"
	replyPanic       = "421 4.3.0 Internal error, closing\r\n"
	replyLineEnd     = "500 5.5.2 Commands must end in CR LF and hold no other CR, LF or NUL, closing\r\n"
	replyLineLong    = "500 5.5.2 Line too long, closing\r\n"
	replyUnknown     = "500 5.5.1 Command not recognised\r\n"
	replyControl     = "501 5.5.2 Control characters are not allowed in commands\r\n"
	replyNoArgs      = "501 5.5.4 This command takes no argument\r\n"
	replyNoName      = "501 5.5.4 A host name is needed\r\n"
	replyExpn        = "502 5.5.1 Not available here\r\n"
	replyNoTLS       = "502 5.5.1 TLS is not available here\r\n"
	replyNoAuth      = "502 5.5.1 AUTH is not available here\r\n"
	replyHello       = "503 5.5.1 Say EHLO first\r\n"
	replyNested      = "503 5.5.1 A transaction is open, RSET ends it\r\n"
	replyNeedMail    = "503 5.5.1 Say MAIL first\r\n"
	replyInChunks    = "503 5.5.1 Only BDAT may follow BDAT, RSET gives up the message\r\n"
	replyTLSAlready  = "503 5.5.1 TLS is on already\r\n"
	replyTLSAhead    = "503 5.5.1 Nothing may follow STARTTLS before the handshake, closing\r\n"
	replyAuthAgain   = "503 5.5.1 Authenticated already\r\n"
	replyNoRcpt      = "554 5.5.1 No valid recipients\r\n"
	replyChunkSyntax = "501 5.5.4 BDAT needs a size and nothing but LAST after it, closing\r\n"

	replyEtrnArgs    = "501 5.5.4 ETRN needs a domain\r\n"
	replyEtrnStarted = "250 2.0.0 Delivery of what waits has begun\r\n"
	replyEtrnNothing = "251 2.0.0 Nothing waits\r\n"
	replyEtrnFailed  = "458 4.3.0 Delivery cannot be started now\r\n"
	replyEtrnDenied  = "459 4.7.1 Not for this client and domain\r\n"

	replyAuthArgs   = "501 5.5.4 AUTH needs a mechanism\r\n"
	replyAuthBase64 = "501 5.5.2 Not base64\r\n"
	replyAuthCancel = "501 5.7.0 Authentication cancelled\r\n"
	replyAuthMech   = "504 5.5.4 Mechanism not available\r\n"
	replyAuthClear  = "538 5.7.11 Start TLS before AUTH\r\n"

	replyMailSyntax = "501 5.5.4 Syntax: MAIL FROM:<address> and parameters\r\n"
	replyRcptSyntax = "501 5.5.4 Syntax: RCPT TO:<address> and parameters\r\n"
	replySenderBad  = "501 5.1.7 Not a valid sender address\r\n"
	replySenderLong = "501 5.1.7 Sender address too long\r\n"
	replyRcptBad    = "501 5.1.3 Not a valid recipient address\r\n"
	replyRcptLong   = "501 5.1.3 Recipient address too long\r\n"
	replyUTF8       = "553 5.6.7 The address needs the SMTPUTF8 parameter\r\n" // RFC 6531 §3.5
	replyParam      = "501 5.5.4 A parameter is malformed or given twice\r\n"
	replyParamNew   = "555 5.5.4 A parameter is not supported\r\n" // RFC 5321 §4.1.1.11
	replyBinary     = "504 5.5.4 BINARYMIME is not available here\r\n"
)

// Why content is refused. The client reads it after the end of the content.
var (
	errBareLineEnd = &relay.Rejection{Code: 554, Enhanced: [3]uint16{5, 6, 0}, Class: relay.ClassSyntax,
		Text: "Content has a CR or LF that is not part of a CR LF, or a NUL"}
	errTooLarge = &relay.Rejection{Code: 552, Enhanced: [3]uint16{5, 3, 4}, Class: relay.ClassSize,
		Text: "Message is larger than the limit that SIZE tells"}
)
