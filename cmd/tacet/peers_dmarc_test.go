package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tacet "tacet/cmd/tacet"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/content"
)

// readDMARCReport holds a letter to what RFC 9990 says of it (§3.1.1 and §3.5.2), by Python's own libraries, and
// prints what it says: of the letter, of the policy, and a line for each record.
const readDMARCReport = `
import sys, re, email, email.policy, gzip, xml.etree.ElementTree as ET
NS = "{urn:ietf:params:xml:ns:dmarc-2.0}"
ACTION, YES, TEXT = "none|pass|quarantine|reject", "pass|fail", ".+"
DKIM = "none|pass|fail|policy|neutral|temperror|permerror"
# Of each element: whether the order of what is in it counts, and what that is; or what its text is.
SHAPE = {
    "feedback": (True, "version? report_metadata policy_published extension? record+"), "version": r"1\.0",
    "report_metadata": (False, "org_name email extra_contact_info? report_id date_range error? generator?"),
    "org_name": TEXT, "email": ".+@.+", "report_id": r"[\w.!#$%&'*+/=?^{|}~-]+(@[\w.-]+)?", "generator": TEXT,
    "date_range": (False, "begin end"), "begin": r"\d+", "end": r"\d+",
    "policy_published": (False, "domain discovery_method? p sp? np? fo? adkim? aspf? testing?"),
    "domain": TEXT, "discovery_method": "psl|treewalk", "p": "none|quarantine|reject", "sp": "none|quarantine|reject", "np": "none|quarantine|reject",
    "fo": TEXT, "adkim": "r|s", "aspf": "r|s", "testing": "y|n",
    "record": (True, "row identifiers auth_results"), "row": (False, "source_ip count policy_evaluated"),
    "source_ip": r"[0-9a-f.:]+", "count": r"[1-9]\d*", "policy_evaluated": (True, "disposition dkim spf reason*"),
    "disposition": ACTION, "policy_evaluated/dkim": YES, "policy_evaluated/spf": YES, "reason": (False, "type comment?"),
    "type": "local_policy|mailing_list|other|policy_test_mode|trusted_forwarder", "comment": TEXT,
    "identifiers": (False, "header_from envelope_from? envelope_to?"), "header_from": TEXT, "envelope_from": ".*",
    "auth_results": (True, "dkim* spf?"), "auth_results/dkim": (False, "domain selector result human_result?"),
    "auth_results/spf": (False, "domain scope? result human_result?"), "selector": TEXT, "scope": "mfrom",
    "result": DKIM + "|softfail",
}

def check(element, above):
    name = element.tag.removeprefix(NS)
    assert element.tag == NS + name, element.tag
    assert not element.attrib, element.attrib
    shape = SHAPE.get(above + "/" + name, SHAPE.get(name))
    assert shape, "no element " + name
    if isinstance(shape, str):
        assert len(element) == 0 and re.fullmatch(shape, element.text or ""), (name, element.text)
        return
    ordered, model = shape
    inside = [child.tag.removeprefix(NS) for child in element]
    if not ordered:
        inside.sort()
        model = " ".join(sorted(model.split()))
    model = "".join(re.sub(r"(\w+)", r"(?:\1 )", word) for word in model.split())
    assert re.fullmatch(model, "".join(n + " " for n in inside)), (name, inside)
    for child in element:
        check(child, name)

m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
subject = re.fullmatch(r"Report +Domain: +(\S+) +Submitter: +(\S+) +Report-ID: +<(\S+)>", m["Subject"])
domain, submitter, number = subject.groups()
results = [a for a in m.get_all("Authentication-Results", []) if a.startswith("receiver.example")]
print("letter", m["From"], m["To"], m["Auto-Submitted"], m["Date"])
print("signed", *sorted(" ".join(f) for f in re.findall(r"(dkim=\w+).*?header.d=(\S+).*?header.a=(\S+)", " ".join(results))))
print("parts", m.get_content_type(), *[p.get_content_type() for p in m.iter_parts()])
attached, = m.iter_attachments()
print("file", attached.get_filename())
root = ET.fromstring(gzip.decompress(attached.get_content()))
check(root, "")
get = lambda e, path: getattr(e.find("/".join(NS + p for p in path.split("/"))), "text", None)
begin, end = get(root, "report_metadata/date_range/begin"), get(root, "report_metadata/date_range/end")
assert attached.get_filename() == f"{submitter}!{domain}!{begin}!{end}.xml.gz"
assert int(begin) % 86400 == 0 and int(end) == int(begin) + 86399
assert get(root, "report_metadata/report_id") == number and m["Message-ID"] == f"<{number}>"
assert get(root, "policy_published/domain") == domain
print("from", get(root, "report_metadata/org_name"), submitter, get(root, "report_metadata/email"))
print("policy", *[e.tag.removeprefix(NS) + "=" + e.text for e in root.find(NS + "policy_published")])
rows = []
for r in root.findall(NS + "record"):
    line = [get(r, "row/" + p) for p in ("count", "source_ip")] + [get(r, "row/policy_evaluated/" + p) for p in ("disposition", "dkim", "spf", "reason/type")]
    line += [get(r, "identifiers/" + p) for p in ("header_from", "envelope_from")]
    for a in r.find(NS + "auth_results"):
        line.append(a.tag.removeprefix(NS) + ":" + ",".join(e.text for e in a))
    rows.append(" ".join(str(word) for word in line))
print(*sorted(rows), sep="\n")
`

