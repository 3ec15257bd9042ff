package outbound

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"slices"

	"tacet/queue"
	"tacet/relay"
)

// verifyTLSA checks the certificate against the TLSA records of its host (RFC 7672 §3).
func verifyTLSA(h *relay.Hold) verifier {
	return func(cs *tls.ConnectionState, _ string) (queue.Verified, error) {
		if err := matchTLSA(h, cs.PeerCertificates); err != nil {
			return queue.VerifiedNo, err
		}
		return queue.VerifiedDANE, nil
	}
}

// matchTLSA wants one record to match. The error is that of the record that
// came closest.
func matchTLSA(h *relay.Hold, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return unverified(relay.FailedUntrusted)
	}
	var closest error = unverified(relay.FailedUntrusted)
	for _, t := range h.TLSA {
		switch t.Usage {
		case relay.UsageEndEntity: // neither name nor date count (RFC 7672 §3.1.1)
			if describes(t, chain[0]) {
				return nil
			}
		case relay.UsageTrustAnchor:
			switch err := underAnchor(t, h.Names, chain); {
			case err == nil:
				return nil
			case err != unverified(relay.FailedUntrusted):
				closest = err
			}
		}
	}
	return closest
}

// describes tells whether the record is about the certificate (RFC 6698 §2.1).
func describes(t relay.TLSA, cert *x509.Certificate) bool {
	if !t.Usable() {
		return false
	}
	part := cert.Raw
	if t.Selector == 1 {
		part = cert.RawSubjectPublicKeyInfo
	}
	switch t.Matching {
	case 1:
		sum := sha256.Sum256(part)
		return bytes.Equal(sum[:], t.Data)
	case 2:
		sum := sha512.Sum512(part)
		return bytes.Equal(sum[:], t.Data)
	}
	return bytes.Equal(part, t.Data)
}

// underAnchor checks that the chain leads up to the trust anchor that the
// record describes, and that the certificate is for one of names, and its date
// (RFC 7672 §3.1.2, §3.2). An anchor that the record holds whole need not be sent.
func underAnchor(t relay.TLSA, names []string, chain []*x509.Certificate) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range chain {
		if describes(t, cert) {
			roots.AddCert(cert)
			found = true
		} else if cert != chain[0] {
			rest.AddCert(cert)
		}
	}
	if !found && t.Selector == 0 && t.Matching == 0 {
		if anchor, err := x509.ParseCertificate(t.Data); err == nil {
			roots.AddCert(anchor)
			found = true
		}
	}
	if !found {
		return unverified(relay.FailedUntrusted)
	}
	leaf := chain[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest}); err != nil {
		return chainFault(err)
	}
	if !slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) == nil }) {
		return unverified(relay.FailedMismatch)
	}
	return nil
}
