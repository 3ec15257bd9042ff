package tlsrpt

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// webServer is an HTTPS server that says where it listens, and then what was posted to it.
const webServer = `
import base64, http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.path, self.headers["Host"], self.headers["Content-Type"], self.headers["User-Agent"], base64.b64encode(body).decode(), flush=True)
        self.send_response(201)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
`

// nearWorld dials one port of this machine, whatever the name.
type nearWorld struct {
	*world
	port string
}

func (w nearWorld) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", w.port))
}

// certificate is one for example.com, as PEM, without and with its key.
func certificate(t *testing.T) (alone, whole []byte) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	alone = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return alone, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), alone...)
}

// TestWebServer posts a report to a web server that is not Go's, with the collector's own client.
func TestWebServer(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	dir := t.TempDir()
	alone, whole := certificate(t)
	for name, text := range map[string][]byte{"roots.pem": alone, "server.pem": whole, "server.py": []byte(webServer)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SSL_CERT_FILE", filepath.Join(dir, "roots.pem"))
	server := exec.CommandContext(t.Context(), "python3", filepath.Join(dir, "server.py"), filepath.Join(dir, "server.pem"))
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	said := bufio.NewReaderSize(out, 1<<20)
	port, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	w := nearWorld{newWorld(), strings.TrimSpace(port)}
	w.txt["_smtp._tls.mail.example"] = "v=TLSRPTv1;rua=https://example.com/tls/v1"
	c, err := New(Config{Hostname: "relay.example.org", Contact: "postmaster@relay.example.org", World: w, Keeper: w})
	if err != nil {
		t.Fatal(err)
	}
	today := time.Now()
	someSessions(c, "mail.example")
	if err := c.report(t.Context(), today, "mail.example"); err != nil {
		t.Fatalf("the report was not taken: %v", err)
	}
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(line)
	if len(got) != 5 || strings.Join(got[:4], " ") != "/tls/v1 example.com application/tlsrpt+gzip None" {
		t.Fatalf("the server says %q", line)
	}
	body, err := base64.StdEncoding.DecodeString(got[4])
	if err != nil || !strings.Contains(string(unzip(t, body)), `"policies":`+wantPolicies) {
		t.Errorf("%v: it got\n%s", err, unzip(t, body))
	}
}
