package logging

// phraseGroup is phrases that mean one reason, as fold writes them: lower
// case, one space for white space and for underscores.
type phraseGroup struct {
	reason  Reason
	phrases []string
}

// strongPhrases say what happened whatever the codes are. The first group
// with a phrase that is in the text wins, so the narrow ones come first.
var strongPhrases = []phraseGroup{
	{ReasonSystemProblem, []string{"scanners failed", "scan failed", "error in processing"}}, // nothing was found: the search itself failed
	{ReasonVirusFound, []string{
		"virus", "malware", "infected", "trojan", "eicar", "clamav", "ransomware"}},
	{ReasonLinkBlocked, []string{
		"suspicious url", "malicious url", "blacklisted url", "url listed", "url in this message", "suspicious link", "malicious link",
		"links in the message", "link in this message", "surbl", "uribl", "blocked url", "url is blocked", "domain found in the message body", "ivmuri"}},
	{ReasonHeaderInvalid, []string{"rfc 5322 compliant", "headers fail syntax", "duplicate header", "header error"}},
	{ReasonSPFFailed, []string{"spf record with a hard fail", "fails to pass spf"}},
	{ReasonRateLimited, []string{"frequency limited", "recipients this hour", "recipients per hour", "recipients per day", "messages this hour"}},
	{ReasonRelayDenied, []string{"not configured to relay"}},
	{ReasonMailboxDisabled, []string{"temporary locked", "temporarily locked", "disabled recipient", "recipient account is blocked", "compte du destinataire est bloqu"}},
	{ReasonRecipientRestricted, []string{"recipient preferences", "recipient's preferences"}},
	{ReasonGreylisted, []string{
		"greylist", "graylist", "grey list", "gray list", "grey-list", "gray-list", "greypass", "postgrey", "try again in 300 seconds",
		"first time sender", "temporarily rejected as first"}},
	{ReasonSenderVerifyFailed, []string{
		"sender verify failed", "sender verification", "could not verify sender", "postmaster verification", "verify mailfrom", "verify mail from", "callback verification", "callout verification", "sender callout",
		"verification failed for <", "sender address rejected: undeliverable", "sender address rejected: unverified", "cannot verify the sender", "could not complete sender verify"}},
	{ReasonPTRMissing, []string{"fix reverse dns", "mismatches client ip"}},
	{ReasonUnauthenticated, []string{"required authentication level", "unauthenticated senders"}},
	{ReasonSenderDomainUnknown, []string{
		"sender address rejected: domain", "domain name required for sender", "domain of sender", "sender domain", "invalid dns mx or a", "sender's domain",
		"from domain", "sending domain does not exist", "sending domain not found", "mail from domain", "envelope sender domain", "does not have valid mx", "no mx or a record",
		"unresolvable sender", "domain name of sender", "domain may not exist or dns", "bogus mx", "domain does not resolve"}},
	{ReasonTLSRequiredByRemote, []string{
		"starttls command first", "starttls required", "starttls is required", "requires starttls", "use starttls", "tls required", "tls is required", "requires tls", "require tls",
		"encryption required", "encryption is required", "encryption needed", "must use tls", "tls encryption", "without tls", "only accepts tls", "secure connection required",
		"require encryption", "requires encryption", "tls version", "upgrade to tls", "tls 1.2"}},
	{ReasonRateLimited, []string{"unusual rate of"}},
	{ReasonDMARCFailed, []string{"dmarc", "sender's policy", "policy of the sender's domain"}},
	{ReasonUnauthenticated, []string{
		"sender is unauthenticated", "unauthenticated email", "unauthenticated message", "pass authentication checks", "authentication checks (", "spf and dkim", "spf or dkim",
		"dkim or spf", "dkim and spf", "authenticate with either spf", "authenticate with at least one", "authentication results", "authentication information"}},
	{ReasonSPFFailed, []string{
		"spf", "sender policy framework", "sender id (", "sender id check", "not authorized to send from this domain", "not permitted to send mail from", "is not allowed to send mail from", "not a permitted sender", "not designated"}},
	{ReasonDKIMFailed, []string{"dkim", "domainkeys", "signature verification failed"}},
	{ReasonTooManyRecipients, []string{"too many recipients. for"}},
	{ReasonSenderLimit, []string{
		"exceeded the max emails", "emails per hour",
		"sending limit", "sending quota", "daily limit", "daily user", "hourly limit", "maximum number of messages per", "outgoing message limit", "submission quota", "outbound spam", "sender quota",
		"exceeded your quota", "exceeded your daily", "account's limit", "sender rate exceeded", "message quota", "exceeded the maximum number of recipients per"}},
	{ReasonRecipientLimit, []string{
		"is receiving mail at a rate", "is receiving mail too quickly", "receiving too much mail", "user is receiving", "recipient is receiving", "recipient's rate", "recipient limit for this mailbox",
		"message rate for this recipient", "too many messages for this recipient", "recipient rate limit", "rcptthrottled", "recipient throttled"}},
	{ReasonTooManyConnections, []string{
		"too many connections", "too many concurrent", "concurrent connection", "connection limit", "concurrency limit", "simultaneous connections", "maximum number of connections", "max connections",
		"too many simultaneous", "too many sessions", "too many tls sessions", "connections from your", "connection count", "too many open connections", "sender thread limit", "no more connections", "too many smtp sessions",
		"maximum concurrent", "too many hosts connect", "number of concurrent", "connection refused by rate"}},
	{ReasonPolicy, []string{"tenant allow block list", "external forwarding", "inbounds disabled"}},
	{ReasonBlockedByList, []string{
		"denyip", "deny ip", "spamhaus", "spamcop", "sorbs", "barracudacentral", "barracuda reputation", "uceprotect", "psbl", "mailspike", "abuseat", "invaluement", "hostkarma", "surriel", "nixspam", "backscatterer",
		"spameatingmonkey", "dnswl", "abusix", "spamrats", "manitu", "senderscore", "ipcheck.proofpoint", "cloudmark", "ix.dnsbl", "0spam", "blocked using", "blocklist", "block list", "block-list", "blacklist", "black list",
		"black-list", "blackhole", "dnsbl", "dns-bl", "dns bl", "rbl", "rhsbl", "denylist", "deny list", "banned sending ip", "is listed", "listed in", "listed at", "listed by", "listed on", "due to listing", "due to its listing", "banned list", "local blocklist",
		"(bl)", "on our block", "delist", "hosts-deny", "ip blocked", "blocked ip", "ip address is blocked", "ip address has been blocked", "your ip has been blocked", "ip is blocked", "blocked by our", "removal from this list", "not accepted from this ip", "in our blocklist", "listed address"}},
	{ReasonDynamicAddress, []string{
		"dynamic ip", "dynamic address", "dynamically", "dialup", "dial-up", "dial up", "residential", "generic ptr", "generic hostname", "generic reverse", "looks dynamic", "transient ip", "end user ip", "end-user ip", "provider's mail relay", "isp's mail server", "smtp server of your isp"}},
	{ReasonPTRMissing, []string{
		"reverse dns", "reverse-dns", "rdns", " ptr", "ptr record", "reverse hostname", "find your hostname", "reverse lookup", "reverse record", "reverse host", "no reverse", "reverse mapping", "forward-confirmed", "fcrdns",
		"reverse name", "reverse ip", "inverse dns", "does not have a hostname", "ip name lookup failed", "ip name possibly forged", "hostname verification failed"}},
	{ReasonHeloRejected, []string{
		"helo command rejected", "helo rejected", "ehlo rejected", "invalid helo", "invalid ehlo", "bad helo", "bad ehlo", "helo name", "ehlo name", "helo hostname", "forged helo", "helo/ehlo", "ehlo/helo", "helo argument", "ehlo argument",
		"helo domain", "ehlo domain", "your helo", "your ehlo", "helo is", "helo was", "helo invalid", "access denied - invalid helo", "helo does", "illegal helo", "syntactically invalid helo", "syntactically invalid ehlo", "helo greeting", "helo mismatch", "helo string"}},
	{ReasonReputation, []string{
		"reputation", "unexpected volume or user complaints", "user complaints", "complaint", "ts01", "ts02", "ts03", "tss04", "tss09", "(nowl)", "poor sender", "sender score", "trust level", "untrusted", "not trusted", "sender is suspicious", "suspicious ip", "bad history"}},
	{ReasonRateLimited, []string{
		"rate limit", "rate-limit", "ratelimit", "rate has been limited", "too many messages", "too many mails", "too many emails", "too fast", "throttl", "sending rate", "exceeded the rate", "exceeds rate", "too much mail",
		"too many recipients received this hour", "unexpected volume", "mail rate", "message rate", "rate exceeded", "rate is limited", "too many requests", "slow down", "too often", "limits for how many", "exceeded threshold", "frequency", "submission rate", "messages per connection",
		"limit exceeded for your ip", "exceeded the connection rate", "connection rate", "number of messages", "too many messages per", "message limit", "mails per hour", "flood", "too many mail from"}},
	{ReasonLoop, []string{
		"mail loop", "loops back", "looping", "too many hops", "hop count", "hopcount", "too many received", "loop detected", "routing loop", "message loop", "delivery loop", "possible loop", "maximum hop", "points back to"}},
	{ReasonMailboxFull, []string{"mailbox size limit", "quota exceeded. the recipient", "recipients mailbox is full"}},
	{ReasonTooLarge, []string{
		"message size", "message too large", "message is too large", "too big", "exceeds size", "size limit", "size exceeds", "maximum message size", "exceeds the maximum size", "larger than", "exceeds maximum", "message length exceeds",
		"mail size", "message exceeds", "maximum size", "max size", "size of the message", "message larger", "exceeded google's message", "content too large", "body too large", "maximum allowed size", "data size"}},
	{ReasonDiskFullRemote, []string{
		"insufficient system storage", "insufficient disk", "not enough disk", "no space left", "out of disk", "disk full", "system storage exceeded", "useddiskspace", "diskspace", "mail system full", "system full", "filesystem full", "no disk space",
		"low on disk", "not enough free space", "insufficient queue space", "not enough space in the queue"}},
	{ReasonOverloaded, []string{
		"insufficient system resources", "overload", "too busy", "server busy", "server is busy", "system busy", "system is busy", "resources temporarily", "load too high", "load is too high", "load average", "insufficient resources", "out of memory", "cannot allocate",
		"queue is full", "back pressure", "backpressure", "resource temporarily unavailable", "resources unavailable", "high load", "under heavy load", "ports are busy", "max queue", "excessive load"}},
	{ReasonMailboxFull, []string{
		"mailbox full", "mailbox is full", "mailbox was full", "over quota", "overquota", "over-quota", "quota exceeded", "exceeded quota", "exceeds quota", "exceeded the quota", "quota exceed", "quota full", "quota limit", "out of storage", "exceeded storage",
		"storage allocation", "insufficient mailbox", "not enough storage", "inbox is full", "mail folder is full", "mailfolder is full", "mailbox has exceeded", "exceeded its quota", "exceeded their quota", "disk quota", "user is over",
		"mailbox limit", "no space in mailbox", "mailbox space", "inbox full", "overdrawn", "mailbox storage", "account is full", "box full", "is over the allowed quota", "quota violation", "postfach ist voll", "postfach voll", "insufficient space in", "storage quota"}},
	{ReasonTooManyRecipients, []string{
		"too many recipients", "too many rcpt", "recipients limit", "recipient limit", "maximum recipients", "max recipients", "number of recipients", "recipients exceeded", "only one recipient", "one recipient at a time", "multiple recipients"}},
	{ReasonMailboxBusy, []string{
		"mailbox busy", "mailbox is busy", "mailbox locked", "mailbox is locked", "mailbox in use", "mailbox temporarily", "mailbox is temporarily", "mailbox not available temporarily", "account temporarily", "user temporarily", "mailbox is currently",
		"account is temporarily", "account that you tried to reach is temporarily", "recipient temporarily", "being migrated", "mailbox being moved", "user unavailable temporarily"}},
	{ReasonAuthFailed, []string{"authentication unsuccessful", "clientauthentication is disabled"}},
	{ReasonMailboxDisabled, []string{
		"is disabled", "mailbox disabled", "account disabled", "user disabled", "has been disabled", "disabled mailbox", "is inactive", "mailbox inactive", "inactive user", "inactive account", "account inactive", "suspended", "deactivated", "account has been locked",
		"account is locked", "account locked", "account closed", "account has been closed", "discontinued", "has been terminated", "account expired", "user expired", "mailbox is frozen", "account is frozen", "mailbox blocked", "account blocked", "no longer active", "over 1 year",
		"account is closed", "recipient disabled", "address disabled", "recipient is disabled", "account has expired", "disabled user", "administratively disabled"}},
	{ReasonPolicy, []string{"unusual sending activity", "may not be mail exchanger"}},
	{ReasonContentRejected, []string{"con:b"}},
	{ReasonTryAgainLater, []string{"dyn:t", "not accepting connections"}},
	{ReasonRecipientRestricted, []string{
		"resolver.rst", "restricted to", "recipient is not allowed to receive", "only accepts", "accepts mail only", "accept mail only from", "members only", "not allowed to send to", "not allowed to post", "not permitted to send to", "sender not authenticated for",
		"only authenticated senders", "not on the list of allowed", "allowed senders", "recipient only accepts", "restricted address", "restricted recipient", "restricted access", "from internal senders", "not a member", "not subscribed", "does not have permission to send to", "recipient does not accept mail from",
		"recipient has blocked", "blocked by the recipient", "recipient's filter", "not accepting messages from you", "refuses mail from", "does not accept mail from you", "personal block list", "not in the recipient", "recipient's block", "rejected by recipient", "refused by recipient", "notauthenticated.group"}},
	{ReasonSenderNotAllowed, []string{"not owned by user", "sendasdenied", "send as this sender", "address is not verified"}},
	{ReasonAuthRequired, []string{"rejected: not logged in"}},
	{ReasonAddressSyntax, []string{"bad sender address syntax", "bad recipient address syntax", "invalid sender address, domain"}},
	{ReasonSenderRejected, []string{"sender address rejected", "bad outbound sender", "mails from this sender", "mail from this sender", "invalid return path"}},
	{ReasonMailboxMoved, []string{
		"has moved", "mailbox moved", "moved to", "user not local", "user has moved", "new address is", "changed their address", "has changed", "please use the new address", "please forward to", "no longer at this", "no longer works here", "has left the"}},
	{ReasonUserUnknown, []string{
		"user unknown", "unknown user", "no such user", "no such mailbox", "no such recipient", "no such address", "no such person", "no such account", "no such local", "no such email", "user does not exist", "user doesn't exist", "user not exist", "account does not exist", "account doesn't exist",
		"address does not exist", "mailbox does not exist", "mailbox doesn't exist", "recipient does not exist", "recipient doesn't exist", "alias does not exist", "does not exist here", "that you tried to reach does not exist", "no mailbox", "mailbox not found", "mailbox unavailable", "mailbox unknown", "unknown mailbox",
		"recipient not found", "user not found", "account not found", "address not found", "recipnotfound", "unknown recipient", "recipient unknown", "invalid recipient", "recipient invalid", "not a valid recipient", "recipient address rejected: undeliverable", "recipient address rejected: unknown", "unrouteable", "unroutable",
		"not a valid mailbox", "invalid mailbox", "not a valid user", "invalid user", "addressee unknown", "unknown address", "address unknown", "unknown local", "unknown account", "unknown email", "doesn't have a", "mailbox here by that name", "by that name", "does not have an account", "no valid mailbox", "not our customer", "mailbox no longer", "no longer valid",
		"no longer available", "no longer in use", "not known here", "not known at this", "is unknown", "name is unknown", "non-existent", "nonexistent", "non existent", "not exist", "bad destination mailbox", "not found in directory", "not listed in", "recipient not recognized", "user not recognized", "recipient is not a local",
		"is not a known user", "not a known user", "unable to verify recipient", "recipient verification", "recipient verify", "undeliverable address", "user invalid", "invalid address", "existiert nicht", "unbekannt", "cannot find recipient", "no account", "no user", "not a recognised user", "recipient address rejected: user", "longer on server", "not a registered", "could not be found", "destination address is not"}},
	{ReasonSenderNotAllowed, []string{
		"send-as", "sender address is not allowed", "not authorized to send as", "not allowed to use this sender", "not authorized to use", "not allowed as sender", "must match the authenticated", "envelope sender does not match",
		"does not belong to", "not permitted to use the sender", "sender address does not match", "from address does not match", "sender is not authorized", "submit as", "unauthorized sender", "sender not authorized"}},
	{ReasonRelayDenied, []string{
		"relay access denied", "relaying denied", "relay denied", "relay not permitted", "relay not allowed", "unable to relay", "relaying not", "not permitted to relay", "relay prohibited", "no relaying", "not relay", "open relay", "relaying is", "relay is not", "cannot relay", "relaying prohibited",
		"relay rejected", "relay attempt", "won't relay", "refuse to relay", "not allowed to relay", "unauthorized relay", "relay to", "relay from", "relaying from", "relaying to", "not in my list of allowed rcpthosts", "rcpthosts", "is not local and", "third-party relay"}},
	{ReasonAuthRequired, []string{
		"authentication required", "auth required", "authentication is required", "must authenticate", "ehlo and auth", "auth first", "local user only", "allowed with authentication", "only with authentication", "receive your mail before", "mail before sending", "pop before", "failed to authenticate", "failed to authenticate", "please authenticate", "not authenticated", "need to authenticate", "authenticate first", "requires authentication", "require authentication", "client was not authenticated",
		"smtp auth", "must be authenticated", "log in first", "login required", "must log in", "need authentication", "authorization required", "authenticate before", "check for mail before"}},
	{ReasonAuthFailed, []string{
		"authentication failed", "authentication credentials invalid", "invalid credentials", "username and password not accepted", "bad username or password", "password incorrect", "incorrect password", "invalid login", "login incorrect", "authentication failure",
		"application-specific password", "authentication error", "incorrect authentication data", "authentication rejected", "authentication mechanism", "authentication temporarily", "temporary authentication", "auth failed", "bad credentials", "basic authentication is disabled"}},
	{ReasonPhishingSuspected, []string{"phish", "impersonat", "spoof", "fraud", "scam"}},
	{ReasonSpamSuspected, []string{"considers this message spam", "spamassassin", "bulkmail", "as bulk", "by dcc"}}, // who may ask to get the mail as an attachment
	{ReasonAttachmentBlocked, []string{
		"attachment", "file type", "executable", "banned file", "potential security issue", "blocked file", "file extension", "forbidden extension", "mime type", "banned content", "banned name", "password-protected archive", "encrypted archive"}},
	{ReasonSpamSuspected, []string{
		"spam", "unsolicited", "junk mail", "bulk mail", "bulk email", "likely suspicious", "gtube", "uce ", "message scored", "bayes", "razor", "pyzor", "dcc check", "undesirable content", "heuristic"}},
	{ReasonHeaderInvalid, []string{
		"rfc 5322", "rfc5322", "rfc 2822", "rfc2822", "rfc 822", "missing header", "from header", "from: header", "multiple from", "message-id", "header syntax", "duplicate header", "invalid header", "malformed header", "header missing", "header field", "missing date", "invalid date", "multiple addresses in from",
		"missing from", "header line", "too many headers", "bad header", "headers too", "header check", "invalid from", "from field", "missing required header", "no from", "subject header", "non-ascii characters in header", "improper use of 8-bit"}},
	{ReasonNoSMTPUTF8, []string{"smtputf8", "internationalized", "non-ascii address", "eai "}},
	{ReasonSyntax, []string{
		"bare lf", "bare <lf>", "bare <cr", "bare cr", "bare newline", "bare carriage", "bare line feed", "line too long", "line length", "lines longer", "stray newline", "stray cr", "stray lf", "stray carriage", "smite", "smuggling", "nul character", "null character", "maximum line"}},
	{ReasonMailNotAccepted, []string{
		"no mail-enabled", "no longer relays", "does not accept mail", "does not accept email", "doesn't accept mail", "not accept mail", "not accepting mail", "not accepting any mail", "not accepting messages", "no such domain", "no mail accepted", "does not handle mail", "null mx", "nullmx", "not capable to receive", "does not receive mail", "no longer accepts mail", "domain not hosted", "not serviced", "not a mail server", "does not receive email",
		"domain is not hosted", "not hosted here", "domain not handled", "domain not configured", "domain is not configured", "don't handle", "not responsible for", "not accept messages", "no smtp service here", "smtp service not available here", "unknown domain", "domain unknown", "unsupported domain", "domain disabled", "not a local domain", "domain not found", "not accepted here"}},
	{ReasonSenderRejected, []string{
		"sender rejected", "sender denied", "sender blocked", "sender is blocked", "banned sender", "sender not allowed", "bad sender", "invalid sender", "sender invalid", "sender address denied", "sender refused", "mail from rejected", "sender not accepted", "rejected sender", "refused sender", "sender address is",
		"null sender", "null reverse", "empty sender", "empty envelope sender", "bounces are not", "bounce messages", "bounces not", "not accept bounces", "sender email address", "blocked sender", "sender unknown", "unknown sender", "envelope sender", "envelope blocked", "no bounces", "backscatter", "not accepting null"}},
	{ReasonAddressSyntax, []string{
		"address syntax", "malformed address", "malformed recipient", "malformed sender", "domain missing", "fully-qualified address", "fully qualified address", "illegal address", "malformed local", "syntax error in address", "syntax error in recipient", "syntax error in mail", "syntactically incorrect", "illegal character", "invalid characters", "invalid character", "address format", "invalid domain name", "syntax error in parameters or arguments (", "invalid syntax in"}},
	{ReasonRemoteShutdown, []string{
		"shutting down", "maintenance", "going down", "system shutdown", "server shutdown", "being shut down", "shutdown in progress", "restarting", "rebooting"}},
	{ReasonRemoteTimeout, []string{"timeout", "timed out", "time-out", "time out", "idle too long", "idle for too long", "too slow", "took too long", "time limit"}},
	{ReasonRemoteDNS, []string{
		"host unknown", "dns error", "name server timeout", "dns failure", "dns lookup", "dns problem", "dns query", "dns temporary", "dns resolution", "dns server", "could not resolve", "cannot resolve", "unable to resolve", "name server", "nameserver", "resolution failure", "host not found", "nxdomain", "servfail", "dns fail", "domain lookup", "name or service not known", "name service"}},
	{ReasonRemoteRouting, []string{
		"no route", "unable to route", "cannot route", "connection refused", "next hop", "relay host", "unable to connect", "could not connect", "cannot connect", "failed to connect", "upstream", "forwarding failed", "mailer error", "hop not", "delivery path", "destination server", "wrong office 365 region"}},
	{ReasonSystemProblem, []string{
		"internal error", "local error", "local problem", "internal server", "server error", "configuration error", "misconfigur", "configuration problem", "temporary lookup", "lookup failure", "local configuration", "system problem", "system error", "queue file", "database", "software error", "cannot open", "milter", "ldap", "backend", "error in processing",
		"could not complete", "mail server temporarily rejected", "problem with the recipient's", "i/o error", "dot-lock", "dotlock", "open mailbox", "can't create output", "maildir", "matches found in", "too many results", "cannot store", "could not store", "can't write", "read error", "temporary error", "temporary failure", "temporary message delivery failure", "unable to process connection", "technical problem", "technical difficult", "processing error", "processing failed", "process failed", "delivery failed", "command died", "temporary problem", "fatal error", "service error", "unable to accept", "unexpected error", "mail server error", "temporary server", "content filter error", "scanner", "failed to process", "unable to process", "unable to save", "error writing", "mapi exception", "storedrv", "deliver.exception"}},
}

