// Package dmarcrpt tells domains that ask for it what came in their name (DMARC aggregate
// reports, RFC 9990). It counts messages by day, domain and client, and mails one report a
// day.
//
// Its one invariant: it holds and sends no mailbox of anyone; the clients' addresses and
// the domains that it counts are encrypted on the disk, go to the domain that they are about and
// to whom that domain names, and are forgotten when its report was handed over or the day after the next began.
package dmarcrpt
