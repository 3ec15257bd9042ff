package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// source is where each value of a config stood. Paths number the elements of
// array tables from 0: "listener.0.address".
type source struct {
	path  string
	lines map[string]int
}

// given tells whether the file has the key, in so many words.
func (s source) given(path string) bool { return s.lines[path] > 0 }

// fault is one thing wrong with a config file.
type fault struct {
	line int // 0: of the whole file
	text string
}

// faults are all that is wrong with one file.
type faults struct {
	path string
	all  []fault
}

func (f *faults) add(line int, format string, args ...any) {
	f.all = append(f.all, fault{line, fmt.Sprintf(format, args...)})
}

// also adds a fault that lies between values, unless one of them is a fault by itself.
func (f *faults) also(line int, format string, args ...any) {
	if line == 0 || !slices.ContainsFunc(f.all, func(one fault) bool { return one.line == line }) {
		f.add(line, format, args...)
	}
}

// joined is one error with a line for each fault, in the order of the file.
func (f *faults) joined() error {
	slices.SortStableFunc(f.all, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(f.all))
	for i, one := range f.all {
		if errs[i] = fmt.Errorf("%s: %s", f.path, one.text); one.line > 0 {
			errs[i] = fmt.Errorf("%s:%d: %s", f.path, one.line, one.text)
		}
	}
	return errors.Join(errs...)
}

// table is what may stand in one table of the file.
type table struct {
	name   string
	keys   []key
	tables map[string]*table
	arrays map[string]func() *table // makes room for one more element
}

// decode applies the file to c. What is no TOML at all is an error; the
// faults are keys that do not exist and values that are not allowed.
func (c *Config) decode(path string, content []byte) (faults, error) {
	f := faults{path: path}
	var tree map[string]any
	if err := toml.Unmarshal(content, &tree); err != nil {
		if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := bad.Position()
			said := strings.TrimPrefix(bad.Error(), "toml: ")
			if strings.Contains(said, "start of value") {
				said += "; text stands in quotes"
			}
			return f, fmt.Errorf("%s:%d:%d: not TOML: %s", path, line, column, said)
		}
		return f, fmt.Errorf("%s: not TOML: %w", path, err)
	}
	c.source = source{path: path, lines: lines(content)}
	c.apply(c.schema(), tree, "", &f)
	return f, nil
}

// schema arranges the rows of config_keys.go as the tables of the file.
func (c *Config) schema() *table {
	top := &table{}
	for _, s := range c.sections() {
		at := top
		for name := range strings.SplitSeq(s.name, ".") {
			if name != "" {
				at = at.sub(name)
			}
		}
		at.keys = s.keys
	}
	for _, a := range c.arrays() {
		at, last := top, a.name
		if i := strings.LastIndexByte(a.name, '.'); i >= 0 {
			at, last = top.sub(a.name[:i]), a.name[i+1:]
		}
		if at.arrays == nil {
			at.arrays = make(map[string]func() *table)
		}
		at.arrays[last] = func() *table { return &table{name: a.name, keys: a.grow()} }
	}
	return top
}

// sub is the table of that name in t, made at its first mention.
func (t *table) sub(name string) *table {
	if t.tables == nil {
		t.tables = make(map[string]*table)
	}
	if t.tables[name] == nil {
		t.tables[name] = &table{name: join(t.name, name)}
	}
	return t.tables[name]
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// apply sets what tree says, in the order of the file.
func (c *Config) apply(t *table, tree map[string]any, path string, f *faults) {
	line := func(name string) int { return c.source.lines[join(path, name)] }
	names := slices.SortedFunc(maps.Keys(tree), func(a, b string) int { return cmp.Compare(line(a), line(b)) })
	for _, name := range names {
		full, found := join(t.name, name), tree[name]
		if i := slices.IndexFunc(t.keys, func(k key) bool { return k.name == name }); i >= 0 {
			if err := t.keys[i].value.set(found); err != nil {
				f.add(line(name), "%s = %s: %v", full, shown(found), err)
			}
			continue
		}
		if sub := t.tables[name]; sub != nil {
			if inner, ok := found.(map[string]any); ok {
				c.apply(sub, inner, join(path, name), f)
			} else {
				f.add(line(name), "%s is a section of keys: write [%s] on a line of its own", full, full)
			}
			continue
		}
		if element := t.arrays[name]; element != nil {
			c.applyAll(element, found, full, join(path, name), f)
			continue
		}
		f.add(line(name), "unknown key %s; %s", full, c.nearest(t, name))
	}
}

// applyAll sets the elements of an array of tables.
func (c *Config) applyAll(element func() *table, found any, full, path string, f *faults) {
	items, ok := found.([]any)
	if !ok {
		f.add(c.source.lines[path], "there may be several of %s: write [[%s]] in double brackets", full, full)
		return
	}
	for i, item := range items {
		inner, ok := item.(map[string]any)
		if !ok {
			f.add(c.source.lines[path], "there may be several of %s: write [[%s]] in double brackets", full, full)
			return
		}
		c.apply(element(), inner, join(path, strconv.Itoa(i)), f)
	}
}

// shown is a value as it may be repeated in a fault: short, on one line.
func shown(v any) string {
	var text string
	switch v := v.(type) {
	case string:
		text = quote(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = shown(item)
		}
		text = "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		text = "{…}"
	default:
		text = fmt.Sprint(v)
	}
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:59]) + "…"
	}
	return text
}

// lines finds the line of each key and table in a document that has already been read without
// an error.
func lines(content []byte) map[string]int {
	var p unstable.Parser
	p.Reset(content)
	found := make(map[string]int)
	elements := make(map[string]int) // of array tables, so far
	prefix := ""
	note := func(path string, n *unstable.Node) {
		if found[path] == 0 {
			found[path] = p.Shape(n.Raw).Start.Line
		}
	}
	walk := func(base string, it unstable.Iterator) string {
		at := base
		for it.Next() {
			at = join(at, string(it.Node().Data))
			note(at, it.Node())
			if n := elements[at]; n > 0 && !it.IsLast() {
				at = join(at, strconv.Itoa(n-1))
			}
		}
		return at
	}
	var inside func(path string, v *unstable.Node)
	inside = func(path string, v *unstable.Node) {
		it := v.Children()
		for i := 0; it.Next(); i++ {
			switch n := it.Node(); {
			case v.Kind == unstable.InlineTable && n.Kind == unstable.KeyValue:
				inside(walk(path, n.Key()), n.Value())
			case v.Kind == unstable.Array:
				inside(join(path, strconv.Itoa(i)), n)
			}
		}
	}
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			prefix = walk("", e.Key())
			if n := elements[prefix]; n > 0 {
				prefix = join(prefix, strconv.Itoa(n-1))
			}
		case unstable.ArrayTable:
			prefix = walk("", e.Key())
			elements[prefix]++
			prefix = join(prefix, strconv.Itoa(elements[prefix]-1))
			key := e.Key()
			if key.Next() {
				note(prefix, key.Node())
			}
		case unstable.KeyValue:
			inside(walk(prefix, e.Key()), e.Value())
		}
	}
	return found
}
