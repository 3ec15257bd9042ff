// Package quota counts what logged-in users send, and says when it is enough.
//
// Its one invariant: within any hour and any day no user gets more accepted
// than the limits say, whatever number of sessions they use, and nothing of
// what is kept for that names anyone: users and recipients stand in it as keyed
// hashes, and are forgotten with the window that they count in.
//
// A message is counted when it is about to be stored ([Meter.Charge]): all or nothing, under
// one lock. A [Transaction] says so before, at MAIL and RCPT, so that a client learns which
// recipients are too many while it can still do something about it.
//
// Counts survive a restart, and a crash but for those of the last seconds.
package quota
