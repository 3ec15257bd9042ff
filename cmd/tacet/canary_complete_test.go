package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ending is a recipient by the queue ID of its message.
type ending struct{ id, recipient string }

// Whatever is killed when: the pairs of message and recipient that were accepted
// are those that have a terminal record, and a second one is marked.
func TestCompletenessUnderKills(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	s := newCanaryBinary(t)
	w := s.w
	yes := &canaryHop{name: "yes", say: map[string]string{"": "220 yes.example", "EHLO": "yes.example", "DATA": "354 go on"}, offer: []string{"PIPELINING"}}
	no := &canaryHop{name: "no", say: map[string]string{"": "220 no.example", "EHLO": "no.example", "RCPT": "550 5.1.1 no", "DATA": "503 no"}, offer: []string{"PIPELINING"}}
	yes.start(t, "127.0.0.1:0")
	no.start(t, "127.0.0.1:0")
	route := func(domain string, h *canaryHop) string {
		_, port, _ := net.SplitHostPort(h.address)
		return fmt.Sprintf("[[delivery.route]]\ndomain = %q\nnext_hop = \"[127.0.0.1]:%s\"\n", domain, port)
	}
	w.file("tacet.toml", fmt.Sprintf("hostname = \"relay.example.org\"\ndata_dir = %q\n[[listener]]\naddress = %q\ntls = \"none\"\n[relay]\ntrusted_networks = [\"127.0.0.0/8\"]\n[log]\ndir = %q\n[auth]\nusers_file = %q\n[limits]\nconnections_per_client = 0\n",
		w.path("data"), w.ports["mx"], w.path("log"), w.path("users"))+route("yes.example", yes)+route("no.example", no))

	acknowledged := map[string]bool{}
	for life := range 4 {
		s.start(t)
		var mu sync.Mutex
		var clients sync.WaitGroup
		enough, taken := make(chan struct{}), 0
		for session := range 10 {
			clients.Go(func() {
				for n := 0; ; n++ {
					name := fmt.Sprintf("m%d.%d.%d", life, session, n)
					if !submitTwice(w.ports["mx"], name) {
						return
					}
					mu.Lock()
					acknowledged[name] = true
					if taken++; taken == 300 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(canaryPatience):
			t.Fatalf("too slow:\n%s", s.stderr.all())
		}
		s.end(t, syscall.SIGKILL)
		clients.Wait()
	}
	s.start(t)
	if code, out := s.run("queue", "retry", "--all"); code != 0 {
		t.Fatalf("retry: %d %s", code, out)
	}
	w.drained(t)
	if end := s.end(t, syscall.SIGTERM); !end.Success() {
		t.Errorf("%v", end)
	}

	accepted, terminal, marked := map[ending]int{}, map[ending]int{}, map[ending]int{}
	byRecipient := map[string]int{}
	for line := range strings.Lines(string(w.logged())) {
		var r struct {
			Recipient string
			Status    struct {
				Event, ID string
				Repeated  bool
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch of := (ending{r.Status.ID, r.Recipient}); r.Status.Event {
		case "accepted":
			accepted[of]++
		case "delivered", "failed", "expired", "deleted":
			terminal[of]++
			if r.Status.Repeated {
				marked[of]++
			}
			byRecipient[r.Recipient]++
		}
	}
	for name := range acknowledged {
		for _, domain := range []string{"yes", "no"} {
			if to := name + "@" + domain + ".example"; byRecipient[to] == 0 {
				t.Errorf("%s was acknowledged and has no terminal record", to)
			}
		}
	}
	repeated := 0
	for of, times := range accepted {
		if times != 1 || terminal[of] == 0 {
			t.Errorf("%v: %d times accepted, %d terminal records", of, times, terminal[of])
		}
	}
	for of, times := range terminal {
		if accepted[of] == 0 {
			t.Errorf("%v: no record of its acceptance", of)
		}
		if marked[of] != times-1 {
			t.Errorf("%v: %d terminal records, %d of them marked as repeated", of, times, marked[of])
		}
		repeated += times - 1
	}
	t.Logf("%d acknowledged, %d accepted on record, %d terminal, %d of them repeated", len(acknowledged), len(accepted), len(terminal), repeated)
	if repeated > 4*2*20 {
		t.Errorf("%d repeated", repeated)
	}
}

// submitTwice submits a message to one recipient that exists and one that
// does not, and tells whether it was acknowledged.
func submitTwice(address, name string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(canaryPatience))
	in := bufio.NewReader(conn)
	for _, line := range []string{"", "HELO client.example", "MAIL FROM:<>", "RCPT TO:<" + name + "@yes.example>", "RCPT TO:<" + name + "@no.example>", "DATA", "Subject: x\r\n\r\nx\r\n."} {
		if line != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
				return false
			}
		}
		reply, err := in.ReadString('\n')
		if err != nil || reply[0] > '3' {
			return false
		}
	}
	return true
}

// drained waits until the queue is empty.
func (w *canaryWorld) drained(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var stats struct{ Messages int }
		if err := json.Unmarshal(w.ask(t, "/v1/stats"), &stats); err != nil {
			t.Fatal(err)
		}
		if stats.Messages == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are left", stats.Messages)
		}
		<-tick.C
	}
}
