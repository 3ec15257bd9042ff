package main

import (
	"encoding/pem"
	"fmt"
	"testing"

	"tacet/relay/content"
)

// canaryDKIM is the config of two keys that sign, and what the DNS says of them: the record
// of the relay's own domain is right, that of the other has another key and canaries beside it.
func (w *canaryWorld) canaryDKIM() (config string, zone []string) {
	w.t.Helper()
	own := DKIMConfig{Domain: "relay.example.org", Selector: w.new("dkim.selector"), Key: w.dkimKey("own")}
	other := DKIMConfig{Domain: w.new("dkim.domain", "%s.example") + ".example", Selector: "other", Key: w.dkimKey("other")}
	for _, d := range []DKIMConfig{own, other} {
		config += fmt.Sprintf("[[dkim]]\ndomain = %q\nselector = %q\nkey = %q\n", d.Domain, d.Selector, d.Key)
	}
	key, err := own.load()
	if err != nil {
		w.t.Fatal(err)
	}
	record, err := key.Record()
	if err != nil {
		w.t.Fatal(err)
	}
	return config, []string{
		fmt.Sprintf("%s. 60 IN TXT %q", key.Name(), record),
		fmt.Sprintf("other._domainkey.%s. 60 IN TXT %q", other.Domain, "v=DKIM1; k=ed25519; n="+w.new("dkim.text")+"; p="+w.new("dkim.record")),
	}
}

// dkimKey makes a private key, and a canary of what nobody must see of it.
func (w *canaryWorld) dkimKey(name string) (path string) {
	w.t.Helper()
	text, err := content.NewKey("ed25519")
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	secret := block.Bytes[len(block.Bytes)-24:] // the seed's end
	w.add("dkim.key."+name, string(secret))
	return w.file("dkim-"+name+".pem", string(text))
}

// Both ways: what is right is said to be published, what is not is named without a word of it.
func TestCanaryKeysAreChecked(t *testing.T) {
	w := newCanaryWorld(t, "127.0.0.1:0")
	if code, out := w.cli("dkim", "check", "relay.example.org"); code != exitOK {
		t.Errorf("%d %s", code, out)
	}
	if code, out := w.cli("dkim", "check", w.of("dkim.domain")+".example"); code != exitFailure {
		t.Errorf("%d %s", code, out)
	}
}
