package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY opens a terminal of the test's own.
func openPTY(t *testing.T) (person, terminal *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return person, terminal
}

// What is typed is not shown, and the terminal shows again what is typed later.
func TestPassphraseIsNotShown(t *testing.T) {
	person, terminal := openPTY(t)
	echo := func() bool {
		state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	type asked struct {
		phrase []byte
		err    error
	}
	answer := make(chan asked, 1)
	go func() {
		phrase, err := askTerminal(terminal, "Passphrase")
		answer <- asked{phrase, err}
	}()
	deadline := time.Now().Add(scriptPatience)
	for echo() {
		if time.Now().After(deadline) {
			t.Fatal("the terminal still shows what is typed")
		}
	}
	if _, err := person.WriteString("correct horse\n"); err != nil {
		t.Fatal(err)
	}
	got := <-answer
	if got.err != nil || string(got.phrase) != "correct horse" {
		t.Fatalf("%q, %v", got.phrase, got.err)
	}
	shown := make([]byte, 1000)
	n, err := person.Read(shown)
	if err != nil || !strings.HasPrefix(string(shown[:n]), "Passphrase: ") || strings.Contains(string(shown[:n]), "horse") {
		t.Errorf("the terminal shows %q, %v", shown[:n], err)
	}
	if !echo() {
		t.Error("the terminal stays silent")
	}
}

// A new passphrase is asked for twice, and one that nobody can have meant is refused.
func TestNewPassphrase(t *testing.T) {
	fault := errors.New("no one is there")
	for name, one := range map[string]struct {
		answers []string
		want    string
	}{
		"good":    {[]string{"correct horse", "correct horse"}, ""},
		"differs": {[]string{"correct horse", "correct hors"}, "differ"},
		"short":   {[]string{"horse"}, "12 or more"},
		"empty":   {[]string{""}, "12 or more"},
		"long":    {[]string{strings.Repeat("x", maxPhrase+1)}, "12 or more"},
		"nobody":  {nil, fault.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			config := &Config{DataDir: t.TempDir(), Keys: KeysConfig{Master: sourcePrompt}}
			var asked int
			ask := func(context.Context, string) ([]byte, error) {
				if asked == len(one.answers) {
					return nil, fault
				}
				asked++
				return []byte(one.answers[asked-1]), nil
			}
			key, err := config.masterKey(t.Context(), ask)
			if one.want != "" {
				if err == nil || !strings.Contains(err.Error(), one.want) {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(config.keyDir(), saltName)); err == nil {
					t.Error("a salt was made all the same")
				}
				return
			}
			if err != nil || len(key) != masterSize {
				t.Fatal(len(key), err)
			}
			asked = 1 // once from now on
			again, err := config.masterKey(t.Context(), ask)
			if err != nil || !bytes.Equal(again, key) || asked != 2 {
				t.Errorf("asked again, it came to another key: %v", err)
			}
		})
	}
}

// A passphrase without its salt is worth nothing: no new salt is made beside keys.
func TestLostSalt(t *testing.T) {
	config := &Config{DataDir: t.TempDir(), Keys: KeysConfig{Master: sourcePrompt}}
	if err := os.MkdirAll(config.keyDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config.keyDir(), "slots"), make([]byte, 64), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(context.Context, string) ([]byte, error) {
		t.Error("a person was asked for nothing")
		return []byte("correct horse"), nil
	}
	if _, err := config.masterKey(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Error(err)
	}
	salt := filepath.Join(config.keyDir(), saltName)
	if err := os.WriteFile(salt, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.masterKey(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Error(err)
	}
}

func TestReadKey(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, masterSize)
	digits := strings.Repeat("a5", masterSize)
	for text, good := range map[string]bool{
		string(raw): true, digits: true, digits + "\n": true, strings.ToUpper(digits) + "\r\n": true,
		"": false, digits[1:]: false, digits + "0": false, "x" + digits[1:]: false, string(raw[1:]): false, digits + "\nmore": false,
	} {
		key, err := readKey(strings.NewReader(text), "the file")
		if good && (err != nil || !bytes.Equal(key, raw)) || !good && err == nil {
			t.Errorf("%q: %x, %v", text, key, err)
		}
	}
}
