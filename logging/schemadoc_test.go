package logging

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// writeTable writes the schema as a table of Markdown.
func writeTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| key | type | limit | class | promise | events | meaning |\n|---|---|---|---|---|---|---|\n")
	row := func(f Field) {
		limit := ""
		if f.Limit > 0 {
			limit = fmt.Sprint(f.Limit)
		}
		kind := string(f.Type)
		if f.Values != nil && len(f.Values()) < 20 {
			kind += ": `" + strings.Join(f.Values(), "` `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", f.Key, kind, limit, f.Class, f.Promise, f.Events.describe(), f.Meaning)
	}
	for _, f := range Schema() {
		row(f)
		if f.Key == "tls.out" {
			for _, t := range TLSFields() {
				if t.Key == "wanted" {
					t.Key = "tls.out." + t.Key
				} else {
					t.Key = "tls.*." + t.Key
				}
				row(t)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeReasons writes all reasons as a table of Markdown.
func writeReasons(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| reason | meaning | Bedeutung |\n|---|---|---|\n")
	for _, r := range Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r, r.Meaning("en"), r.Meaning("de"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// describe names the events of the set, the shorter way round.
func (s eventSet) describe() string {
	names := func(set eventSet) (list []string) {
		for e := Event(1); e < eventEnd; e++ {
			if set.has(e) {
				list = append(list, e.String())
			}
		}
		return list
	}
	switch in, out := names(s), names(allEvents&^s); {
	case len(out) == 0:
		return "all"
	case len(out) < len(in):
		return "all but " + strings.Join(out, ", ")
	default:
		return strings.Join(in, ", ")
	}
}

// object is a JSON object, its keys in the order of encoding/json.
type object map[string]any

// writeJSONSchema writes the schema as a JSON Schema (2020-12) of one line.
func writeJSONSchema(w io.Writer) error {
	properties := object{}
	tls := object{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": object{"in": tlsSchema(false), "out": tlsSchema(true)}}
	status := object{}
	var rules []object
	for _, f := range Schema() {
		group, key, sub := strings.Cut(f.Key, ".")
		switch {
		case sub && group == "status":
			status[key] = f.jsonSchema()
		case !sub && f.Type != TypeObject:
			properties[f.Key] = f.jsonSchema()
		}
		if f.Events != allEvents && !(sub && group == "tls") {
			rules = append(rules, f.rule())
		}
	}
	properties["tls"] = tls
	properties["status"] = object{"type": "object", "additionalProperties": false, "required": []string{"event"}, "properties": status}
	return writeJSON(w, object{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "A line of the relay log",
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"time", "status"},
		"properties":           properties,
		"allOf":                rules,
	})
}

// rule forbids the field in the events that do not allow it.
func (f Field) rule() object {
	var forbidden []string
	for e := Event(1); e < eventEnd; e++ {
		if !f.Allowed(e) {
			forbidden = append(forbidden, e.String())
		}
	}
	group, key, sub := strings.Cut(f.Key, ".")
	missing := object{"properties": object{f.Key: false}}
	if sub {
		missing = object{"properties": object{group: object{"properties": object{key: false}}}}
	}
	return object{
		"if":   object{"properties": object{"status": object{"properties": object{"event": object{"enum": forbidden}}}}},
		"then": missing,
	}
}

func tlsSchema(out bool) object {
	with, without := object{}, object{}
	for _, f := range TLSFields() {
		switch {
		case f.Key == "wanted":
			if out {
				with[f.Key], without[f.Key] = f.jsonSchema(), f.jsonSchema()
			}
		case f.Key == "none":
			without[f.Key] = f.jsonSchema()
		default:
			with[f.Key] = f.jsonSchema()
		}
	}
	return object{"oneOf": []object{
		{"type": "object", "additionalProperties": false, "required": []string{"version"}, "properties": with},
		{"type": "object", "additionalProperties": false, "required": []string{"none"}, "properties": without},
	}}
}

// visiblePattern leaves out the most of what no text of the log holds.
const visiblePattern = `^[^\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$`

func (f Field) jsonSchema() object {
	o := object{"description": f.Meaning}
	switch f.Type {
	case TypeTime:
		o["type"], o["format"] = "string", "date-time"
		o["pattern"] = `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`
	case TypeIP:
		o["type"], o["anyOf"] = "string", []object{{"format": "ipv4"}, {"format": "ipv6"}}
	case TypeText:
		o["type"], o["maxLength"], o["pattern"] = "string", f.Limit, visiblePattern
	case TypeToken:
		o["type"], o["pattern"] = "string", fmt.Sprintf(`^[A-Za-z0-9._-]{1,%d}$`, f.Limit)
	case TypeEnum:
		o["enum"] = f.Values()
	case TypeEnhanced:
		o["type"], o["pattern"] = "string", `^[245]\.\d{1,3}\.\d{1,3}$`
	case TypeNumber:
		o["type"], o["minimum"], o["maximum"] = "integer", 1, f.Limit
	case TypeMark:
		o["const"] = true
	case TypeHeaders:
		text := object{"type": "string", "pattern": visiblePattern}
		o["type"], o["minItems"] = "array", 1
		o["items"] = object{"type": "array", "minItems": 2, "maxItems": 2, "items": text}
	}
	return o
}

// writeLnav writes a format for the log viewer lnav, which groups the records
// of a message by its queue ID.
func writeLnav(w io.Writer) error {
	values := object{}
	for _, f := range Schema() {
		key := strings.ReplaceAll(f.Key, ".", "/")
		value := object{"kind": "string", "description": f.Meaning}
		switch f.Type {
		case TypeNumber:
			value["kind"] = "integer"
		case TypeObject, TypeHeaders:
			value["kind"] = "json"
			value["hidden"] = true
		}
		if f.Type == TypeObject && f.Key != "tls.in" && f.Key != "tls.out" {
			continue
		}
		switch f.Key {
		case "time":
			continue
		case "status.id", "sender", "recipient", "user", "client", "next_host":
			value["identifier"] = true
		}
		values[key] = value
	}
	field := func(name string) object { return object{"field": name, "default-value": ""} }
	return writeJSON(w, object{
		"$schema": "https://lnav.org/schemas/format-v1.schema.json",
		"tacet_relay": object{
			"title":           "tacet relay log",
			"description":     "One record per recipient and event",
			"json":            true,
			"hide-extra":      true,
			"file-pattern":    `relay-\d{4}-\d\d-\d\d\.jsonl`,
			"timestamp-field": "time",
			"level-field":     "status/event",
			"opid-field":      "status/id",
			"level": object{
				"error":   "^(failed|expired)$",
				"warning": "^(deferred|rejected|content_rejected|auth_failed|tls_failed)$",
				"info":    "^(accepted|delivered|held|released|deleted)$",
			},
			"line-format": []any{
				object{"field": "__timestamp__"}, " ", object{"field": "status/event", "min-width": 9}, " ",
				field("sender"), " → ", field("recipient"), "  \"", field("subject"), "\"  ", field("status/reason"), "  ",
				field("next_host"), " ", field("status/code"), " ", field("status/enhanced"), "  ", field("status/id"),
			},
			"value": values,
		},
	})
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
