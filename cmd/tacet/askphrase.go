package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/term"
)

// askPerson gets a passphrase: on the terminal if there is one, or else by
// systemd, whose agents ask whoever looks after the machine. It is shown nowhere.
func askPerson(ctx context.Context, prompt string) ([]byte, error) {
	if terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		defer terminal.Close()
		return askTerminal(terminal, prompt)
	}
	program, err := exec.LookPath("systemd-ask-password")
	if err != nil {
		return nil, errors.New("keys.master is \"prompt\", and there is neither a terminal nor systemd-ask-password to ask by")
	}
	cmd := exec.CommandContext(ctx, program, "--id=tacet:queue", "--timeout=0", prompt+":")
	phrase, err := cmd.Output()
	if err != nil {
		clear(phrase)
		return nil, fmt.Errorf("asking for the passphrase by systemd-ask-password: %w", err)
	}
	return bytes.TrimSuffix(phrase, []byte("\n")), nil
}

func askTerminal(terminal *os.File, prompt string) ([]byte, error) {
	fmt.Fprint(terminal, prompt+": ")
	defer fmt.Fprintln(terminal)
	phrase, err := term.ReadPassword(int(terminal.Fd()))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return phrase, nil
}
