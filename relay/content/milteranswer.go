package content

import (
	"strconv"
	"strings"

	"github.com/d--j/go-milter"

	"tacet/queue"
	"tacet/relay"
)

// decide makes an answer a verdict. done tells that the filter has seen enough.
func decide(act *milter.Action, failed error, class relay.Class) (v relay.Verdict, done bool, err error) {
	if failed != nil {
		return v, true, failed
	}
	if act == nil {
		return v, false, nil
	}
	switch act.Type {
	case milter.ActionContinue, milter.ActionSkip:
		return v, false, nil
	case milter.ActionAccept:
		return v, true, nil
	case milter.ActionDiscard: // mail is refused, never accepted and dropped
		v.Rejection = milterRejection(550, "", relay.ClassContent)
	case milter.ActionReject:
		v.Rejection = milterRejection(550, "", class)
	case milter.ActionTempFail:
		v.Rejection = milterRejection(451, "", relay.ClassPolicy)
	case milter.ActionRejectWithCode:
		if act.SMTPCode/100 == 4 {
			class = relay.ClassPolicy // put off, not refused for what is in it
		}
		v.Rejection = milterRejection(int(act.SMTPCode), act.SMTPReply, class)
	default:
		return v, true, errMilterAnswer
	}
	return v, true, nil
}

// milterRejection is a refusal with the filter's own words, as far as they may stand in a reply.
func milterRejection(code int, reply string, class relay.Class) *relay.Rejection {
	r := &relay.Rejection{Code: code, Class: class, Enhanced: queue.Enhanced{uint16(code / 100), 7, 1}, Text: "The message is refused by a filter"}
	if code/100 == 4 {
		r.Text = "The message cannot be taken now; try again later"
	}
	first, _, _ := strings.Cut(reply, "\n")
	words := strings.Fields(strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, first))
	if len(words) > 0 && len(words[0]) >= 3 {
		words[0] = strings.TrimLeft(words[0][3:], "-")
	}
	if len(words) > 1 {
		if e, ok := enhanced(words[1]); ok && int(e[0]) == code/100 {
			r.Enhanced, words = e, words[1:]
		}
		if text := strings.Join(words[1:], " "); text != "" {
			r.Text = text[:min(len(text), 400)]
		}
	}
	return r
}

// enhanced reads an enhanced status code (RFC 3463 §2).
func enhanced(s string) (e queue.Enhanced, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 {
			return e, false
		}
		e[i] = uint16(n)
	}
	return e, e[0] == 4 || e[0] == 5
}
