package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// README.md names the keys that wait for a restart.
func TestReadmeRestarts(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if words := strings.Join(strings.Fields(string(content)), " "); !strings.Contains(words, "those that have changed: "+fixedNames()+".") {
		t.Errorf("README.md does not say that these wait for a restart: %s", fixedNames())
	}
}

// The config in README.md has every key with its default, and is valid.
// With TACET_GOLDEN=write the test writes it down anew.
func TestReadmeConfig(t *testing.T) {
	var text bytes.Buffer
	exampleConfig().print(&text, true)
	if _, err := ParseConfig("README.md", text.Bytes()); err != nil {
		t.Errorf("what README.md should show is no valid config: %v", err)
	}
	name := filepath.Join("..", "..", "README.md")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), "## The config\n")
	intro, rest, open := strings.Cut(rest, "```toml\n")
	shown, after, closed := strings.Cut(rest, "```\n")
	if !found || !open || !closed {
		t.Fatal("README.md has no config block under \"## The config\"")
	}
	if os.Getenv("TACET_GOLDEN") == "write" {
		content := before + "## The config\n" + intro + "```toml\n" + text.String() + "```\n" + after
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have := make(map[string]bool)
	for line := range strings.Lines(shown) {
		have[line] = true
	}
	for line := range strings.Lines(text.String()) {
		if !have[line] {
			t.Errorf("README.md lacks %q", line)
		}
	}
	if shown != text.String() && !t.Failed() {
		t.Error("the config in README.md is not in the order of the manual, or has more than that")
	}
}
