package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"syscall"
	"time"

	"tacet/queue"
)

// errNoDaemon says that no daemon answers on the control socket.
var errNoDaemon = errors.New("no daemon is running")

// controlClient asks the running daemon.
type controlClient struct{ http *http.Client }

// dialControl finds the daemon; errNoDaemon if there is none.
func dialControl(ctx context.Context, path string) (*controlClient, error) {
	var dialer net.Dialer
	first, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR):
		return nil, errNoDaemon
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the control socket %s is not open to this user: run the command as root or as the relay's user", path)
	case err != nil:
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	first.Close()
	return &controlClient{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
	}}}, nil
}

// do asks and returns the answer, or the error that the daemon found.
func (c *controlClient) do(ctx context.Context, method, path string) (*http.Response, error) {
	// The host is not looked up: the transport knows one socket only.
	req, err := http.NewRequestWithContext(ctx, method, "http://tacet/v1/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Error == "" {
		return nil, fmt.Errorf("asking the daemon: %s", resp.Status)
	}
	return nil, p.err()
}

// err is the daemon's error on this side of the socket.
func (p problem) err() error {
	switch p.Kind {
	case "not_found":
		return queue.ErrNotFound
	case "busy":
		return queue.ErrBusy
	}
	return errors.New(p.Error)
}

// get asks and decodes the answer into v.
func (c *controlClient) get(ctx context.Context, method, path string, v any) error {
	resp, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return nil
}

func (c *controlClient) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

func (c *controlClient) reloadUsers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	defer c.Close()
	return c.get(ctx, http.MethodPost, "reload-users", new(struct{}))
}

// List implements operator. A line of the answer is a message or an error.
func (c *controlClient) List(ctx context.Context, f listFilter) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, "queue?"+f.query().Encode())
		if err != nil {
			yield(message{}, err)
			return
		}
		defer resp.Body.Close()
		in := json.NewDecoder(resp.Body)
		for {
			var line struct {
				message
				problem
			}
			err := in.Decode(&line)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(message{}, fmt.Errorf("reading the daemon's answer: %w", err))
				return
			}
			if line.Error != "" {
				yield(message{}, errors.New(line.Error))
				return
			}
			if !yield(line.message, nil) {
				return
			}
		}
	}
}

// Show implements operator.
func (c *controlClient) Show(ctx context.Context, id queue.ID) (m message, err error) {
	return m, c.get(ctx, http.MethodGet, "queue/"+id.String(), &m)
}

// Hold implements operator.
func (c *controlClient) Hold(ctx context.Context, id queue.ID) error { return c.act(ctx, id, "/hold") }

// Release implements operator.
func (c *controlClient) Release(ctx context.Context, id queue.ID) error {
	return c.act(ctx, id, "/release")
}

// Retry implements operator.
func (c *controlClient) Retry(ctx context.Context, id queue.ID) error {
	return c.act(ctx, id, "/retry")
}

// Delete implements operator.
func (c *controlClient) Delete(ctx context.Context, id queue.ID) error {
	return c.get(ctx, http.MethodDelete, "queue/"+id.String(), new(struct{}))
}

func (c *controlClient) act(ctx context.Context, id queue.ID, action string) error {
	return c.get(ctx, http.MethodPost, "queue/"+id.String()+action, new(struct{}))
}

// RetryAll implements operator.
func (c *controlClient) RetryAll(ctx context.Context) (int, error) {
	var done struct{ Messages int }
	err := c.get(ctx, http.MethodPost, "retry", &done)
	return done.Messages, err
}
