package main

import (
	"fmt"
	"io"
	"os"

	"filippo.io/age"
)

// export writes a new file that only its owner may read, encrypted to an age
// recipient if one is given. What failed leaves no file.
func (c *console) export(path, recipient string, write func(io.Writer) error) (err error) {
	var to age.Recipient
	if recipient != "" {
		if to, err = age.ParseX25519Recipient(recipient); err != nil {
			return wrongUsage("--age: want a recipient such as \"age1…\"")
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the export: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	if to == nil {
		err = write(f)
	} else {
		err = encryptTo(f, to, write)
	}
	if err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	c.note("written to %s", path)
	return nil
}

func encryptTo(f io.Writer, to age.Recipient, write func(io.Writer) error) error {
	sealed, err := age.Encrypt(f, to)
	if err != nil {
		return fmt.Errorf("encrypting the export: %w", err)
	}
	if err := write(sealed); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("encrypting the export: %w", err)
	}
	return nil
}
