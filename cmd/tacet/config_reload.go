package main

import "reflect"

// keepFixed puts into next, for keys that cannot change while the relay runs, the
// values that are in effect, and returns their names where the file says
// something else now.
func (c *Config) keepFixed(next *Config) []string {
	var changed []string
	for _, fixed := range []struct {
		name     string
		old, new any // pointers to the same type
	}{
		{"hostname", &c.Hostname, &next.Hostname},
		{"data_dir", &c.DataDir, &next.DataDir},
		{"listener", &c.Listeners, &next.Listeners},
		{"auth.users_file", &c.Auth.UsersFile, &next.Auth.UsersFile},
		{"delivery.tls_reports", &c.Delivery.TLSReports, &next.Delivery.TLSReports},
		{"verify.dmarc_reports", &c.Verify.DMARCReports, &next.Verify.DMARCReports},
		{"delivery.timeouts", &c.Delivery.Timeouts, &next.Delivery.Timeouts},
		{"edge.greet_pause", &c.Edge.Pause, &next.Edge.Pause},
		{"log", &c.Log, &next.Log},
		{"keys", &c.Keys, &next.Keys},
		{"metrics", &c.Metrics, &next.Metrics},
	} {
		before, after := reflect.ValueOf(fixed.old).Elem(), reflect.ValueOf(fixed.new).Elem()
		if !reflect.DeepEqual(before.Interface(), after.Interface()) {
			changed = append(changed, fixed.name)
			after.Set(before)
		}
	}
	return changed
}
