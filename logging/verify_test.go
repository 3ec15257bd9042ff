package logging

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sealedPlace is a log with a sealed day of yesterday, of 3000 records in
// several frames, and a running one.
func sealedPlace(t *testing.T) (p place, yesterday day) {
	t.Helper()
	p = newPlace(t)
	yesterday = today() - 1
	p.set(t, yesterday.aside(1), yesterday, 0, 3000)
	if err := p.keeper(nil).reseal(t.Context(), yesterday, 0, nil); err != nil {
		t.Fatal(err)
	}
	p.set(t, today().file(), today(), 3000, 3010)
	return p, yesterday
}

func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, p place, d day)
		want   string // the problem; empty: none
		where  string // the end of the file's name
	}{
		"all is well": {func(*testing.T, place, day) {}, "", ""},
		"an octet changed": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, string(ProblemDamaged), ".sealed"},
		"the header changed": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte { b[31] ^= 1; return b })
		}, string(ProblemDamaged), ".sealed"},
		"the last frame cut off": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte { return b[:frameOffsets(t, b)[1]] })
		}, string(ProblemDamaged), ".sealed"},
		"cut within a frame": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte { return b[:len(b)-9] })
		}, string(ProblemDamaged), ".sealed"},
		"cut behind the header": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte { return b[:headerSize] })
		}, string(ProblemDamaged), ".sealed"},
		"frames in another order": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte {
				at := frameOffsets(t, b)
				return slices.Concat(b[:at[0]], b[at[1]:at[2]], b[at[0]:at[1]], b[at[2]:])
			})
		}, string(ProblemDamaged), ".sealed"},
		"a frame repeated": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, d.sealed()), func(b []byte) []byte {
				at := frameOffsets(t, b)
				return slices.Concat(b[:at[1]], b[at[0]:])
			})
		}, string(ProblemDamaged), ".sealed"},
		"another day's file": {func(t *testing.T, p place, d day) {
			if err := os.Rename(filepath.Join(p.dir, d.sealed()), filepath.Join(p.dir, (d-1).sealed())); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemDamaged), ".sealed"},
		"no key": {func(t *testing.T, p place, d day) {
			if err := os.Remove((&keyring{dir: p.keys}).path(p.keyFiles(t)[0])); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemNoKey), ".sealed"},
		"no file": {func(t *testing.T, p place, d day) {
			if err := os.Remove(filepath.Join(p.dir, d.sealed())); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemNoFile), ".key"},
		"plain": {func(t *testing.T, p place, d day) { p.set(t, (d - 1).file(), d-1, 0, 1) }, string(ProblemPlain), ".jsonl"},
		"a foreign line": {func(t *testing.T, p place, d day) {
			edit(t, filepath.Join(p.dir, today().file()), func(b []byte) []byte { return append(b, "x\n"...) })
		}, string(ProblemLine), ".jsonl"},
		"another day's records": {func(t *testing.T, p place, d day) { p.set(t, today().file(), today()-400, 0, 1) }, string(ProblemDay), ".jsonl"},
		"past its retention": {func(t *testing.T, p place, d day) {
			p.set(t, (d - 400).aside(1), d-400, 0, 1)
			if err := p.keeper(nil).reseal(t.Context(), d-400, 0, nil); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemExpired), ".sealed"},
		"open to all": {func(t *testing.T, p place, d day) {
			if err := os.Chmod(filepath.Join(p.dir, d.sealed()), 0o644); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemMode), ".sealed"},
		"keys open to a group": {func(t *testing.T, p place, d day) {
			if err := os.Chmod(p.keys, 0o750); err != nil {
				t.Fatal(err)
			}
		}, string(ProblemMode), "log"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(12 * time.Hour)
				p, d := sealedPlace(t)
				c.change(t, p, d)
				found, err := Verify(t.Context(), p.options())
				if err != nil {
					t.Fatal(err)
				}
				if c.want == "" {
					if len(found.Faults) > 0 || found.Records != 3010 || found.Days != 2 {
						t.Errorf("%+v", found)
					}
					return
				}
				if !slices.ContainsFunc(found.Faults, func(f Fault) bool {
					return string(f.Problem) == c.want && strings.HasSuffix(f.File, c.where)
				}) {
					t.Errorf("%+v", found.Faults)
				}
			})
		})
	}
}

func TestVerifyOfFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(12 * time.Hour)
		p, _ := sealedPlace(t)
		o := p.options()
		o.RetentionUser = 24 * time.Hour
		found, err := Verify(t.Context(), o)
		if err != nil || len(found.Faults) != 1 || found.Faults[0].Problem != ProblemField {
			t.Errorf("%+v %v", found, err)
		}
	})
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

// frameOffsets gives where the frames of a file begin, and its end.
func frameOffsets(t *testing.T, b []byte) (at []int64) {
	t.Helper()
	end := int64(headerSize)
	for end < int64(len(b)) {
		at = append(at, end)
		var err error
		if _, end, err = readFrame(bytes.NewReader(b), end, int64(len(b))); err != nil {
			t.Fatal(err)
		}
	}
	if at = append(at, end); len(at) < 3 {
		t.Fatalf("only %d frames", len(at)-1)
	}
	return at
}

func TestAuditEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]string) []string // of the lines
		want   Problem
	}{
		"all is well":       {func(l []string) []string { return l }, ""},
		"the last is gone":  {func(l []string) []string { return l[:4] }, ProblemTruncated},
		"two are gone":      {func(l []string) []string { return l[:3] }, ProblemTruncated},
		"all are gone":      {func(l []string) []string { return nil }, ProblemTruncated},
		"the first is gone": {func(l []string) []string { return l[1:] }, ProblemTruncated},
		"one is gone":       {func(l []string) []string { return slices.Concat(l[:2], l[3:]) }, ProblemChain},
		"one was changed": {func(l []string) []string {
			l[2] = strings.Replace(l[2], `"uid":7`, `"uid":8`, 1)
			return l
		}, ProblemChain},
		"the last was changed": {func(l []string) []string {
			l[4] = strings.Replace(l[4], `"uid":7`, `"uid":8`, 1)
			return l
		}, ProblemTruncated},
		"one is there twice": {func(l []string) []string { return slices.Insert(l, 2, l[2]) }, ProblemChain},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			a := NewAudit(p.dir).WithKey(p.keys)
			at := time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
			for range 5 {
				if err := a.Write(Action{Time: at, UID: 7, What: VerbLogRead}); err != nil {
					t.Fatal(err)
				}
			}
			edit(t, filepath.Join(p.dir, "audit-2026-05.jsonl"), func(b []byte) []byte {
				lines := slices.Collect(strings.Lines(string(b)))
				return []byte(strings.Join(c.change(lines), ""))
			})
			n, faults, err := a.Verify()
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if n != 5 || len(faults) > 0 {
					t.Errorf("%d %v", n, faults)
				}
				return
			}
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Problem == c.want }) {
				t.Errorf("%v", faults)
			}
			// Going on does not heal it.
			if err := a.Write(Action{Time: at, UID: 9, What: VerbLogRead}); err != nil {
				t.Fatal(err)
			}
			if _, faults, err := a.Verify(); err != nil || len(faults) == 0 {
				t.Errorf("it was healed: %v %v", faults, err)
			}
		})
	}
}

// TestAuditPutBack wants an older state of the whole folder to show, and its removal.
func TestAuditPutBack(t *testing.T) {
	p := newPlace(t)
	a := NewAudit(p.dir).WithKey(p.keys)
	write := func(n int) {
		for range n {
			if err := a.Write(Action{Time: time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC), UID: 7, What: VerbLogRead}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(2)
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	write(3)
	for _, back := range []bool{true, false} {
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(p.dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if back {
			if err := os.CopyFS(p.dir, os.DirFS(older)); err != nil {
				t.Fatal(err)
			}
		}
		if _, faults, err := a.Verify(); err != nil || !slices.ContainsFunc(faults, func(f Fault) bool { return f.Problem == ProblemTruncated }) {
			t.Errorf("put back %v: %v %v", back, faults, err)
		}
	}
}

// TestAuditEndsAfterACrash wants a record without its note to be no fault, and
// one after it neither.
func TestAuditEndsAfterACrash(t *testing.T) {
	p := newPlace(t)
	a := NewAudit(p.dir).WithKey(p.keys)
	write := func() {
		t.Helper()
		if err := a.Write(Action{UID: 7, What: VerbLogRead}); err != nil {
			t.Fatal(err)
		}
	}
	write()
	write()
	noted, err := os.ReadFile(filepath.Join(p.keys, headFile))
	if err != nil {
		t.Fatal(err)
	}
	write()
	for want := 3; want < 5; want++ {
		edit(t, filepath.Join(p.keys, headFile), func(b []byte) []byte {
			if want == 3 {
				return noted
			}
			return b
		})
		if n, faults, err := a.Verify(); n != want || len(faults) > 0 || err != nil {
			t.Errorf("%d %v %v", n, faults, err)
		}
		write()
	}
	// Without the keys, as after a restore, the chain is taken as it is.
	if err := os.RemoveAll(p.keys); err != nil {
		t.Fatal(err)
	}
	write()
	if n, faults, err := a.Verify(); n != 6 || len(faults) > 0 || err != nil {
		t.Errorf("%d %v %v", n, faults, err)
	}
}

// TestAuditEndsOverRetention wants the chain to verify after its oldest month is gone.
func TestAuditEndsOverRetention(t *testing.T) {
	p := newPlace(t)
	a := NewAudit(p.dir).WithKey(p.keys)
	for month := range 4 {
		at := time.Date(2026, 5+time.Month(month), 4, 0, 0, 0, 0, time.UTC)
		for range 3 {
			if err := a.Write(Action{Time: at, UID: 7, What: VerbLogRead}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := a.forget([]string{"audit-2026-05.jsonl", "audit-2026-06.jsonl"}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if n, faults, err := a.Verify(); n != 6 || len(faults) > 0 || err != nil {
		t.Errorf("%d %v %v", n, faults, err)
	}
	if err := os.Remove(filepath.Join(p.dir, "audit-2026-07.jsonl")); err != nil {
		t.Fatal(err)
	}
	if _, faults, _ := a.Verify(); len(faults) == 0 {
		t.Error("a month that was removed by hand does not show")
	}
}
