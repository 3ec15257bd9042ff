package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tacet/queue"
	"tacet/queue/pebblestore"
	"tacet/relay"
	"tacet/relay/auth"
)

// findings are what is wrong outside the config file's own text: in the
// files and folders that it names.
type findings struct {
	Faults   []string    `json:"faults"`
	Warnings []string    `json:"warnings"`
	Keys     keyFindings `json:"keys"`
}

func (f *findings) fault(format string, args ...any) {
	f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
}

func (f *findings) warn(format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...))
}

// inspect looks at everything that the config names, and changes nothing.
func inspect(c *Config) findings {
	f := findings{Faults: []string{}, Warnings: append([]string{}, c.warnings()...)}
	if c.TLS.Cert != "" {
		f.certificate(c)
	}
	f.users(c)
	f.passwordFile("delivery", c.Delivery.Smarthost)
	for _, r := range c.Delivery.Routes {
		f.passwordFile("the route of "+r.Domain, r.Smarthost)
	}
	f.dkim(c)
	f.Keys = f.keys(c)
	f.folder("data_dir", c.DataDir)
	f.folder("log.dir", c.Log.Dir)
	f.queue(c)
	return f
}

// queue looks for damaged files of the queue. Of one that a daemon has open its
// health answer tells; of one that this user may not read, nothing is known.
func (f *findings) queue(c *Config) {
	damaged, err := pebblestore.Damaged(pebblestore.Options{Dir: c.queueDir()})
	switch {
	case errors.Is(err, queue.ErrLocked), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOTDIR):
	case err != nil:
		f.fault("data_dir: %v", err)
	case len(damaged) > 0:
		f.warn("the queue in %s is damaged (%s): the next start copies what can be read, counts what cannot, and says so", c.queueDir(), strings.Join(damaged, ", "))
	}
}

func (f *findings) certificate(c *Config) {
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		f.fault("tls.cert and tls.key: %v", err)
		return
	}
	leaf := pair.Leaf
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0:
		f.fault("tls.cert %s expired on %s: renew it", c.TLS.Cert, leaf.NotAfter.Format(time.DateOnly))
	case left < 14*day:
		f.warn("tls.cert %s expires in %s, on %s", c.TLS.Cert, plural(int(left/day), "day"), leaf.NotAfter.Format(time.DateOnly))
	}
	if time.Now().Before(leaf.NotBefore) {
		f.fault("tls.cert %s is not valid before %s", c.TLS.Cert, leaf.NotBefore.Format(time.DateTime))
	}
	if leaf.VerifyHostname(c.Hostname) != nil {
		f.warn("tls.cert %s is not for %s: it names %s", c.TLS.Cert, c.Hostname, strings.Join(leaf.DNSNames, ", "))
	}
	if selfSigned(leaf) {
		f.warn("tls.cert %s is self-signed: mail clients will not trust it", c.TLS.Cert)
	}
	f.secret("tls.key", c.TLS.Key)
}

func selfSigned(leaf *x509.Certificate) bool {
	return leaf.Issuer.String() == leaf.Subject.String() && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil
}

// secret warns of a file that others may read.
func (f *findings) secret(name, path string) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		f.warn("%s %s is open to everyone (mode %04o): chmod 600 %s", name, path, mode, path)
	}
}

func (f *findings) users(c *Config) {
	if !c.hasKind(KindSubmission) {
		return
	}
	content, err := os.ReadFile(c.Auth.UsersFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.warn("auth.users_file %s does not exist: no one can log in; begin with `tacet user add NAME`", c.Auth.UsersFile)
		return
	case err != nil:
		f.fault("auth.users_file: %v", err)
		return
	}
	users, err := auth.CheckFile(content)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			f.fault("auth.users_file %s: %s", c.Auth.UsersFile, line)
		}
		return
	}
	if len(users) == 0 {
		f.warn("auth.users_file %s is empty: no one can log in; begin with `tacet user add NAME`", c.Auth.UsersFile)
	}
	f.secret("auth.users_file", c.Auth.UsersFile)
	f.userRules(c, users)
}

// userRules says what users may do that is seldom meant.
func (f *findings) userRules(c *Config, users []auth.User) {
	d := c.userDefaults()
	everybody, nobody, local, without := 0, 0, 0, 0
	for _, user := range users {
		if user.Rules.Limits[relay.NewRecipientsPerDay] > 0 && c.Submission.Memory == 0 {
			without++
		}
		if user.Rules.Senders != nil {
			continue
		}
		switch own := d.Senders(user.Name); {
		case own.Any():
			everybody++
		case len(own.List()) == 0:
			nobody++
		case !strings.Contains(user.Name, "@"):
			local++
		}
	}
	const remedy = "`tacet user show` tells who, `tacet user modify NAME --senders ADDRESS` says which"
	if everybody > 0 {
		f.warn("auth.users_file %s: %s may send as any address, having no senders: "+remedy, c.Auth.UsersFile, plural(everybody, "user"))
	}
	if nobody > 0 {
		f.warn("auth.users_file %s: %s may send as no address, having no senders: "+remedy, c.Auth.UsersFile, plural(nobody, "user"))
	}
	if local > 0 {
		f.warn("auth.users_file %s: %s may send as NAME@ %s alone, having no senders, and no address as name: "+remedy, c.Auth.UsersFile, plural(local, "user"), someOf(d.Domains))
	}
	if without > 0 {
		f.warn("auth.users_file %s: new_recipients_per_day of %s is without effect: submission.recipient_memory is not set", c.Auth.UsersFile, plural(without, "user"))
	}
}

func (f *findings) passwordFile(where string, s Smarthost) {
	if s.AuthPasswordFile == "" {
		return
	}
	if _, err := readPassword(s.AuthPasswordFile); err != nil {
		f.fault("%s: auth_password_file: %v", where, err)
		return
	}
	f.secret("auth_password_file", s.AuthPasswordFile)
}

// readPassword reads the first line of a password file.
func readPassword(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	password := strings.TrimSuffix(first, "\r")
	if password == "" {
		return "", fmt.Errorf("reading the password: the first line of %s is empty", path)
	}
	return password, nil
}

// folder checks that a folder is there, or can be made where it is to be.
func (f *findings) folder(name, path string) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		f.fault("%s %s is not a folder", name, path)
	case err == nil && info.Mode().Perm()&0o002 != 0:
		f.warn("%s %s may be written by everyone (mode %04o): chmod 750 %s", name, path, info.Mode().Perm(), path)
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(path)
		if info, err := os.Stat(parent); err == nil && !info.IsDir() {
			f.fault("%s %s cannot be made: %s is not a folder", name, path, parent)
		}
	case err != nil:
		f.fault("%s: %v", name, err)
	}
}
