package content

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay"
)

// Rule is one local rule. All conditions that are given must hold; at least one is.
// Its patterns are RE2: their time is linear, whatever they are matched with.
type Rule struct {
	Name       string         // letters, digits, "-" and "_": the label of its counter
	Scope      relay.Scope    //
	Field      string         // lower case; Pattern is matched with each field of that name, as it stands and decoded
	Pattern    *regexp.Regexp //
	Attachment *regexp.Regexp // matched with each file name, lower case, in every reading
	Kinds      []Kind         // of a part, by its content
	Larger     int64          // octets of the message; 0: no condition
	Action     Action
}

// Action is what a rule does.
type Action uint8

// The actions.
const (
	ActionTest   Action = iota // counts, and nothing else
	ActionHold                 // keeps the message until an operator releases it
	ActionReject               // refuses it in the session
)

// Rules applies local rules. With a rule about attachments, a message whose MIME
// structure can be read in two ways, or has no end, is refused: a rule that one client's
// reading escapes is none.
type Rules struct {
	rules  []Rule
	mime   bool // some look at parts
	header bool // some look at fields
	hits   []atomic.Int64
}

// NewRules makes the check of all rules.
func NewRules(rules []Rule) *Rules {
	r := &Rules{rules: rules, hits: make([]atomic.Int64, len(rules))}
	r.mime = slices.ContainsFunc(rules, func(one Rule) bool { return one.parts() })
	r.header = slices.ContainsFunc(rules, func(one Rule) bool { return one.Field != "" })
	return r
}

func (r *Rule) parts() bool { return r.Attachment != nil || len(r.Kinds) > 0 }

// Hits gives how often each rule has matched, by its name, those in test mode included.
func (r *Rules) Hits(yield func(name string, hits int64) bool) {
	for i := range r.rules {
		if !yield(r.rules[i].Name, r.hits[i].Load()) {
			return
		}
	}
}

// Check implements [relay.Check].
func (r *Rules) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	var parts []Part
	if r.mime {
		err := walk(ctx, m, func(p *Part) error {
			parts = append(parts, *p)
			return nil
		})
		if errors.Is(err, errAmbiguous) || errors.Is(err, errTooDeep) {
			return relay.Verdict{Rejection: rejectionStructure()}, nil
		}
		if err != nil {
			return relay.Verdict{}, err
		}
	}
	var fields readings
	if r.header {
		fields = newReadings(m.Header)
	}
	var v relay.Verdict
	for i := range r.rules {
		if err := ctx.Err(); err != nil {
			return relay.Verdict{}, err
		}
		rule := &r.rules[i]
		if !rule.covers(m) || !rule.matches(m, fields, parts) {
			continue
		}
		r.hits[i].Add(1)
		switch rule.Action {
		case ActionReject:
			return relay.Verdict{Rejection: rule.rejection()}, nil
		case ActionHold:
			v.Hold = true
		}
	}
	return v, nil
}

func (r *Rule) covers(m *relay.Message) bool {
	return r.Scope == relay.Everywhere || (r.Scope == relay.SubmissionOnly) == m.Envelope.Origin.Submission
}

func (r *Rule) matches(m *relay.Message, fields readings, parts []Part) bool {
	if r.Larger > 0 && m.Size <= r.Larger {
		return false
	}
	if r.Field != "" && !slices.ContainsFunc(fields[r.Field], r.Pattern.MatchString) {
		return false
	}
	return !r.parts() || slices.ContainsFunc(parts, r.matchesPart)
}

// readings are the values of a message's fields in every reading, by the name: made once for all rules.
type readings map[string][]string

func newReadings(header []byte) readings {
	all := make(readings)
	for f := range relay.Fields(header) {
		name, value := strings.ToLower(string(f.Name)), string(f.Unfolded())
		all[name] = append(all[name], value)
		if decoded := decodeWords(value); decoded != value {
			all[name] = append(all[name], decoded)
		}
	}
	return all
}

func (r *Rule) matchesPart(p Part) bool {
	return (r.Attachment == nil || slices.ContainsFunc(p.Names, r.Attachment.MatchString)) &&
		(len(r.Kinds) == 0 || slices.Contains(r.Kinds, p.Kind))
}

func (r *Rule) rejection() *relay.Rejection {
	switch {
	case r.parts():
		return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassContent, Ground: relay.GroundAttachment,
			Text: "The message has an attachment of a kind that is not taken here"}
	case r.Field == "":
		return &relay.Rejection{Code: 552, Enhanced: queue.Enhanced{5, 3, 4}, Class: relay.ClassSize, Text: "The message is larger than is taken here"}
	}
	return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassContent, Text: "The message is refused for its content"}
}

func rejectionStructure() *relay.Rejection {
	return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 6, 0}, Class: relay.ClassContent, Ground: relay.GroundHeader,
		Text: "The message's MIME structure can be read in more than one way, or has too many parts: send it in a plainer form"}
}

// RuleName tells whether a text may be a rule's name.
func RuleName(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
