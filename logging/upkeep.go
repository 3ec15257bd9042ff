package logging

import (
	"context"
	"errors"
	"time"
)

// fields gives the periods that are shorter than the log's.
func (o *Options) fields() (list []fieldPeriod, err error) {
	for _, f := range []struct {
		what   removal
		period time.Duration
	}{{removeSubject, o.RetentionSubject}, {removeClient, o.RetentionClient}, {removeUser, o.RetentionUser}, {removeLogins, o.RetentionLogins}} {
		if f.period == 0 || f.period == o.Retention {
			continue
		}
		if f.period < 24*time.Hour || f.period > o.Retention || o.KeyDir == "" {
			return nil, errors.New("relay log: a field's retention must be from a day to that of the record, and needs a folder of keys")
		}
		list = append(list, fieldPeriod{f.what, int(f.period / (24 * time.Hour))})
	}
	return list, nil
}

// sealAfter is how long after midnight a day is sealed: a record that was made
// just before is in its file by then. One that comes even later opens the day again.
const sealAfter = 10 * time.Minute

// setAside hands the files of finished days to the keeper, and one that was
// left of another setting of LiveSealed.
func (l *Log) setAside(now time.Time) {
	if !l.keeper.sealing() {
		return
	}
	current := dayOf(now.Add(-sealAfter))
	n, err := l.writer.setAside(func(p part) bool {
		return p.day < current || p.name != p.day.live(l.writer.sealed)
	})
	if err != nil {
		l.ops.Log(OpSealFailed, Err(err))
	}
	if n > 0 {
		notify(l.upkeep)
	}
}

// asideRequest asks the flushing goroutine to set files aside.
type asideRequest struct {
	which func(part) bool
	done  chan error // of capacity 1
}

// maintain does the keeper's work whenever it is asked to, until the end of ctx.
func (l *Log) maintain(ctx context.Context) {
	l.keeper.seal(ctx, time.Now()) // what an earlier process left
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.upkeep:
			l.keeper.maintain(ctx, time.Now())
		}
	}
}
