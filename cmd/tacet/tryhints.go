package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// hint is a command to paste for one mail client.
type hint struct{ name, command string }

// commands are ready to paste: each submits one message to the playground,
// verifies its certificate where the client can, and logs in.
func (p *playground) commands() []hint {
	fill := strings.NewReplacer(
		"HOST", p.starttls.Addr().String(), "PORT", fmt.Sprint(p.starttls.Port()), "SMTPS", fmt.Sprint(p.implicit.Port()),
		"CERT", p.cert, "USER", p.user, "PASSWORD", p.password, "SENDER", trySender, "RECIPIENT", tryRecipient)
	hints := []hint{
		{"swaks", `swaks --server HOST:PORT --tls --auth PLAIN --auth-user USER --auth-password PASSWORD \
  --from SENDER --to RECIPIENT --header 'Subject: Hello from swaks'`},
		{"curl, implicit TLS", `printf 'Subject: Hello from curl\r\n\r\nHello.\r\n' |
  curl --url smtps://HOST:SMTPS --cacert CERT --user USER:PASSWORD \
  --mail-from SENDER --mail-rcpt RECIPIENT --upload-file -`},
		{"msmtp", `printf 'Subject: Hello from msmtp\n\nHello.\n' |
  msmtp --host=HOST --port=PORT --tls=on --tls-trust-file=CERT --auth=plain --user=USER \
  --passwordeval='echo PASSWORD' --from=SENDER RECIPIENT`},
		{"Python", `python3 - <<'END'
import smtplib, ssl
with smtplib.SMTP("HOST", PORT) as s:
    s.starttls(context=ssl.create_default_context(cafile="CERT"))
    s.login("USER", "PASSWORD")
    s.sendmail("SENDER", "RECIPIENT", "Subject: Hello from Python\r\n\r\nHello.\r\n")
END`},
	}
	for i := range hints {
		hints[i].command = fill.Replace(hints[i].command)
	}
	return hints
}

// program is how a shell finds this binary: by its name if it is the one that
// the name finds, else by its path.
func program() string {
	own, err := os.Executable()
	if err != nil {
		return "tacet"
	}
	if found, err := exec.LookPath("tacet"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil && found == own {
			return "tacet"
		}
	}
	return own
}

// greet is the first thing to be seen.
func (t *tryPage) greet() {
	if !t.json {
		fmt.Fprintf(t.out, "%s  %s\n\n", t.p.bold("tacet try"), t.p.dim("a relay to play with; it leaves nothing behind"))
	}
}

// started tells where everything is.
func (t *tryPage) started(p *playground, nextHop netip.AddrPort) {
	if t.json {
		t.print(map[string]any{"starttls": p.starttls, "implicit": p.implicit, "user": p.user, "password": p.password,
			"cert": p.cert, "config": p.dir + "/tacet.toml", "next_hop": nextHop})
		return
	}
	row := func(name, value, remark string) {
		fmt.Fprintf(t.out, "  %-10s %s  %s\n", name, t.p.bold(fmt.Sprintf("%-18s", value)), t.p.dim(remark))
	}
	row("submit at", p.starttls.String(), "STARTTLS")
	row("", p.implicit.String(), "implicit TLS")
	row("user", p.user, "password "+p.password)
	row("next hop", nextHop.String(), "built in, with STARTTLS; it forgets all mail")
	fmt.Fprintf(t.out, "\n%s\n\n", t.p.dim("A first message through the real wire, and what the relay log says of it:"))
}

// hints shows the commands to paste.
func (t *tryPage) hints(p *playground) {
	if t.json {
		return
	}
	fmt.Fprintf(t.out, "\n%s\n", t.p.dim("Your turn. Paste one of these into another terminal:"))
	for _, h := range p.commands() {
		fmt.Fprintf(t.out, "\n%s\n%s\n", t.p.cyan("# "+h.name), h.command)
	}
	fmt.Fprintf(t.out, "\n%s\n%s\n\n", t.p.cyan("# the queue, should the next hop be slow"), program()+" queue list --config "+p.dir+"/tacet.toml")
	fmt.Fprintf(t.out, "%s\n\n", t.p.dim("The relay log follows as it is written. Ctrl-C ends the relay and removes everything."))
}

// farewell says that it is over.
func (t *tryPage) farewell() {
	if !t.json {
		fmt.Fprintf(t.out, "\n%s\n", t.p.dim("Ended; nothing is left of it."))
	}
}
