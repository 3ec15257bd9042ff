// Package auth says who may submit, and as whom: it checks a user name and a
// password against the users file, and the addresses that the user sends as.
//
// Its one invariant: whoever fails learns nothing. An unknown user and a
// wrong password cost the same work and give the same error, and no flood of
// attempts takes more than a fixed amount of memory.
//
// The file holds one user a line, as `tacet user add` writes it:
//
//	name:$argon2id$v=19$m=19456,t=2,p=1$salt$hash
//	name:$argon2id$v=19$m=19456,t=2,p=1$salt$hash:senders=anna@example.org messages_per_day=500
//
// Behind the hash stand the addresses that the user may send as ([ParseSenders]), and limits
// ([relay.Limit]). For who has no word of them, [Defaults] holds.
//
// Empty lines and lines that begin with "#" are comments. Names are compared
// octet by octet: "Anna" and "anna" are two users, and no Unicode
// normalisation is applied, neither to names nor to passwords. A client
// sends what the user typed, and the password that was set is the one that works.
package auth
