// Package queue holds what every part of the relay means by a queued message:
// the [Envelope], the [Reply] a recipient got, the retry [Schedule], and the
// roles [Store] and [Admin] that a storage engine fills.
//
// Its one invariant: once [Store.Put] has returned nil, each recipient of the
// envelope stays in the store until a [Settlement] says what became of it, and
// once the last one is settled nothing of the message is left.
//
// Package queue imports nothing else of the project. Engines live in folders
// below (pebblestore) and pass the conformance suite in queuetest.
package queue
