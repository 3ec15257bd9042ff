package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacet/logging"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The configs that the golden files are made of: the strictest one, and one
// that departs from it wherever it can.
var policyConfigs = map[string]string{
	"strict": "hostname = \"relay.example.org\"\n",
	"wide": `hostname = "relay.example.org"
[[listener]]
address = "0.0.0.0:25"
kind = "mx"
[[listener]]
address = "10.0.0.1:2525"
tls = "none"
[relay]
trusted_networks = ["10.0.0.0/8"]
domains = ["example.org", "example.com"]
[submission]
new_recipients_per_day = 50
recipient_memory = "30d"
[delivery]
next_hop = "smarthost.example:587"
deny_special_addresses = false
[[delivery.route]]
domain = "example.net"
next_hop = "[192.0.2.1]:25"
tls = "none"
[dns]
resolvers = ["192.0.2.53"]
[queue]
lifetime = "10d"
[log]
retention = "90d"
retention_subject = "7d"
retention_client = "14d"
retention_user = "30d"
retention_logins = "5d"
live = "sealed"
[metrics]
address = "127.0.0.1:9587"
[clamd]
address = "tcp:192.0.2.7:3310"
[verify]
scope = "incoming"
[[milter]]
address = "tcp:192.0.2.7:11332"
[edge]
address_lists = ["abcdefghij0123456789abcdef.zen.example"]
domain_lists = ["dbl.example"]
lists_purpose = "to keep known senders of spam out"
[[hash_list]]
name = "Example HBL"
purpose = "to refuse known malware and phishing"
attachments = "_file.key.hbl.example"
links = "_url.key.hbl.example"
[pyzor]
address = "pyzor.example:24441"
purpose = "to recognize bulk mail"
scope = "incoming"
[[dkim]]
domain = "example.org"
selector = "s1"
[[rule]]
name = "large"
larger = "10MB"
`,
}

func parsePolicy(t *testing.T, text string) *Config {
	t.Helper()
	config, err := ParseConfig("/etc/tacet/tacet.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func reportOf(c *Config) string {
	var b bytes.Buffer
	p := c.policy()
	p.print(&lineWriter{w: &b})
	return b.String()
}

func TestPrivacyTextsGolden(t *testing.T) {
	for name, text := range policyConfigs {
		config := parsePolicy(t, text)
		texts := map[string]string{name + ".report": reportOf(config)}
		for lang, l := range map[string]language{"de": german(), "en": english()} {
			texts[name+".statement."+lang] = strings.Join(config.statement(l), "\n\n") + "\n"
			var record strings.Builder
			for _, e := range config.article30(l, lang == "de") {
				record.WriteString(e.Title + "\n  " + e.Text + "\n")
			}
			texts[name+".record."+lang] = record.String()
		}
		for file, got := range texts {
			path := filepath.Join("testdata", "privacy", file)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is now\n%s", path, got)
			}
			if i := strings.Index(got, "%!"); i >= 0 {
				t.Errorf("%s: a verb without its value: %s", file, got[i:])
			}
		}
	}
}

// The empty config is the strictest: nothing in it is wider than it could be.
func TestStrictestIsTheDefault(t *testing.T) {
	p := parsePolicy(t, "").policy()
	if len(p.Widened) != 0 || len(p.Narrowed) != 0 {
		t.Errorf("%+v", p)
	}
}

