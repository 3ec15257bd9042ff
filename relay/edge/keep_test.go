package edge

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Who was let through is not told to wait again after a restart, and a guard with another
// delay goes on where the one before it was.
func TestGreylistOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := func(g *Guard, to string) bool { return g.grey.allow(client, "anna@far.example", to, time.Now()) }
		first := New(Config{Greylist: 5 * time.Minute})
		if _, changed := first.Memory(time.Now()); changed {
			t.Error("a guard that has seen nobody has something to keep")
		}
		allowed(first, "b@example.org")
		allowed(first, "late@example.org")
		time.Sleep(6 * time.Minute)
		if !allowed(first, "b@example.org") {
			t.Fatal("it waited for too long")
		}
		kept, changed := first.Memory(time.Now())
		if !changed || bytes.Contains(kept, []byte("anna")) || bytes.Contains(kept, []byte("example")) || bytes.Contains(kept, client.AsSlice()) {
			t.Errorf("kept, %v: %q", changed, kept)
		}
		if _, changed := first.Memory(time.Now()); changed {
			t.Error("it is kept again although nothing happened")
		}
		second := New(Config{Greylist: 5 * time.Minute})
		if err := second.Recall(kept, time.Now()); err != nil {
			t.Fatal(err)
		}
		if !allowed(second, "b@example.org") || !allowed(second, "late@example.org") || allowed(second, "new@example.org") {
			t.Error("it has forgotten, or lets all through")
		}
		third := New(Config{Greylist: time.Minute})
		third.Succeed(second)
		time.Sleep(2 * time.Minute)
		if !allowed(third, "new@example.org") || !allowed(third, "b@example.org") {
			t.Error("the new guard does not know")
		}
		time.Sleep(passesFor + time.Hour)
		if old, _ := third.Memory(time.Now()); len(old) != len(greyMagic)+32 {
			t.Errorf("%d octets are kept of what is over", len(old))
		}
	})
}

// What is kept is ours or nothing.
func TestRecallRefuses(t *testing.T) {
	g := New(Config{Greylist: time.Minute})
	g.grey.allow(client, "a", "b", time.Now())
	kept, _ := g.Memory(time.Now())
	for i := 1; i < len(kept); i++ {
		if fresh := New(Config{Greylist: time.Minute}); i != len(greyMagic)+32 && fresh.Recall(kept[:i], time.Now()) == nil {
			t.Fatalf("cut to %d octets it is taken", i)
		}
	}
	if err := New(Config{Greylist: time.Minute}).Recall(append([]byte("another"), kept...), time.Now()); err == nil {
		t.Error("another thing is taken")
	}
	if err := New(Config{}).Recall(kept, time.Now()); err != nil {
		t.Errorf("without a greylist: %v", err)
	}
	future := New(Config{Greylist: time.Minute})
	future.grey.allow(client, "a", fmt.Sprint(1), time.Now().Add(1000*time.Hour))
	kept, _ = future.Memory(time.Now())
	if err := g.Recall(kept, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, one := range g.grey.seen {
		if one.since > time.Now().Unix() {
			t.Error("one is of a time to come")
		}
	}
}