// dmarcSite is a relay that takes mail for here.example, and those that it meets.
type dmarcSite struct {
	*daemon
	mx            string
	honest, other string // addresses of clients
	reports       *sink  // behind the receiver of the reports
	author        content.Key
}

// newDMARCSite makes a relay with keys as "tacet dkim generate" makes and prints them, a zone for its
// resolver, and a receiver of reports: a Postfix that has OpenDKIM look at what comes.
func (p *peers) newDMARCSite(t *testing.T) *dmarcSite {
	t.Helper()
	s := &dmarcSite{mx: freePort(t), honest: own(21), other: own(22), reports: newSink(t)}
	s.daemon = p.newDaemon(t, fmt.Sprintf(`[[listener]]
address = %q
kind = "mx"
[relay]
domains = ["here.example"]
[primary]
hosts = [%q]
[delivery]
deny_special_addresses = false
[dns]
resolvers = []
[verify]
scope = "all"
dmarc = "reject"
dmarc_reports = true
`, s.mx, newSink(t).addr))
	s.edit("postmaster@example.org", "postmaster@relay.example")
	if err := os.Mkdir(s.path("data"), 0o750); err != nil {
		t.Fatal(err)
	}
	lines := s.run("dkim", "generate", "relay.example", "--selector", "s")
	_, keys, found := strings.Cut(lines, "\n;")
	if !found {
		t.Fatalf("dkim generate: %s", lines)
	}
	_, keys, _ = strings.Cut(keys, "\n") // behind the line that says where it belongs
	s.edit("[verify]", strings.NewReplacer("; ", "", ";\n", "").Replace(keys)+"[verify]")
	resolver := s.newResolver(t, lines)
	s.edit("resolvers = []", fmt.Sprintf("resolvers = [%q]", resolver))

	dir, dkim := workDir(t), freePort(t)
	unbound := writeFile(t, filepath.Join(dir, "unbound.conf"), "server:\n\tdo-not-query-localhost: no\nforward-zone:\n\tname: \".\"\n\tforward-addr: "+strings.Replace(resolver, ":", "@", 1)+"\n")
	verifier := start(t, exec.Command("opendkim", "-f", "-x", writeFile(t, filepath.Join(dir, "opendkim.conf"), fmt.Sprintf(
		"Mode v\nSocket inet:%s@127.0.0.1\nUserID root\nAuthservID receiver.example\nAlwaysAddARHeader yes\nResolverConfiguration %s\nInternalHosts 192.0.2.1\n", portOf(t, dkim), unbound))))
	verifier.listens(dkim)
	p.newPostfixAt(t, place{addr: own(23) + ":25"}, "mx.reports.example", hop(s.reports.addr), "smtpd_milters = inet:"+dkim, "milter_default_action = tempfail")
	return s
}

