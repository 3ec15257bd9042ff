package outbound

import (
	"sync"
	"time"

	"tacet/queue"
)

// pool keeps connections between messages, by destination. The one used last
// is taken first, so that the others may grow old and go.
type pool struct {
	mu     sync.Mutex
	idle   map[queue.Destination][]*conn
	count  int
	live   map[*conn]struct{} // every open connection, at work or not
	closed bool
}

// idleState is what the pool knows of a connection. Its mutex guards it.
type idleState struct {
	waiting bool
	since   time.Time
	timer   *time.Timer
}

func newPool() *pool {
	return &pool{idle: make(map[queue.Destination][]*conn), live: make(map[*conn]struct{})}
}

// add counts a new connection in, and returns false if the pool is closed.
func (p *pool) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.live[c] = struct{}{}
	return true
}

func (p *pool) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, c)
}

// take gives out the newest kept connection to d that fits, or nil.
func (p *pool) take(d queue.Destination, fits func(*conn) bool) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle[d]) - 1; i >= 0; i-- {
		if c := p.idle[d][i]; fits == nil || fits(c) {
			p.remove(c, i)
			return c
		}
	}
	return nil
}

// remove takes the i-th connection of its destination out. p.mu is held.
func (p *pool) remove(c *conn, i int) {
	list := p.idle[c.dest]
	copy(list[i:], list[i+1:])
	list[len(list)-1] = nil
	if len(list) == 1 {
		delete(p.idle, c.dest)
	} else {
		p.idle[c.dest] = list[:len(list)-1]
	}
	p.count--
	c.idle.waiting = false
	c.idle.timer.Stop()
}

// put keeps c for keep. It returns false if there is no room.
func (p *pool) put(c *conn, keep time.Duration, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= most {
		return false
	}
	c.idle.waiting = true
	c.idle.since = time.Now()
	if c.idle.timer == nil {
		c.idle.timer = time.AfterFunc(keep, func() { p.expire(c, keep) })
	} else {
		c.idle.timer.Reset(keep)
	}
	p.idle[c.dest] = append(p.idle[c.dest], c)
	p.count++
	return true
}

// expire ends c if it has waited long enough. A timer that fired just as c was
// taken and put back finds that it has not.
func (p *pool) expire(c *conn, keep time.Duration) {
	p.mu.Lock()
	due := c.idle.waiting && time.Since(c.idle.since) >= keep
	if due {
		for i, other := range p.idle[c.dest] {
			if other == c {
				p.remove(c, i)
				break
			}
		}
	}
	p.mu.Unlock()
	if due {
		c.close()
	}
}

// drain takes out all kept connections to d.
func (p *pool) drain(d queue.Destination) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drainLocked(d, nil)
}

// drainAll takes out all kept connections.
func (p *pool) drainAll() (out []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d := range p.idle {
		out = p.drainLocked(d, out)
	}
	return out
}

func (p *pool) drainLocked(d queue.Destination, out []*conn) []*conn {
	list := p.idle[d]
	for i := len(list) - 1; i >= 0; i-- {
		out = append(out, list[i])
		p.remove(list[i], i)
	}
	return out
}

// close lets no connection in any more, and returns those that are open.
func (p *pool) close() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	out := make([]*conn, 0, len(p.live))
	for c := range p.live {
		out = append(out, c)
	}
	return out
}
