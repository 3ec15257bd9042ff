package logging

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// scan gives what passes of a whole part. Its pieces are opened and searched
// beside each other, and given in their order.
func (r *reader) scan(p *openPart) error {
	ctx, cancel := context.WithCancel(r.ctx)
	width := runtime.GOMAXPROCS(0)
	type result struct {
		list []found
		err  error
	}
	results := make(chan chan result, 2*width)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	workers.Go(func() {
		defer close(results)
		room := make(chan struct{}, width)
		source := p.source()
		for {
			open, offset, err := source.next()
			if err == io.EOF {
				return
			}
			one := make(chan result, 1)
			select {
			case results <- one:
			case <-ctx.Done():
				return
			}
			if err != nil {
				one <- result{err: err}
				return
			}
			room <- struct{}{} // given back by a worker, who waits for nobody
			workers.Go(func() {
				defer func() { <-room }()
				piece, err := open()
				if err != nil {
					one <- result{err: err}
					return
				}
				one <- result{list: r.sift(p, piece, offset)}
			})
		}
	})
	for one := range results {
		got := <-one
		if got.err != nil {
			return fmt.Errorf("%s: %w", p.name, got.err)
		}
		for _, f := range got.list {
			if !r.yield(f.line, f.err) {
				return errStopped
			}
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
	}
	return r.ctx.Err()
}
