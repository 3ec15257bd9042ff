package content

import (
	"bytes"
	"slices"
	"strings"

	"github.com/d--j/go-milter"

	"tacet/queue"
	"tacet/relay"
)

// milterChanges are what a filter wants changed, as far as they were read.
type milterChanges struct {
	v      relay.Verdict
	fields [][]byte
	m      *relay.Message
	keep   bool // blanks before values are the filter's own
}

// applyMilter makes a filter's changes a verdict. Fields that are put at the very beginning
// are added; the rest changes the message's own header. A change that makes no sense is no answer.
func applyMilter(m *relay.Message, changes []milter.ModifyAction, keep bool) (relay.Verdict, error) {
	c := milterChanges{m: m, keep: keep}
	for f := range relay.Fields(m.Header) {
		c.fields = append(c.fields, f.Raw)
	}
	for i := range changes {
		if err := c.apply(&changes[i]); err != nil {
			return relay.Verdict{}, err
		}
	}
	if c.v.Body != nil && !c.tidyBody() {
		return relay.Verdict{}, errMilterAnswer
	}
	c.v.Header = append([]byte{}, bytes.Join(c.fields, nil)...)
	return c.v, nil
}

func (c *milterChanges) apply(a *milter.ModifyAction) error {
	switch a.Type {
	case milter.ActionQuarantine:
		c.v.Hold = true
	case milter.ActionReplaceBody:
		c.v.Body = append(append([]byte{}, c.v.Body...), a.Body...)
	case milter.ActionChangeFrom:
		path, ok := milterPath(a.From)
		if !ok {
			return errMilterAnswer
		}
		c.v.Sender = new(queue.ReversePath(path))
	case milter.ActionAddRcpt, milter.ActionDelRcpt:
		return c.recipient(a)
	case milter.ActionAddHeader, milter.ActionInsertHeader, milter.ActionChangeHeader:
		return c.field(a)
	default:
		return errMilterAnswer
	}
	return nil
}

// maxMilterRecipients bounds the recipients of a message that a filter may add some to.
const maxMilterRecipients = 10_000

// recipient adds a recipient that is not there yet, or takes one out.
func (c *milterChanges) recipient(a *milter.ModifyAction) error {
	path, ok := milterPath(a.Rcpt)
	if !ok || path == "" {
		return errMilterAnswer
	}
	if c.v.Recipients == nil {
		c.v.Recipients = append([]queue.Recipient{}, c.m.Envelope.Recipients...)
	}
	same := func(r queue.Recipient) bool { return strings.EqualFold(string(r.Path), path) }
	if a.Type == milter.ActionDelRcpt {
		c.v.Recipients = slices.DeleteFunc(c.v.Recipients, same)
		return nil
	}
	if !slices.ContainsFunc(c.v.Recipients, same) {
		c.v.Recipients = append(c.v.Recipients, queue.Recipient{Path: queue.ForwardPath(path), Notify: queue.NotifyNever})
	}
	if len(c.v.Recipients) > maxMilterRecipients {
		return errMilterAnswer
	}
	return nil
}

// maxPath is how long a mailbox may be (RFC 5321 §4.5.3.1.3).
const maxPath = 254

// milterPath is a mailbox as an envelope has it, of what a filter says; empty: the null reverse-path.
func milterPath(s string) (path string, ok bool) {
	path = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if path == "" {
		return "", true
	}
	found, ok := addresses([]byte(path))
	if !ok || len(found) != 1 || found[0] != path || len(path) > maxPath || domainOf(path) == "" ||
		strings.HasPrefix(path, "@") || strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == '"' }) {
		return "", false
	}
	return path, true
}

// tidyBody gives a new body its line ends. It returns false for octets that no body has here.
func (c *milterChanges) tidyBody() bool {
	body := bytes.ReplaceAll(bytes.ReplaceAll(c.v.Body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\n")) {
		body = append(body, "\r\n"...)
	}
	c.v.Body = body
	return bytes.Count(body, []byte("\r")) == bytes.Count(body, []byte("\n")) && bytes.IndexByte(body, 0) < 0
}

// field adds, puts in, changes or removes a header field.
func (c *milterChanges) field(a *milter.ModifyAction) error {
	field, err := milterField(a, c.keep)
	if err != nil {
		return err
	}
	switch at := int(min(a.HeaderIndex, relay.MaxFields)); {
	case a.Type == milter.ActionAddHeader:
		c.fields = append(c.fields, field)
	case a.Type == milter.ActionChangeHeader:
		c.fields = changeField(c.fields, a.HeaderName, at, field)
	case at == 0:
		c.v.Added = append(field, c.v.Added...)
	default:
		at = min(at-1, len(c.fields)) // Postfix: the first place is 1
		c.fields = slices.Insert(slices.Clone(c.fields), at, field)
	}
	if len(c.fields) > relay.MaxFields {
		return errMilterAnswer
	}
	return nil
}

// changeField replaces the n-th field of a name, counted from 1, or removes it if field is empty.
func changeField(fields [][]byte, name string, n int, field []byte) [][]byte {
	for i, raw := range fields {
		for f := range relay.Fields(raw) {
			if !strings.EqualFold(string(f.Name), name) {
				continue
			}
			if n--; n <= 0 {
				if len(field) == 0 {
					return append(fields[:i:i], fields[i+1:]...)
				}
				fields[i] = field
				return fields
			}
		}
	}
	if len(field) > 0 {
		fields = append(fields, field)
	}
	return fields
}

// milterField is a field as a filter gave it, nil for one without a value. One that would be
// more than one field, or none, is no answer.
func milterField(c *milter.ModifyAction, keep bool) ([]byte, error) {
	if c.HeaderValue == "" && c.Type == milter.ActionChangeHeader {
		return nil, nil
	}
	space := " "
	if keep {
		space = ""
	}
	value := strings.ReplaceAll(strings.ReplaceAll(c.HeaderValue, "\r\n", "\n"), "\n", "\r\n")
	field := []byte(c.HeaderName + ":" + space + value + "\r\n")
	count := 0
	for f := range relay.Fields(field) {
		if count++; len(f.Name) == 0 || len(f.Raw) != len(field) {
			return nil, errMilterAnswer
		}
	}
	if count != 1 || bytes.ContainsAny(field, "\x00") || strings.Contains(strings.ReplaceAll(value, "\r\n", ""), "\r") {
		return nil, errMilterAnswer
	}
	return field, nil
}
