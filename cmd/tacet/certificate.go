package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"tacet/logging"
)

// certificates holds the certificate that the listeners show. A reload
// replaces it for new handshakes; sessions that have had theirs go on.
type certificates struct {
	ops     *logging.Operations
	current atomic.Pointer[tls.Certificate]
}

// config is the listeners' TLS: 1.2 at least, whatever certificate is current.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// load reads the configured certificate, or makes a self-signed one; nil if no
// listener needs any. A pair that does not match, as in the middle of a
// rotation, is an error.
func (c *certificates) load(config *Config) (*tls.Certificate, error) {
	if !config.needsCertificate() {
		return nil, nil
	}
	if config.TLS.Cert == "" {
		pair, err := ownCertificate(filepath.Join(config.keyDir(), "self-signed.pem"), config.Hostname)
		if err == nil {
			c.ops.Log(logging.OpCertificateSelfSigned)
		}
		return pair, err
	}
	pair, err := tls.LoadX509KeyPair(config.TLS.Cert, config.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("reading tls.cert %s and tls.key %s: %w", config.TLS.Cert, config.TLS.Key, err)
	}
	return &pair, nil
}

// use shows the certificate from now on.
func (c *certificates) use(pair *tls.Certificate) {
	c.current.Store(pair)
	if pair != nil {
		c.warn()
	}
}

// expiryWarning is how long before its end a certificate is spoken of.
const expiryWarning = 14 * day

// warn tells of a certificate that ends soon or has ended.
func (c *certificates) warn() {
	end := c.current.Load().Leaf.NotAfter
	switch left := time.Until(end); {
	case left <= 0:
		c.ops.Log(logging.OpCertificateExpired, logging.Until(end))
	case left < expiryWarning:
		c.ops.Log(logging.OpCertificateExpires, logging.Until(end))
	}
}

// ownCertificate reads the self-signed certificate at path, and makes one
// where there is none, or none for that name, or one that ends within a month.
func ownCertificate(path, hostname string) (*tls.Certificate, error) {
	if content, err := os.ReadFile(path); err == nil {
		pair, err := tls.X509KeyPair(content, content)
		if err == nil && pair.Leaf.VerifyHostname(hostname) == nil && time.Until(pair.Leaf.NotAfter) > 30*day {
			return &pair, nil
		}
	}
	content, err := selfSign(hostname, time.Now())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("writing a self-signed certificate: %w", err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return nil, fmt.Errorf("writing a self-signed certificate: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("writing a self-signed certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		return nil, fmt.Errorf("reading the self-signed certificate: %w", err)
	}
	return &pair, nil
}

// selfSign makes a certificate for the name and for loopback, and its key, as PEM.
func selfSign(hostname string, now time.Time) ([]byte, error) {
	key, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	serial, serialErr := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err := errors.Join(keyErr, serialErr); err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: hostname},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(397 * day), // the longest that clients take
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{hostname, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		BasicConstraintsValid: true,
		IsCA:                  true, // so that a client can be told to trust just this one
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return b.Bytes(), nil
}
