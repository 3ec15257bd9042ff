// Package logging is all that the relay ever says about itself: the relay log,
// operational events, audit records, and the reading back of them.
//
// Its one invariant: nothing reaches a sink that is not a field of [Record],
// an [Op] with its typed parameters, or an [Action]. There is no call that
// takes free text, an error's text, or a key. What cannot be held by its field
// is escaped, cut or dropped, and counted.
//
// The one exception has a deadline: while an incident is open ([Incidents]),
// the SMTP dialogue of what matches its scope goes to a file of its own, under
// a key that is in this process's memory alone. It ends, and nothing is left
// of it, at its close, at its deadline, or with the process.
//
// The relay log is one JSON object a line, the running day in
// relay-YYYY-MM-DD.jsonl (UTC), or encrypted in relay-YYYY-MM-DD.live. The
// table in schema.go says which keys there are, in which order, how long, in
// which events and why; the encoder is tested against it, and the
// documentation, the JSON Schema and the lnav format are made from it.
//
// [Log.Write] encodes a record and hands it to a bounded buffer; one goroutine
// gathers what has come in and appends it to the day's file. [Log.Err] tells
// whether the log can be written: a relay whose log cannot be written must not
// take mail.
//
// A day that is over is sealed: compressed and encrypted under a random key of
// its own, which lives in the folder of keys and in no backup. Destroying that key
// is what forgets: at the end of the retention, and whenever a day is written
// anew without a field or without a person. So a copy of the log opens what the
// folder of keys as it is now opens, and no more. Not covered are copies of that
// folder, file systems that keep what was overwritten, and the running day where
// it stands in plain. [Read] and [Trace] read live and sealed days alike, and
// [Verify] tells whether all is as it should be.
//
// Texts are made visible: a control, bidi or zero-width character or a byte
// that is not UTF-8 stands in the log, and in the parsed JSON value, as \x1b,
// \u202e or \xff in plain characters. A backslash stays a backslash, so this
// is for eyes and not to be undone.
package logging
