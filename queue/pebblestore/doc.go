// Package pebblestore keeps the queue on one disk of this machine, in Pebble,
// sealed from the first byte. It fills [queue.Store] and [queue.Admin].
//
// Its one invariant: what Put acknowledged can be read until its last
// recipient is settled, and a few minutes after that by no one: its key is
// then gone from the key folder, and nothing but its key ever opened it.
//
// # On disk
//
// Dir holds the engine, and in content/ one file for each message that is too
// large to stand in memory. KeyDir holds the keys, and is in no backup. In the
// engine a message has these records, named by its queue ID alone:
//
//	e ID            the envelope as it was accepted (codec.go)
//	c ID            the content of a small message
//	s ID recipient  how delivery to one recipient stands, once that has changed
//
// Each message has a key of its own (keys.go), under which every record is
// sealed with AES-256-GCM. The key derives from that of the epoch in which the
// message came. An epoch lasts minutes; at its end the keys of the messages
// that are still queued move to the slot file (slots.go), and the epoch's key
// is destroyed (keeper.go). A slot is overwritten once its message is settled.
//
// # In memory
//
// The index (index.go) has for each destination a heap of what waits there.
// It is built from the envelopes at open (scan.go), while mail is taken
// already. Recent small messages stay in memory whole (recent.go), so that
// what is delivered at once is never read back.
//
// # Commits
//
// All writes go through one committer (commit.go), which gathers what many
// sessions bring into one synced batch.
//
// # Damage
//
// Open looks for damage that the engine would not see (salvage.go). Where there
// is any, it copies what can be read of the tables (salvagetable.go) and logs
// (salvagelog.go) into a new engine (salvagecopy.go), which takes the place of
// the damaged one in one step. Each record is sealed by itself, so nothing
// altered passes for whole, and what stands beside it in a damaged block is
// sound, unless the block's own header is what is damaged. A message of which a part is missing is set aside
// and counted; so are, by number, those whose records left nothing but a gap in
// the log. That count errs on the high side.
//
// Damage of a record's block shows when the queue is read, after Open has looked. What stands beside it is not
// known then: its records, and the keys that an earlier process left, stay until the next Open has copied it.
//
// What salvaging can repeat: a message whose deletion was in the damaged part
// is delivered once more if its key still exists, which it does for some
// minutes after it was settled; and the recipients of one whose newest state
// was there alone are tried again. A message whose key is gone stays unreadable.
package pebblestore