// newResolver serves the zone: domains that ask for reports, some of them elsewhere, where that is agreed to, or is not.
func (s *dmarcSite) newResolver(t *testing.T, keys string) (addr string) {
	t.Helper()
	text, err := content.NewKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	s.author = content.Key{Domain: "author.example", Selector: "a"}
	if s.author.Signer, err = content.ParseKey(text); err != nil {
		t.Fatal(err)
	}
	line, err := s.author.ZoneLine()
	if err != nil {
		t.Fatal(err)
	}
	dir := workDir(t)
	zone := writeFile(t, filepath.Join(dir, "example"), `$ORIGIN example.
$TTL 60
@ SOA ns host 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
reports MX 10 mx.reports
mx.reports A `+own(23)+`
author TXT "v=spf1 ip4:`+s.honest+` -all"
_dmarc.author TXT "v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:author@reports.example,https://reports.example/"
author.example._report._dmarc.reports TXT "v=DMARC1"
_dmarc.tests TXT "v=DMARC1; p=quarantine; t=y; rua=mailto:old@reports.example"
tests.example._report._dmarc.reports TXT "v=DMARC1; rua=mailto:new@reports.example"
shy TXT "v=spf1 ip4:`+s.honest+` -all"
_dmarc.shy TXT "v=DMARC1; p=none; rua=mailto:shy@reports.example"
_dmarc.relay TXT "v=DMARC1; p=reject; rua=mailto:relay@reports.example"
relay.example._report._dmarc.reports TXT "v=DMARC1"
`+line+"\n"+keys)
	return newUnbound(t, dir, map[string]string{"example": zone})
}

// mail hands in what the reports will tell of.
func (s *dmarcSite) mail(t *testing.T) {
	t.Helper()
	letter := func(from string) string {
		return "From: <canary@" + from + ">\r\nTo: <b@here.example>\r\nSubject: one\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\nbody\r\n"
	}
	plain := letter("author.example")
	v, err := content.NewSigner([]content.Key{s.author}, nil).Check(t.Context(), relay.NewMessage(&queue.Envelope{}, &relay.Session{}, []byte(plain)))
	if err != nil {
		t.Fatal(err)
	}
	signed := string(v.Added) + plain
	for _, m := range []struct {
		client, sender, text string
		refused              bool
	}{
		{s.honest, "x@author.example", signed, false},
		{s.honest, "x@author.example", signed, false},
		{s.honest, "x@author.example", strings.Replace(signed, "body", "else", 1), false},
		{s.other, "y@author.example", signed, false},
		{s.other, "x@author.example", plain, true},
		{s.other, "", letter("sub.author.example"), false},
		{s.other, "x@tests.example", letter("tests.example"), false},
		{s.honest, "x@shy.example", letter("shy.example"), false},
	} {
		err := strangerTries(t, m.client, "client.example", s.mx, []byte(m.text), m.sender, "b@here.example")
		if reply, ok := errors.AsType[*textproto.Error](err); m.refused && (!ok || reply.Code != 550 || !strings.Contains(reply.Msg, "DMARC")) || !m.refused && err != nil {
			t.Errorf("%s from %s: %v", m.sender, m.client, err)
		}
	}
}

