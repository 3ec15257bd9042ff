package main

import (
	"reflect"
	"strings"
)

// fixedKey is a key, or a section, that cannot change while the relay runs.
type fixedKey struct {
	name  string
	value any // pointer to it
}

// fixedKeys are all of them.
func (c *Config) fixedKeys() []fixedKey {
	return []fixedKey{
		{"hostname", &c.Hostname},
		{"data_dir", &c.DataDir},
		{"listener", &c.Listeners},
		{"auth.users_file", &c.Auth.UsersFile},
		{"delivery.tls_reports", &c.Delivery.TLSReports},
		{"verify.dmarc_reports", &c.Verify.DMARCReports},
		{"delivery.timeouts", &c.Delivery.Timeouts},
		{"log", &c.Log},
		{"keys", &c.Keys},
		{"metrics", &c.Metrics},
	}
}

// fixedNames names them for people.
func fixedNames() string {
	var names []string
	for _, fixed := range new(Config).fixedKeys() {
		names = append(names, fixed.name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// keepFixed puts into next, for keys that cannot change while the relay runs, the
// values that are in effect, and returns their names where the file says
// something else now.
func (c *Config) keepFixed(next *Config) []string {
	var changed []string
	now := c.fixedKeys()
	for i, fixed := range next.fixedKeys() {
		before, after := reflect.ValueOf(now[i].value).Elem(), reflect.ValueOf(fixed.value).Elem()
		if !reflect.DeepEqual(before.Interface(), after.Interface()) {
			changed = append(changed, fixed.name)
			after.Set(before)
		}
	}
	return changed
}
