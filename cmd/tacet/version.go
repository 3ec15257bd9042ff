package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what is known of the binary.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version, the revision it was built from, and the Go release that built it.",
		Example: `  tacet version
  tacet version --json | jq -r .version`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			if c.json {
				return c.printJSON(v)
			}
			fmt.Fprintf(c.out, "tacet %s", v.Version)
			if v.Revision != "" {
				fmt.Fprintf(c.out, " (%.12s)", v.Revision)
			}
			_, err := fmt.Fprintf(c.out, ", %s, %s\n", v.Go, v.Platform)
			return err
		},
	}
}

// buildVersion reads what the Go tool wrote into the binary.
func buildVersion() version {
	v := version{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