// weakPhrases say little, and are asked after the enhanced code.
var weakPhrases = []phraseGroup{
	{ReasonContentRejected, []string{
		"content rejected", "content denied", "content blocked", "content filter", "content policy", "content restriction", "message content", "due to content", "contents of", "content of your", "prohibited content", "unacceptable content", "rejected by filter", "rejected by the filter", "mail content", "content not", "body contains", "found in body", "content-"}},
	{ReasonCommandRejected, []string{
		"bad sequence", "unrecognized command", "unrecognised command", "command unrecognized", "unknown command", "command unknown", "command not", "not implemented", "unimplemented", "bad command", "invalid command", "syntax error", "need mail", "need rcpt", "no valid recipients", "pipelin", "synchronization", "protocol error", "unsupported", "command rejected",
		"protocol violation", "too many errors", "too many protocol errors", "too many bad commands", "too many invalid", "too many unrecognized", "too many syntax", "say helo", "helo first", "ehlo first", "out of order", "improper", "nested mail", "command parameter", "sender already", "polite people", "unexpected command", "invalid argument", "invalid parameter", "sequence of commands"}},
	{ReasonRecipientRejected, []string{"recipient address rejected: access denied"}},
	{ReasonTryAgainLater, []string{"verification in progress", "dropped due to"}},
	{ReasonPolicy, []string{
		"your access to", "message filtered", "policy", "policies", "administrative prohibition", "administratively", "access denied", "access rejected", "not permitted", "not allowed", "denied", "prohibited", "forbidden", "transport.rules", "transport rule", "blocked", "banned", "unauthorized", "not authorized", "refused by", "rejected by", "restriction", "security", "no service", "not welcome", "rejected due", "disallowed", "contact your"}},
	{ReasonRecipientRejected, []string{"recipient address rejected", "recipient rejected", "recipient refused", "address rejected", "rcpt rejected", "recipient denied", "cannot receive", "undeliverable", "invalid rcpt", "mailbox"}},
	{ReasonRemoteShutdown, []string{"closing transmission", "closing channel"}},
	{ReasonTryAgainLater, []string{"try again", "try later", "temporar", "retry", "resend", "deferred", "later", "delayed", "not available", "unavailable", "busy"}},
	{ReasonContentRejected, []string{"message rejected", "message refused", "message was rejected", "message not accepted", "message denied", "rejected message", "not accepted"}},
	{ReasonSystemProblem, []string{"transaction failed", "error", "failure", "failed", "problem"}},
}
