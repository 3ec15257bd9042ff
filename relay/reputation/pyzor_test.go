package reputation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
)

// The question is the one that pyzor 1.0.0 asks of the text "abc" in thread 4711, at the
// second 1700000000.
func TestPyzorCheck(t *testing.T) {
	d := relay.NewTextDigester()
	if _, err := d.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	want := "Op: check\nOp-Digest: a9993e364706816aba3e25717850c26c9cd0d89d\nThread: 4711\nPV: 2.1\nUser: anonymous\nTime: 1700000000\n" +
		"Sig: 4a1697106e68021f6590d728cb95c7f32d67d898\n\n"
	if got := string(pyzorCheck(d.Digest(), 4711, time.Unix(1_700_000_000, 0))); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPyzorAnswer(t *testing.T) {
	const good = "Code: 200\nDiag: OK\nPV: 2.1\nThread: 4711\nCount: 7\nWL-Count: 1\n\n"
	for text, want := range map[string]error{
		good:                                                           nil,
		strings.ReplaceAll(good, "\n", "\r\n"):                         nil,
		strings.Replace(good, "4711", "4712", 1):                       errOtherThread,
		strings.Replace(good, "4711", "0", 1):                          errPyzorCode,
		strings.Replace(good, "200", "400", 1):                         errPyzorCode,
		strings.Replace(good, "7\n", "-7\n", 1):                        errPyzorAnswer,
		strings.Replace(good, "7\n", "x\n", 1):                         errPyzorAnswer,
		strings.Replace(good, "Count: 7\n", "", 1):                     errPyzorAnswer,
		strings.Replace(good, "Count: 7\n", "Count: 7\ncount: 9\n", 1): errPyzorAnswer,
		strings.Replace(good, "PV: 2.1", "PV 2.1", 1):                  errPyzorAnswer,
		"":                                    errPyzorAnswer,
		good + strings.Repeat("X: y\n", 1000): nil,
		strings.Repeat("X", 8192):             errPyzorAnswer,
	} {
		a, err := parsePyzorAnswer([]byte(text), 4711)
		if !errors.Is(err, want) || err == nil && (a != pyzorAnswer{7, 1}) {
			t.Errorf("%q: %+v, %v; want %v", text, a, err, want)
		}
	}
}

// pyzorServer answers over a pipe, which keeps datagrams apart well enough.
func pyzorServer(answers ...string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			buf := make([]byte, 1000)
			n, err := there.Read(buf)
			if err != nil {
				return
			}
			_, thread, _ := strings.Cut(string(buf[:n]), "Thread: ")
			thread, _, _ = strings.Cut(thread, "\n")
			for _, answer := range answers {
				if _, err := there.Write([]byte(strings.ReplaceAll(answer, "@", thread))); err != nil {
					return
				}
			}
			_, _ = there.Read(buf) // until the other side is done
		}()
		return here, nil
	}
}

func TestPyzorListed(t *testing.T) {
	answer := func(count, vouched int) string {
		return fmt.Sprintf("Code: 200\nDiag: OK\nPV: 2.1\nThread: @\nCount: %d\nWL-Count: %d\n\n", count, vouched)
	}
	stray := strings.Replace(answer(9, 0), "@", "1024", 1)
	for _, c := range []struct {
		answers []string
		want    bool
		counts  Counts
	}{
		{[]string{answer(5, 0)}, true, Counts{1, 1, 0}}, {[]string{answer(4, 0)}, false, Counts{1, 0, 0}}, {[]string{answer(9, 1)}, false, Counts{1, 0, 0}},
		{[]string{stray, answer(0, 0)}, false, Counts{1, 0, 0}},
		{[]string{stray, stray, stray, stray, stray, stray, stray, stray, answer(9, 0)}, false, Counts{1, 0, 1}},
		{nil, false, Counts{1, 0, 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			p := &Pyzor{Service: "Pyzor", Ledger: openTestLedger(t, &shelf{}), Threshold: 5, Dial: pyzorServer(c.answers...)}
			began := time.Now()
			got, err := p.Listed(ctx, relay.NewTextDigester().Digest())
			if got != c.want || (err != nil) != (c.counts.Failed > 0) || time.Since(began) > 5*time.Second {
				t.Errorf("%q: %v, %v after %s", c.answers, got, err, time.Since(began))
			}
			if counts := p.Ledger.Totals(Text); counts != c.counts {
				t.Errorf("%q: %+v", c.answers, counts)
			}
			if err := p.Ledger.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzPyzorAnswer(f *testing.F) {
	f.Add([]byte("Code: 200\nDiag: OK\nPV: 2.1\nThread: 4711\nCount: 7\nWL-Count: 1\n\n"))
	f.Add([]byte("Code: 400\nThread: 0\n"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		a, err := parsePyzorAnswer(packet, 4711)
		if a.reports < 0 || a.vouched < 0 || err == nil && !strings.Contains(string(packet), "200") {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
