package outbound

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// peer is what a server offers, as its answer to EHLO says.
type peer struct {
	pipelining   bool
	chunking     bool
	binaryMIME   bool
	eightBitMIME bool
	smtputf8     bool
	dsn          bool
	startTLS     bool
	requireTLS   bool
	xclient      attributes
	xforward     attributes
	size         bool
	maxSize      int64 // with size: 0 is no limit that is said (RFC 1870 §4)
	authPlain    bool
	authLogin    bool
	maxRcpts     int // LIMITS RCPTMAX (RFC 9422); 0: not said
	maxMails     int // LIMITS MAILMAX; 0: not said
}

// keyword notes one line of the answer to EHLO. Keywords come in any case
// (RFC 5321 §2.4), and "AUTH=" is how old servers wrote it.
func (p *peer) keyword(line []byte) {
	words := bytes.Fields(line)
	if len(words) == 0 {
		return
	}
	params := words[1:]
	switch strings.ToUpper(string(words[0])) {
	case "PIPELINING":
		p.pipelining = true
	case "CHUNKING":
		p.chunking = true
	case "BINARYMIME":
		p.binaryMIME = true
	case "8BITMIME":
		p.eightBitMIME = true
	case "SMTPUTF8":
		p.smtputf8 = true
	case "DSN":
		p.dsn = true
	case "STARTTLS":
		p.startTLS = true
	case "REQUIRETLS":
		p.requireTLS = true
	case "XCLIENT":
		p.xclient = parseAttributes(params)
	case "XFORWARD":
		p.xforward = parseAttributes(params)
	case "SIZE":
		p.size = true
		if len(params) > 0 {
			p.maxSize = parseSize(params[0])
		}
	case "AUTH":
		p.mechanisms(params)
	case "LIMITS":
		p.limits(params)
	}
}

func (p *peer) mechanisms(names [][]byte) {
	for _, name := range names {
		switch strings.ToUpper(string(name)) {
		case "PLAIN":
			p.authPlain = true
		case "LOGIN":
			p.authLogin = true
		}
	}
}

func (p *peer) limits(params [][]byte) {
	for _, param := range params {
		name, value, _ := strings.Cut(string(param), "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || len(value) > 6 { // RFC 9422 §3.1: one to six digits, not zero
			continue
		}
		switch strings.ToUpper(name) {
		case "RCPTMAX":
			p.maxRcpts = n
		case "MAILMAX":
			p.maxMails = n
		}
	}
}

// parseSize reads the parameter of SIZE. What is no number says nothing, and
// one beyond all measure is as good as no limit.
func parseSize(b []byte) int64 {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}
