package main

import (
	_ "embed" // the unit files
	"fmt"

	"github.com/spf13/cobra"
)

//go:embed dist/tacet.service
var serviceUnit string

//go:embed dist/tacet.socket
var socketUnit string

func newUnit(c *console) *cobra.Command {
	var socket bool
	cmd := &cobra.Command{
		Use:   "unit",
		Short: "Print a hardened systemd unit",
		Long: `Print the systemd service unit for the relay: readiness notification, reload by
SIGHUP, and as little of the machine as the relay needs. With --socket print the
socket unit instead, for systemd to open the ports.`,
		Example: `  useradd --system --home-dir /var/lib/tacet --shell /usr/sbin/nologin tacet
  install -d -g tacet -m 0750 /etc/tacet
  install -d -o tacet -g tacet -m 0750 /var/lib/tacet
  tacet unit > /etc/systemd/system/tacet.service
  systemctl daemon-reload && systemctl enable --now tacet`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			name, text := "tacet.service", serviceUnit
			if socket {
				name, text = "tacet.socket", socketUnit
			}
			if c.json {
				return c.printJSON(map[string]string{"name": name, "unit": text})
			}
			_, err := fmt.Fprint(c.out, text)
			return err
		},
	}
	cmd.Flags().BoolVar(&socket, "socket", false, "print the socket unit")
	return cmd
}