// dmarcReports: what comes in the name of domains is told to them the day after by mail: over the relay's own queue,
// through the MX of whom they name for it, where that agrees. A receiver takes it that has nothing of ours, and verifies and
// reads it by other programs. A domain whose report is not agreed to, and the relay's own reports, are not reported.
func (p *peers) dmarcReports(t *testing.T) {
	s := p.newDMARCSite(t)
	s.start()
	s.mail(t)
	s.terminate()
	counted := tacet.ReportDMARC(t, s.config)
	for to, want := range map[string]string{
		"author@reports.example": `policy domain=author.example p=reject sp=quarantine adkim=s discovery_method=treewalk
1 HONEST pass fail pass None author.example author.example dkim:author.example,a,fail spf:author.example,mfrom,pass
1 OTHER none fail fail local_policy sub.author.example None spf:client.example,mfrom,none
1 OTHER pass pass fail None author.example author.example dkim:author.example,a,pass spf:author.example,mfrom,fail
1 OTHER reject fail fail None author.example author.example spf:author.example,mfrom,fail
2 HONEST pass pass pass None author.example author.example dkim:author.example,a,pass spf:author.example,mfrom,pass
`,
		"new@reports.example": `policy domain=tests.example p=quarantine discovery_method=treewalk testing=y
1 OTHER none fail fail policy_test_mode tests.example tests.example spf:tests.example,mfrom,none
`,
	} {
		got := s.reports.mail.find(t, "the report to "+to, func(m message) bool { return strings.HasPrefix(m.to[0], "<"+to+">") })
		domain, _, _ := strings.Cut(strings.TrimPrefix(want, "policy domain="), " ")
		s.checkReport(t, got, to, domain, strings.NewReplacer("HONEST", s.honest, "OTHER", s.other).Replace(want))
		if r := s.outcome("delivered", to); r.NextHost != own(23) || r.Sender != "postmaster@relay.example" || r.Client != "" {
			t.Errorf("the log says %s", r.line)
		}
	}
	s.empties()
	if got := counted(); !slices.Equal(got, []string{"author.example", "shy.example", "tests.example"}) {
		t.Errorf("counted is mail of %q", got)
	}
	if got := s.reports.mail.all(); len(got) != 2 {
		t.Errorf("%d reports arrived, want 2:\n%s", len(got), lastOf(got))
	}
	s.checkLog(t)
}

// checkReport has another program read a report on a domain.
func (s *dmarcSite) checkReport(t *testing.T, got message, to, domain, want string) {
	t.Helper()
	python := exec.Command("python3", "-c", readDMARCReport)
	python.Stdin = bytes.NewReader(got.content)
	out, err := python.CombinedOutput()
	if err != nil {
		t.Fatalf("python3: %v\n%s\n%s", err, out, got.content)
	}
	begin := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC).Unix() // as the day is made to be
	want = fmt.Sprintf("from relay.example.org relay.example.org postmaster@relay.example\n%s", want)
	want = fmt.Sprintf("file relay.example.org!%s!%d!%d.xml.gz\n%s", domain, begin, begin+86399, want)
	want = "signed dkim=pass relay.example ed25519-sha256 dkim=pass relay.example rsa-sha256\nparts multipart/mixed text/plain application/gzip\n" + want
	letter, rest, _ := strings.Cut(string(out), "\n")
	if !strings.HasPrefix(letter, "letter postmaster@relay.example "+to+" auto-generated Sat, 01 Jan 2000 0") || rest != want {
		t.Errorf("the report reads\n%s\nwant\n%s", out, want)
	}
	if bytes.Contains(got.content, []byte("canary")) || !strings.HasPrefix(got.from, "<postmaster@relay.example>") {
		t.Errorf("from %s:\n%s", got.from, got.content)
	}
}

// checkLog sees to it that no client is in what the relay wrote down to be read.
func (s *dmarcSite) checkLog(t *testing.T) {
	t.Helper()
	var text strings.Builder
	text.WriteString(strings.Join(s.proc.output.all(), "\n"))
	for _, r := range s.written() {
		text.WriteString(r.line + "\n")
	}
	if !strings.Contains(text.String(), "dmarc_failed") {
		t.Error("the log does not have the refusal")
	}
	for _, client := range []string{s.honest, s.other} {
		if strings.Contains(text.String(), client) {
			t.Errorf("%s is on record:\n%s", client, text.String())
		}
	}
}
