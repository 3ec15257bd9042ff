package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// canaryHop is a next hop that says canaries wherever it can, and keeps all
// that it is sent, as it is under TLS.
type canaryHop struct {
	name    string
	say     map[string]string // the reply to a verb; "" is the banner
	offer   []string
	tls     *tls.Config
	address string

	mu  sync.Mutex
	got bytes.Buffer
}

// received is all that the hop was sent so far.
func (h *canaryHop) received() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.got.Bytes())
}

func (h *canaryHop) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got.Write(p)
}

// start listens at an address until the end of the test.
func (h *canaryHop) start(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	var sessions sync.WaitGroup
	var open sync.Map
	sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			sessions.Go(func() {
				defer conn.Close()
				defer open.Delete(conn)
				h.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
		sessions.Wait()
	})
}

func (h *canaryHop) serve(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(canaryPatience))
	in := bufio.NewReader(io.TeeReader(conn, h))
	fmt.Fprintf(conn, "220 %s\r\n", h.say[""])
	secure := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		reply := h.say[verb]
		switch verb {
		case "EHLO":
			offer := h.offer
			if h.tls != nil && !secure {
				offer = append([]string{"STARTTLS"}, offer...)
			}
			reply = "250-" + strings.Join(append([]string{h.say["EHLO"]}, offer...), "\r\n250-")
			last := strings.LastIndex(reply, "250-")
			reply = reply[:last] + "250 " + reply[last+4:]
		case "STARTTLS":
			fmt.Fprint(conn, "220 2.0.0 go ahead\r\n")
			under := tls.Server(conn, h.tls)
			if under.Handshake() != nil {
				return
			}
			conn, secure = under, true
			in = bufio.NewReader(io.TeeReader(conn, h))
			continue
		case "DATA":
			if strings.HasPrefix(reply, "354") {
				fmt.Fprintf(conn, "%s\r\n", reply)
				for line != ".\r\n" {
					if line, err = in.ReadString('\n'); err != nil {
						return
					}
				}
				reply = h.say["."]
			}
		}
		if reply == "" {
			reply = "250 2.0.0 ok"
		}
		if _, err := fmt.Fprintf(conn, "%s\r\n", reply); err != nil || verb == "QUIT" {
			return
		}
	}
}

// canaryCertificate is one that names canaries.
func canaryCertificate(t *testing.T, name, common string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: common, Organization: []string{common}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// canaryDNS answers from a zone and keeps the names it is asked for, as they
// go over the wire. Below servfail it fails, with a canary beside the failure.
type canaryDNS struct {
	address string
	mu      sync.Mutex
	asked   bytes.Buffer
}

func (d *canaryDNS) questions() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.asked.Bytes())
}

func (d *canaryDNS) start(t *testing.T, aside string, zone ...string) {
	t.Helper()
	records := map[dns.Question][]dns.RR{}
	names := map[string]bool{}
	for _, line := range zone {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		h := rr.Header()
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: h.Class}
		records[q], names[h.Name] = append(records[q], rr), true
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = conn.LocalAddr().String()
	text, err := dns.NewRR(aside)
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		packet, _ := query.Pack()
		d.mu.Lock()
		d.asked.Write(packet)
		d.asked.WriteByte('\n')
		d.mu.Unlock()
		reply := new(dns.Msg).SetReply(query)
		q := query.Question[0]
		q.Name = strings.ToLower(q.Name)
		reply.Answer, reply.Extra = records[q], []dns.RR{text}
		switch {
		case strings.Contains(q.Name, ".servfail."):
			reply.Rcode = dns.RcodeServerFailure
		case !names[q.Name]:
			reply.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(reply)
	})}
	go func() {
		defer close(done)
		server.ActivateAndServe()
	}()
	<-ready
	t.Cleanup(func() {
		server.Shutdown()
		<-done
	})
}