// Every key of the config is judged, and each that widens or narrows changes the report.
func TestEveryKeyIsJudged(t *testing.T) {
	known := effects()
	config := parsePolicy(t, policyConfigs["wide"])
	seen := make(map[string]bool)
	config.eachTable(func(header string, keys []key) {
		for _, k := range keys {
			name := strings.TrimPrefix(strings.Trim(header, "[]")+"."+k.name, ".")
			seen[name] = true
			if _, ok := known[name]; !ok {
				t.Errorf("%s is not judged: say in effects whether it widens, narrows or does nothing", name)
			}
		}
	})
	for name := range known {
		if !seen[name] {
			t.Errorf("%s is judged, and is no key of the config", name)
		}
	}
	for name, one := range map[string]struct{ text, list string }{
		"listener.address":                {"[[listener]]\naddress = \":587\"", "Wider"},
		"listener.tls":                    {"[[listener]]\ntls = \"none\"\n[relay]\ntrusted_networks = [\"127.0.0.0/8\"]", "Wider"},
		"relay.trusted_networks":          {"[relay]\ntrusted_networks = [\"10.0.0.0/8\"]", "Wider"},
		"submission.recipient_memory":     {"[submission]\nrecipient_memory = \"30d\"", "Wider"},
		"delivery.next_hop":               {"[delivery]\nnext_hop = \"smart.example:587\"", "Wider"},
		"delivery.route.next_hop":         {"[[delivery.route]]\ndomain = \"example.net\"\nnext_hop = \"smart.example:587\"", "Wider"},
		"delivery.tls":                    {"[delivery]\ntls = \"none\"", "Wider"},
		"delivery.route.tls":              {"[[delivery.route]]\ndomain = \"example.net\"\ntls = \"none\"", "Wider"},
		"primary.tls":                     {"[primary]\ntls = \"none\"", "Wider"},
		"primary.introduce":               {"[primary]\nintroduce = \"xclient\"", "Wider"},
		"log.incoming_client":             {"[log]\nincoming_client = true", "Wider"},
		"edge.address_lists":              {"[edge]\nlists_purpose = \"x\"\naddress_lists = [\"zen.example\"]", "Wider"},
		"edge.domain_lists":               {"[edge]\nlists_purpose = \"x\"\ndomain_lists = [\"dbl.example\"]", "Wider"},
		"hash_list.attachments":           {"[[hash_list]]\nname = \"x\"\npurpose = \"x\"\nattachments = \"_file.hbl.example\"", "Wider"},
		"hash_list.links":                 {"[[hash_list]]\nname = \"x\"\npurpose = \"x\"\nlinks = \"_url.hbl.example\"", "Wider"},
		"pyzor.address":                   {"[pyzor]\naddress = \"pyzor.example:24441\"\npurpose = \"x\"", "Wider"},
		"recipients.probe":                {"[recipients]\nprobe = true", "Wider"},
		"primary.lifetime":                {"[primary]\nlifetime = \"30d\"", "Wider"},
		"delivery.deny_special_addresses": {"[delivery]\ndeny_special_addresses = false", "Wider"},
		"clamd.address":                   {"[clamd]\naddress = \"tcp:192.0.2.7:3310\"", "Wider"},
		"delivery.tls_reports":            {"[delivery]\ntls_reports = false", "Narrower"},
		"delivery.fallback":               {"[delivery]\nfallback = \"smart.example:587\"", "Wider"},
		"verify.scope":                    {"[verify]\nscope = \"incoming\"", "Wider"},
		"verify.dmarc_reports":            {"[verify]\ndmarc_reports = true", "Wider"},
		"milter.address":                  {"[[milter]]\naddress = \"tcp:192.0.2.7:11332\"", "Wider"},
		"dns.resolvers":                   {"[dns]\nresolvers = [\"192.0.2.53\"]", "Wider"},
		"queue.lifetime":                  {"[queue]\nlifetime = \"10d\"", "Wider"},
		"metrics.address":                 {"[metrics]\naddress = \"127.0.0.1:9587\"", "Wider"},
		"log.retention":                   {"[log]\nretention = \"30d\"", "Narrower"},
		"log.retention_subject":           {"[log]\nretention_subject = \"7d\"", "Narrower"},
		"log.retention_client":            {"[log]\nretention_client = \"7d\"", "Narrower"},
		"log.retention_user":              {"[log]\nretention_user = \"7d\"", "Narrower"},
		"log.retention_logins":            {"[log]\nretention_logins = \"7d\"", "Narrower"},
		"keys.master":                     {"[keys]\nmaster = \"prompt\"", "Narrower"},
		"log.full_readers":                {"[log]\nfull_readers = [\"anna\"]", "Narrower"},
		"log.status_readers":              {"[log]\nstatus_readers = [\"@staff\"]", "Narrower"},
		"log.live":                        {"[log]\nlive = \"sealed\"", "Narrower"},
	} {
		report := reportOf(parsePolicy(t, one.text))
		_, list, _ := strings.Cut(report, one.list+" than the defaults:")
		list, _, _ = strings.Cut(list, "\n\n")
		if !strings.Contains(list, "  "+name+" = ") {
			t.Errorf("%s does not show:\n%s", name, report)
		}
		delete(known, name)
	}
	for name, e := range known {
		if e.judge != nil {
			t.Errorf("no test shows what %s does", name)
		}
	}
}

// The statement names each field that a line of the log can hold.
func TestStatementNamesEveryField(t *testing.T) {
	names := fieldNames()
	for _, f := range logging.Schema() {
		if strings.Contains(f.Key, ".") || f.Key == "headers" {
			continue
		}
		name, ok := names[f.Key]
		if !ok {
			t.Errorf("%s has no name", f.Key)
		}
		for lang, want := range map[string]string{"de": name.de, "en": name.en} {
			l, err := speak(lang)
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(parsePolicy(t, "").statement(l), "\n"); !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", lang, want, text)
			}
		}
		delete(names, f.Key)
	}
	if len(names) > 0 {
		t.Errorf("names of what the log does not have: %v", names)
	}
}

// The report in JSON has what the text has.
func TestReportJSON(t *testing.T) {
	b, err := json.Marshal(parsePolicy(t, policyConfigs["wide"]).policy())
	if err != nil {
		t.Fatal(err)
	}
	var got policy
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(got.Widened, func(s policySetting) bool {
		return s.Key == "delivery.route.tls" && s.Value == `"none"`
	}) || len(got.Fields) != 10 {
		t.Errorf("%s", b)
	}
}
