package main

import "github.com/spf13/cobra"

// newPrivacy is the group of commands that answer to the people whose mail is relayed.
func newPrivacy(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "privacy",
		Short: "Answer the people whose mail is relayed",
		Long: `Answer the people whose mail is relayed: what is known about them, and forgetting it.

What reads or changes data of people leaves an audit record: who asked, when, for which
ticket and how much it came to, never what it showed.`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newPrivacyReport(c), newPrivacyStatement(c), newPrivacyRecord(c), newPrivacyExport(c), newPrivacySelftest(c))
	cmd.AddCommand(newPrivacyErase(c))
	return cmd
}
