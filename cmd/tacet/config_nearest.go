package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// nearest says what could have been meant by a key that t does not have: one
// that is spelled alike, the same key of another section, or else all there are.
func (c *Config) nearest(t *table, name string) string {
	allowed := t.names()
	var alike []string
	for _, candidate := range allowed {
		longer := len(name) > 3 && (strings.HasPrefix(candidate, name) || strings.HasPrefix(name, candidate+"_"))
		if !longer && distance(name, candidate) > max(1, len(name)/3) {
			continue
		}
		switch {
		case t.tables[candidate] != nil:
			candidate = "[" + join(t.name, candidate) + "]"
		case t.arrays[candidate] != nil:
			candidate = "[[" + join(t.name, candidate) + "]]"
		}
		alike = append(alike, candidate)
	}
	if len(alike) > 0 {
		return "did you mean " + strings.Join(alike, " or ") + "?"
	}
	if sections := c.sectionsWith(name, t.name); len(sections) > 0 {
		return fmt.Sprintf("%s belongs %s", name, strings.Join(sections, " or "))
	}
	where := "at the top of the file"
	if t.name != "" {
		where = "in " + t.name
	}
	return fmt.Sprintf("allowed %s: %s", where, strings.Join(allowed, ", "))
}

// names are all that may stand in the table: keys first, then tables.
func (t *table) names() []string {
	var names []string
	for _, k := range t.keys {
		names = append(names, k.name)
	}
	return append(append(names, slices.Sorted(maps.Keys(t.tables))...), slices.Sorted(maps.Keys(t.arrays))...)
}

// sectionsWith are the other sections that have a key of that name.
func (c *Config) sectionsWith(name, except string) []string {
	has := func(keys []key) bool {
		return slices.ContainsFunc(keys, func(k key) bool { return k.name == name })
	}
	var found []string
	for _, s := range c.sections() {
		if s.name != except && has(s.keys) {
			if s.name == "" {
				found = append(found, "at the top of the file, before the first section")
			} else {
				found = append(found, "under ["+s.name+"]")
			}
		}
	}
	for _, a := range c.arrays() {
		if except != a.name && has(a.blank) {
			found = append(found, "under [["+a.name+"]]")
		}
	}
	return found
}

// distance is how many letters must change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
