// Command tacet is the relay and everything an admin does with it, in one
// binary, and the only place where the parts of the project are put together.
//
// Its one invariant: a subcommand prints for people by default and JSON with
// --json, and ends with 0 when it did what was asked, 1 when it could not and
// 2 when it was asked wrongly.
//
// One file is one subcommand, named as it. The daemon is assembled in
// daemon.go; serve.go and try.go run it. config.go and its siblings read the
// config: config_keys.go has one row for each key, and everything else about
// a key (default, bounds, help, manual page) comes from that row.
package main
