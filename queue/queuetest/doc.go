// Package queuetest holds the conformance suite that every storage engine of
// the queue passes. A test of the engine calls [Run].
//
// Its one invariant: it asks for nothing that the docs of [queue.Store] and
// [queue.Admin] do not promise.
package queuetest
