package logging

import (
	"context"
	"fmt"
	"iter"
	"slices"
)

// Message is what the log has about one message: all its records, in the order
// in which they happened. A record without a queue ID stands alone.
type Message struct {
	ID    string
	Lines []Line
}

// maxTraced is how many messages a trace holds in memory.
const maxTraced = 20_000

// ErrManyMessages is of a trace of more messages than memory should hold.
var ErrManyMessages = fmt.Errorf("relay log: more than %d messages match: narrow the search", maxTraced)

// Trace gives all records of each message that has a record which passes the
// filter, over all days whatever the filter's time, the oldest message first.
// Faulty lines are left out. More messages than a person could look at are
// [ErrManyMessages].
func Trace(ctx context.Context, o ReadOptions) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		o.Last, o.Follow = -1, false
		ids, alone, err := matching(ctx, o)
		if err != nil {
			yield(Message{}, err)
			return
		}
		messages := alone
		if len(ids) > 0 {
			of, err := byMessage(ctx, ReadOptions{Dir: o.Dir, KeyDir: o.KeyDir, Last: -1, Filter: Filter{ids: ids}})
			if err != nil {
				yield(Message{}, err)
				return
			}
			messages = append(messages, of...)
		}
		slices.SortStableFunc(messages, func(a, b Message) int { return a.Lines[0].Time.Compare(b.Lines[0].Time) })
		for _, m := range messages {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// matching tells which messages have a record that passes, and gives those
// records that are of no message.
func matching(ctx context.Context, o ReadOptions) (ids map[string]bool, alone []Message, err error) {
	ids = make(map[string]bool)
	for line, err := range Read(ctx, o) {
		switch {
		case GoesOn(err):
			continue
		case err != nil:
			return nil, nil, err
		case line.ID == "":
			alone = append(alone, Message{Lines: []Line{line}})
		default:
			ids[line.ID] = true
		}
		if len(ids)+len(alone) > maxTraced {
			return nil, nil, ErrManyMessages
		}
	}
	return ids, alone, ctx.Err()
}

func byMessage(ctx context.Context, o ReadOptions) ([]Message, error) {
	var messages []Message
	at := make(map[string]int)
	for line, err := range Read(ctx, o) {
		if GoesOn(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		i, known := at[line.ID]
		if !known {
			i = len(messages)
			at[line.ID] = i
			messages = append(messages, Message{ID: line.ID})
		}
		messages[i].Lines = append(messages[i].Lines, line)
	}
	for _, m := range messages {
		slices.SortStableFunc(m.Lines, func(a, b Line) int { return a.Time.Compare(b.Time) })
	}
	return messages, ctx.Err()
}
