package logging

import (
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
)

// isZero tells whether nothing is known of the connection.
func (t TLS) isZero() bool { return t.Version == 0 && t.None == 0 }

func tlsVersions() []string { return []string{"1.0", "1.1", "1.2", "1.3"} }

// versionName gives the protocol version as it stands in the log.
func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS10:
		return "1.0"
	}
	return ""
}

// versionID is the inverse of versionName, 0 for an unknown one.
func versionID(name string) uint16 {
	for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
		if versionName(version) == name {
			return version
		}
	}
	return 0
}

// cipherName gives the IANA name of the cipher suite. The usual ones are here
// because [tls.CipherSuiteName] allocates.
func cipherName(id uint16) string {
	switch id {
	case 0:
		return ""
	case tls.TLS_AES_128_GCM_SHA256:
		return "TLS_AES_128_GCM_SHA256"
	case tls.TLS_AES_256_GCM_SHA384:
		return "TLS_AES_256_GCM_SHA384"
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return "TLS_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
	}
	return tls.CipherSuiteName(id) // 0x1234 for an unknown one
}

// cipherIDs is the table of the suites that have a name.
var cipherIDs = sync.OnceValue(func() map[string]uint16 {
	ids := make(map[string]uint16)
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		ids[cipherName(suite.ID)] = suite.ID
	}
	return ids
})

// cipherID finds the cipher suite of a name that cipherName gave.
func cipherID(name string) (uint16, bool) {
	if id, ok := cipherIDs()[name]; ok {
		return id, true
	}
	var id uint16
	if n, err := fmt.Sscanf(name, "0x%04X", &id); n == 1 && err == nil {
		return id, true
	}
	return 0, false
}
