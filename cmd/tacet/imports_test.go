package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Who may import whom. A folder of the project may import of the project only
// what stands here; those that are not listed follow mayImport.
var importRules = map[string][]string{
	"queue":             {},
	"logging":           {},
	"relay":             {"queue", "logging"},
	"queue/pebblestore": {"queue"},
	"queue/queuetest":   {"queue"},
}

// Libraries that live in one place, and that place. Tests may use them as an
// independent peer.
var homes = map[string]string{
	"go.uber.org/zap":                  "logging",
	"github.com/emersion/go-smtp":      "relay/inbound",
	"github.com/emersion/go-sasl":      "relay/inbound",
	"github.com/emersion/go-msgauth":   "relay/content",
	"github.com/d--j/go-milter":        "relay/content",
	"blitiri.com.ar/go/spf":            "relay/content",
	"github.com/cockroachdb/pebble/v2": "queue/pebblestore",
	"github.com/miekg/dns":             "relay/route",
	"golang.org/x/crypto/argon2":       "relay/auth",
	"github.com/spf13/cobra":           "cmd/tacet",
	"filippo.io/age":                   "cmd/tacet",
	"github.com/pelletier/go-toml/v2":  "cmd/tacet",
	"github.com/prometheus":            "cmd/tacet",
	"github.com/coreos/go-systemd/v22": "cmd/tacet",
}

// mayImport tells whether the folder may import another of the project.
func mayImport(folder, other string) bool {
	if folder == "cmd/tacet" {
		return !strings.HasPrefix(other, "cmd/")
	}
	if allowed, listed := importRules[folder]; listed {
		return slices.Contains(allowed, other)
	}
	if below, ok := strings.CutPrefix(folder, "relay/"); ok {
		// A folder below relay, and those above and below it of what it has grown itself.
		part, _, _ := strings.Cut(below, "/")
		above := strings.HasPrefix(folder, other+"/") && strings.HasPrefix(other+"/", "relay/"+part+"/")
		return other == "relay" || other == "queue" || above || strings.HasPrefix(other, folder+"/")
	}
	if strings.HasPrefix(folder, "queue/") {
		return other == "queue"
	}
	return false
}

// goFile is one file of the project, as far as the rules look.
type goFile struct {
	path, folder string
	test         bool
	tree         *ast.File
}

func projectFiles(t *testing.T) []goFile {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	var files []goFile
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, content, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, goFile{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), tree})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files were found", len(files))
	}
	return files
}

func TestImports(t *testing.T) {
	for _, file := range projectFiles(t) {
		for _, spec := range file.tree.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if other, ours := strings.CutPrefix(imported, "tacet/"); ours {
				// The tests of an engine run the suite beside it.
				suite := file.test && other == "queue/queuetest"
				if !suite && !mayImport(file.folder, other) && other != file.folder {
					t.Errorf("%s imports %s", file.path, imported)
				}
				continue
			}
			for library, home := range homes {
				inside := imported == library || strings.HasPrefix(imported, library+"/")
				if inside && file.folder != home && !strings.HasPrefix(file.folder, home+"/") && !file.test {
					t.Errorf("%s imports %s, which lives in %s", file.path, imported, home)
				}
			}
			if imported == "log/slog" && !strings.HasPrefix(file.folder, "logging") {
				t.Errorf("%s imports log/slog: what the relay says goes through logging", file.path)
			}
		}
	}
}

// Every package says what its job is, in doc.go.
func TestPackageComments(t *testing.T) {
	documented := make(map[string]bool)
	for _, file := range projectFiles(t) {
		if file.test {
			continue
		}
		has := file.tree.Doc != nil
		if has && path.Base(file.path) != "doc.go" {
			t.Errorf("%s has a package comment; it belongs into doc.go", file.path)
		}
		documented[file.folder] = documented[file.folder] || has
	}
	for folder, has := range documented {
		if !has {
			t.Errorf("package %s has no package comment", folder)
		}
	}
}

func TestImportRule(t *testing.T) {
	for _, one := range []struct {
		folder, other string
		may           bool
	}{
		{"relay", "relay/auth", false},
		{"relay/auth", "relay/route", false},
		{"relay/auth", "logging", false},
		{"relay/auth", "queue", true},
		{"relay/inbound", "relay/inbound/wire", true},
		{"relay/aggregate/tlsrpt", "relay/aggregate", true},
		{"relay/aggregate/tlsrpt", "relay/aggregate/dmarcrpt", false},
		{"relay/aggregate/tlsrpt", "relay/route", false},
		{"relay/inbound/wire", "relay", true},
		{"queue", "logging", false},
		{"queue/pebblestore", "relay", false},
		{"logging", "queue", false},
		{"logging/seal", "queue", false},
		{"cmd/tacet", "relay/auth", true},
	} {
		if mayImport(one.folder, one.other) != one.may {
			t.Errorf("%s imports %s: want %v", one.folder, one.other, one.may)
		}
	}
}
