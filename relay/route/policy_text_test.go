package route

import "testing"

func TestPlainText(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{"v=spf1 ", "-all"}, "v=spf1 -all"},
		{[]string{`a \"b\" c\\d \252`}, "a \"b\" c\\d \xfc"},
		{[]string{`end\`, ""}, `end\`},
		{[]string{`\25`}, "25"},
		{nil, ""},
	} {
		if got := plainText(c.parts); got != c.want {
			t.Errorf("%q: %q, want %q", c.parts, got, c.want)
		}
	}
}
