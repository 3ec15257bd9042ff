package pebblestore

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// TestTrimKeepsOwedReport gives space back between the settlement of a message
// and the commit of the report that is owed for it: a crash then finds one or
// the other.
func TestTrimKeepsOwedReport(t *testing.T) {
	mem := vfs.NewCrashableMem()
	reached, goOn := make(chan struct{}), make(chan struct{})
	o := memOptions(&opFS{FS: mem, before: func(o op) error {
		if o.kind == "remove" && strings.Contains(o.name, contentDir+"/") {
			close(reached)
			<-goOn
		}
		return nil
	}})
	s := mustOpen(t, o)
	defer close(goOn)
	<-s.Loaded()
	large, refused := benchMessage(time.Now()), benchMessage(time.Now())
	large.Recipients[0].Path = "recipient@large.example"
	if err := s.Put(t.Context(), large, nil, strings.NewReader("large")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), refused, []byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	first, err := s.Claim(t.Context(), "large.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), first, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
		t.Fatal(err)
	}
	<-reached // the committer stands here
	second, err := s.Claim(t.Context(), "sink.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	report := &incoming{env: benchMessage(time.Now()), head: []byte("report")}
	if err := s.prepare(report, s.buffers.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.settle(second, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Failed}}}, report); err != nil {
		t.Fatal(err)
	}
	s.trimRecords(make(chan struct{}))
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	if got := readable(t, crashed); !got[refused.ID] && !got[report.env.ID] {
		t.Error("a crash leaves neither the message nor the report on it")
	}
}
