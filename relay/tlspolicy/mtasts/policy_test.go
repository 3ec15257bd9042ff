package mtasts

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const example = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n"

func TestParsePolicy(t *testing.T) {
	p, err := parsePolicy(strings.ReplaceAll(example, "\n", "\r\n"))
	if err != nil || p.Mode != ModeEnforce || p.MaxAge != 7*24*time.Hour || !slices.Equal(p.MX, []string{"mail.example.com", "*.example.net", "backupmx.example.com"}) || len(p.Text) != 6 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, test := range []struct {
		text string
		want string // mode, max_age in seconds and the patterns; empty: an error
	}{
		{"version: STSv1\nmode: none\nmax_age: 86400", "none 86400"},
		{"mode:testing\nmax_age:86400\nversion:STSv1\nmx:A.Example.\n", "testing 86400 a.example"},
		{"version: STSv1\nmode: enforce\nmode: none\nmx: a.example\nmax_age: 86400\nmax_age: 1\nfuture: x\n\n", "enforce 86400 a.example"},
		{"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 9999999999\n", "enforce 31557600 a.example"},
		{"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 0\n", "enforce 300 a.example"},
		{"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1000000000000\n", ""},
		{"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1\n", ""},
		{"version: STSv1\nmode: enforce\nmax_age: 86400\n", ""},
		{"version: STSv2\nmode: none\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: hard\nmx: a.example\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\nmx: *\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\nmx: a\x00.example\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\n<html>", ""},
		{"version: STSv1\nmode: enforce\nmx: a.example\n", ""},
		{"mode: enforce\nmx: a.example\nmax_age: 86400\n", ""},
		{"version: STSv1\nmode: enforce\n" + strings.Repeat("mx: a.example\n", maxMX+1) + "max_age: 86400\n", ""},
		{"", ""},
	} {
		got := ""
		if p, err := parsePolicy(test.text); err == nil {
			got = strings.Join(append([]string{p.Mode.String(), strconv.Itoa(int(p.MaxAge / time.Second))}, p.MX...), " ")
		}
		if got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

func TestAllows(t *testing.T) {
	p, err := parsePolicy(example)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"mail.example.com": true, "backupmx.example.com": true, "other.example.com": false,
		"a.example.net": true, "a.b.example.net": false, "example.net": false, ".example.net": false, "": false,
		"mail.example.com.evil.example": false, "xmail.example.com": false,
	} {
		if p.Allows(host) != want {
			t.Errorf("%q: want %v", host, want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for _, test := range []struct {
		records string // separated by "|"
		id      string
	}{
		{"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
		{"v=STSv1;id=a", "a"},
		{"v=STSv1 ; x=y; id=a ;", "a"},
		{"unrelated|v=STSv1; id=a;", "a"},
		{"v=STSv1; id=a;|v=STSv1; id=a;", ""},
		{"v=STSv1; id=a;|v=STSv1;", ""},
		{"v=STSv10; id=a;", ""},
		{"V=STSv1; id=a;", ""},
		{"v=STSv1; id=;", ""},
		{"v=STSv1; id=a-b;", ""},
		{"v=STSv1; id=" + strings.Repeat("a", 33), ""},
		{"v=STSv1", ""},
		{"", ""},
	} {
		if id, ok := parseRecord(strings.Split(test.records, "|")); ok != (test.id != "") || ok && id != test.id {
			t.Errorf("%q: %q, %v", test.records, id, ok)
		}
	}
}

// FuzzPolicy feeds policies of any kind: what is taken is within limits, and
// the lines that are kept read as the same policy.
func FuzzPolicy(f *testing.F) {
	f.Add(example, "a.example.net")
	f.Add("version: STSv1\r\nmode: none\r\nmax_age: 1", "")
	f.Fuzz(func(t *testing.T, text, host string) {
		p, err := parsePolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < minAge || p.MaxAge > maxAge || len(p.MX) > maxMX || p.Mode > ModeEnforce {
			t.Errorf("%+v", p)
		}
		again, err := parsePolicy(strings.Join(p.Text, "\n"))
		if err != nil || again.Mode != p.Mode || again.MaxAge != p.MaxAge || !slices.Equal(again.MX, p.MX) {
			t.Errorf("%+v reads as %+v, %v", p, again, err)
		}
		if p.Allows(host) && !slices.ContainsFunc(p.MX, func(mx string) bool { return strings.HasSuffix(host, strings.TrimPrefix(mx, "*")) }) {
			t.Errorf("%q is allowed by %q", host, p.MX)
		}
	})
}

// FuzzRecord feeds TXT records of any kind.
func FuzzRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;", "v=spf1 -all")
	f.Fuzz(func(t *testing.T, one, other string) {
		if id, ok := parseRecord([]string{one, other}); ok && (!isID(id) || !strings.Contains(one+other, "id="+id)) {
			t.Errorf("id %q", id)
		}
	})
}
