package content

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"

	"github.com/d--j/go-milter"

	"tacet/queue"
)

// milterMacros are what a filter may ask of a session. An empty one is not there.
type milterMacros map[milter.MacroName]string

// Get implements milter.Macros.
func (m milterMacros) Get(name milter.MacroName) string { return m[name] }

// GetEx implements milter.Macros.
func (m milterMacros) GetEx(name milter.MacroName) (value string, ok bool) {
	return m[name], m[name] != ""
}

// postfixMacros are what filters get at which stage, unless they ask for others.
func postfixMacros() []milter.Option {
	id := milter.MacroQueueId
	return []milter.Option{
		milter.WithMacroRequest(milter.StageConnect, []milter.MacroName{milter.MacroMTAFQDN, milter.MacroDaemonName, milter.MacroDaemonAddr, milter.MacroMTAVersion, milter.MacroRFC1413AuthInfo}),
		milter.WithMacroRequest(milter.StageHelo, []milter.MacroName{milter.MacroTlsVersion, milter.MacroCipher, milter.MacroCipherBits}),
		milter.WithMacroRequest(milter.StageMail, []milter.MacroName{id, milter.MacroAuthType, milter.MacroAuthAuthen, milter.MacroMailAddr, milter.MacroMailHost, milter.MacroMailMailer}),
		milter.WithMacroRequest(milter.StageRcpt, []milter.MacroName{id, milter.MacroRcptAddr, milter.MacroRcptHost, milter.MacroRcptMailer}),
		milter.WithMacroRequest(milter.StageData, []milter.MacroName{id}),
		milter.WithMacroRequest(milter.StageEOH, []milter.MacroName{id}),
		milter.WithMacroRequest(milter.StageEOM, []milter.MacroName{id}),
	}
}

// firstMacros are those that hold for the session, under the names that Postfix gives them.
func (t *milterTalk) firstMacros(e *queue.Envelope) {
	host := t.filter.Hostname
	t.set(milter.MacroMTAFQDN, host, milter.MacroMTAVersion, "tacet", milter.MacroDaemonName, host, milter.MacroClientName, "unknown", milter.MacroClientPTR, "unknown")
	address := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if t.about.Client.IsValid() {
		address = t.about.Client
	}
	t.set(milter.MacroClientAddr, address.String(), milter.MacroRFC1413AuthInfo, "unknown ["+address.String()+"]")
	if at := t.about.Server; at.IsValid() {
		t.set(milter.MacroDaemonAddr, at.Addr().Unmap().String(), milter.MacroDaemonPort, strconv.Itoa(int(at.Port())))
	}
	if c := e.Origin.TLS; c.Version != 0 {
		bits := "256"
		if name := tls.CipherSuiteName(c.Cipher); strings.Contains(name, "_128_") {
			bits = "128"
		}
		t.set(milter.MacroTlsVersion, strings.Replace(tls.VersionName(c.Version), "TLS ", "TLSv", 1), milter.MacroCipher, tls.CipherSuiteName(c.Cipher), milter.MacroCipherBits, bits)
	}
}

// set sets macros by pairs of name and value.
func (t *milterTalk) set(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		t.bag[pairs[i]] = pairs[i+1]
	}
}

// mailArguments are the parameters of MAIL that a filter may know.
func mailArguments(e *queue.Envelope) string {
	var args []string
	if e.Body == queue.Body8BitMIME {
		args = append(args, "BODY=8BITMIME")
	}
	if e.UTF8 {
		args = append(args, "SMTPUTF8")
	}
	switch e.Return {
	case queue.ReturnFull:
		args = append(args, "RET=FULL")
	case queue.ReturnHeaders:
		args = append(args, "RET=HDRS")
	}
	return strings.Join(args, "\x00") // each is a string of its own
}

// recipientArguments are the parameters of RCPT that a filter may know.
func recipientArguments(to *queue.Recipient) string {
	var kinds []string
	for i, kind := range []string{"NEVER", "SUCCESS", "FAILURE", "DELAY"} {
		if to.Notify&(queue.NotifyNever<<i) != 0 {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return "NOTIFY=" + strings.Join(kinds, ",")
}
