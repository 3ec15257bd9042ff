package recipients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Directories names what [ReadLDAP] reads, as the schemes of its addresses.
func Directories() []string { return []string{"ldap", "ldaps", "ldapi"} }

// LDAPLogin is how an LDAP server is met. The zero one is anonymous, and by the rights of
// this process at a socket.
type LDAPLogin struct {
	BindDN, Password string
	Roots            *x509.CertPool // that vouch for the server; nil: those of the system
}

// The limits of a search.
const (
	pageSize   = 500 // entries asked for at once (RFC 2696)
	ldapWithin = 30 * time.Second
)

// The addresses that stand where an address of the web has none.
const (
	ldapPort, ldapsPort = "389", "636"
	ldapSocket          = "/run/slapd/ldapi"
	ldapFilter          = "(objectClass=*)" // RFC 4516 §2.1
)

// ReadLDAP gives the addresses of an LDAP directory, as [Parse] gives those of a file. where is an
// LDAP URL (RFC 4516), of which base, attributes, scope and filter are used; the attributes must be named.
// ldaps: is TLS from the start, ldap: is TLS by StartTLS and never in the clear, ldapi: a
// socket of this machine. The certificate must be valid.
func ReadLDAP(ctx context.Context, where string, login LDAPLogin, domains []string) ([]string, error) {
	q, err := parseLDAP(where)
	if err != nil {
		return nil, err
	}
	conn, err := q.connect(ctx, &login)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	switch {
	case login.BindDN != "":
		err = conn.Bind(login.BindDN, login.Password)
	case q.scheme == "ldapi":
		err = conn.ExternalBind() // RFC 4422, appendix A
	}
	if err != nil {
		return nil, ldapError("logging in", err)
	}
	return q.search(conn, domains)
}

// ldapQuery is an LDAP URL, read.
type ldapQuery struct {
	scheme, host, port string // of ldapi: the socket is the host
	base, filter       string
	attributes         []string
	scope              int
}

func parseLDAP(where string) (*ldapQuery, error) {
	scheme, rest, _ := strings.Cut(where, "://")
	host, rest, _ := strings.Cut(rest, "/")
	q := &ldapQuery{scheme: scheme, scope: ldap.ScopeWholeSubtree, filter: ldapFilter}
	var parts [4]string // base, attributes, scope, filter
	for i, part := range strings.SplitN(rest, "?", 5) {
		if i == len(parts) {
			break // extensions, of which none is known here
		}
		plain, err := url.PathUnescape(part)
		if err != nil {
			return nil, errors.New("the LDAP address has a % without two digits behind it")
		}
		parts[i] = plain
	}
	q.base = parts[0]
	for name := range strings.SplitSeq(parts[1], ",") {
		if name != "" {
			q.attributes = append(q.attributes, name)
		}
	}
	if q.base == "" || len(q.attributes) == 0 {
		return nil, errors.New("the LDAP address must name a base and attributes, as in ldaps://ldap.example.org/dc=example,dc=org?mail")
	}
	switch parts[2] {
	case "", "sub":
	case "one":
		q.scope = ldap.ScopeSingleLevel
	case "base":
		q.scope = ldap.ScopeBaseObject
	default:
		return nil, errors.New("the scope in an LDAP address is sub, one or base")
	}
	if parts[3] != "" {
		q.filter = parts[3]
	}
	if _, err := ldap.CompileFilter(q.filter); err != nil {
		return nil, errors.New("the filter in the LDAP address is none (RFC 4515)")
	}
	return q, q.at(host)
}

// at notes where the server is.
func (q *ldapQuery) at(host string) error {
	if q.scheme == "ldapi" {
		socket, err := url.PathUnescape(host)
		if err != nil || socket != "" && socket[0] != '/' {
			return errors.New("the socket in an LDAP address is written as in ldapi://%2Frun%2Fslapd%2Fldapi/…")
		}
		q.host = socket
		if socket == "" {
			q.host = ldapSocket
		}
		return nil
	}
	q.host, q.port = host, ldapPort
	if q.scheme == "ldaps" {
		q.port = ldapsPort
	}
	if name, port, err := net.SplitHostPort(host); err == nil {
		q.host, q.port = name, port
	}
	if q.host = strings.Trim(q.host, "[]"); q.host == "" {
		return errors.New("the LDAP address names no host")
	}
	return nil
}

// connect reaches the server, by TLS unless it is a socket.
func (q *ldapQuery) connect(ctx context.Context, login *LDAPLogin) (*ldap.Conn, error) {
	dialer := net.Dialer{Timeout: ldapWithin}
	if q.scheme == "ldapi" {
		raw, err := dialer.DialContext(ctx, "unix", q.host)
		if err != nil {
			return nil, fmt.Errorf("reaching the LDAP server: %w", err)
		}
		return begin(raw, false), nil
	}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(q.host, q.port))
	if err != nil {
		return nil, fmt.Errorf("reaching the LDAP server: %w", err)
	}
	config := &tls.Config{ServerName: q.host, RootCAs: login.Roots, MinVersion: tls.VersionTLS12}
	if q.scheme == "ldaps" {
		secure := tls.Client(raw, config)
		within, cancel := context.WithTimeout(ctx, ldapWithin)
		defer cancel()
		if err := secure.HandshakeContext(within); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with the LDAP server: %w", err), raw.Close())
		}
		return begin(secure, true), nil
	}
	conn := begin(raw, false)
	if err := conn.StartTLS(config); err != nil {
		return nil, errors.Join(ldapError("StartTLS", err), conn.Close())
	}
	return conn, nil
}

func begin(raw net.Conn, secure bool) *ldap.Conn {
	conn := ldap.NewConn(raw, secure)
	conn.SetTimeout(ldapWithin)
	conn.Start()
	return conn
}

// search reads all pages, and keeps what is of the domains.
func (q *ldapQuery) search(conn *ldap.Conn, domains []string) (found []string, err error) {
	page := ldap.NewControlPaging(pageSize)
	size := 0
	for {
		answer, err := conn.Search(ldap.NewSearchRequest(q.base, q.scope, ldap.NeverDerefAliases, 0, 0, false, q.filter, q.attributes, []ldap.Control{page}))
		if err != nil {
			return nil, ldapError("searching", err)
		}
		for _, entry := range answer.Entries {
			for _, attribute := range entry.Attributes {
				for _, value := range attribute.Values {
					address := directoryAddress(value)
					if size += len(address); size > MaxList {
						return nil, errors.New("the LDAP server has more than a list may have")
					}
					found = appendEntry(found, address, domains)
				}
			}
		}
		next, ok := ldap.FindControl(answer.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return found, nil
		}
		page.SetCookie(next.Cookie)
	}
}

// ldapError says what failed, with the server's code and without its text, in which addresses may stand.
func ldapError(what string, err error) error {
	if e, ok := errors.AsType[*ldap.Error](err); ok && e.ResultCode < ldap.ErrorNetwork {
		return fmt.Errorf("%s at the LDAP server: %s (%d)", what, strings.ToLower(ldap.LDAPResultCodeMap[e.ResultCode]), e.ResultCode)
	}
	return fmt.Errorf("%s at the LDAP server: %w", what, err)
}
