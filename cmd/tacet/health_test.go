package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tacet/queue"
)

// loadingQueue is a queue that is being read.
type loadingQueue struct {
	queue.Admin
	loaded chan struct{}
}

func (loadingQueue) Stats() queue.Stats        { return queue.Stats{Messages: 3} }
func (q loadingQueue) Loaded() <-chan struct{} { return q.loaded }

// TestStatsLoading: who counts the queue is told whether the count is whole.
func TestStatsLoading(t *testing.T) {
	q := loadingQueue{loaded: make(chan struct{})}
	ask := func() string {
		w := httptest.NewRecorder()
		(&control{queue: q}).stats(w, httptest.NewRequest(http.MethodGet, "/v1/stats", nil))
		return strings.TrimSpace(w.Body.String())
	}
	if got := ask(); !strings.Contains(got, `"Messages":3`) || !strings.Contains(got, `"loading":true`) {
		t.Error(got)
	}
	close(q.loaded)
	if got := ask(); !strings.Contains(got, `"loading":false`) {
		t.Error(got)
	}
}
