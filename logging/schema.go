package logging

// Limits of what a line holds, in characters unless said otherwise. A text
// that is longer is cut, its last character an ellipsis.
const (
	limitUser        = 255
	limitAddress     = 1000 // a path is at most 256 octets (RFC 5321 §4.5.3.1.3); UTF-8 and escapes take more
	limitSubject     = 200
	limitID          = 64
	limitHeaderName  = 128
	limitHeaderValue = 16 << 10
	limitHeaders     = 64 << 10 // octets of the encoded field
	limitEnhanced    = 999      // of subject and detail (RFC 3463 §2)
	limitAttempt     = 1_000_000
)

// FieldType is the JSON type and form of a field.
type FieldType string

// The types of fields.
const (
	TypeTime     FieldType = "time"     // string: RFC 3339, UTC, microseconds
	TypeIP       FieldType = "ip"       // string: an IPv4 or IPv6 address without a zone
	TypeText     FieldType = "text"     // string: visible characters, cut at the limit
	TypeToken    FieldType = "token"    // string: letters, digits, "-", "." and "_"; dropped if longer than the limit
	TypeEnum     FieldType = "enum"     // string: one of a closed list
	TypeEnhanced FieldType = "enhanced" // string: class.subject.detail (RFC 3463)
	TypeNumber   FieldType = "number"   // integer from 1 to the limit
	TypeMark     FieldType = "mark"     // true
	TypeObject   FieldType = "object"
	TypeHeaders  FieldType = "headers" // array of [name, value]
)

// Class says how close a field is to a person, and with it who may read it.
type Class string

// The classes.
const (
	ClassTechnical Class = "technical" // how and when
	ClassStatus    Class = "status"    // what became of it
	ClassIdentity  Class = "identity"  // who to whom
	ClassSensitive Class = "sensitive" // what about, from where
)

// Field is one key of the relay log: the single source of what a line can
// hold. A sub-key has a dot: "status.event".
type Field struct {
	Key     string
	Type    FieldType
	Limit   int // characters of a text or token, the greatest number; 0: none
	Class   Class
	Promise string   // the promise it serves, and nothing else
	Events  eventSet // in which it may stand
	Values  func() []string
	Meaning string
}

// Allowed tells whether the field may stand in a record of the event.
func (f Field) Allowed(e Event) bool { return f.Events.has(e) }

type eventSet uint32

func events(list ...Event) (set eventSet) {
	for _, e := range list {
		set |= 1 << e
	}
	return set
}

func (s eventSet) has(e Event) bool { return s>>e&1 == 1 }

const (
	allEvents     eventSet = 1<<eventEnd - 2
	messageEvents          = allEvents &^ (1<<AuthFailed | 1<<TLSFailed)
	attemptEvents eventSet = 1<<Delivered | 1<<Deferred | 1<<Failed | 1<<Expired
	repeatEvents           = attemptEvents | 1<<Deleted
	loginEvents   eventSet = 1<<AuthFailed | 1<<TLSFailed
	remoteEvents  eventSet = 1<<Delivered | 1<<Accepted
)

// Schema gives the fields of the relay log in the order of a line.
func Schema() []Field {
	return []Field{
		{"time", TypeTime, 0, ClassTechnical, "R1", allEvents, nil, "when it happened"},
		{"next_host", TypeIP, 0, ClassStatus, "R1", attemptEvents, nil, "the host really connected to"},
		{"user", TypeText, limitUser, ClassIdentity, "R1", allEvents, nil, "authenticated user, on submission; of a failed login only if the account exists"},
		{"client", TypeIP, 0, ClassSensitive, "R1", allEvents, nil, "client, on submission"},
		{"tls", TypeObject, 0, ClassStatus, "R1, R7", allEvents, nil, "how the connections were protected"},
		{"tls.in", TypeObject, 0, ClassStatus, "R1, R7", allEvents, nil, "from the client to us"},
		{"tls.out", TypeObject, 0, ClassStatus, "R1, R7", attemptEvents, nil, "from us to the next hop"},
		{"sender", TypeText, limitAddress, ClassIdentity, "R1", messageEvents, nil, "reverse-path; <> for the null one"},
		{"recipient", TypeText, limitAddress, ClassIdentity, "R1", messageEvents, nil, "one forward-path"},
		{"subject", TypeText, limitSubject, ClassSensitive, "R1", messageEvents, nil, "subject, decoded"},
		{"status", TypeObject, 0, ClassStatus, "R1", allEvents, nil, "what became of it"},
		{"status.event", TypeEnum, 0, ClassStatus, "R1", allEvents, tableNames(eventTable[:]), "what the record tells of"},
		{"status.id", TypeToken, limitID, ClassTechnical, "R1", messageEvents, nil, "queue ID of the message"},
		{"status.code", TypeNumber, 599, ClassStatus, "R1", allEvents, nil, "reply code"},
		{"status.enhanced", TypeEnhanced, 0, ClassStatus, "R1", allEvents, nil, "enhanced status code"},
		{"status.reason", TypeEnum, 0, ClassStatus, "R1", allEvents, reasonNames, "why"},
		{"status.stage", TypeEnum, 0, ClassStatus, "R1", allEvents, tableNames(stageTable[:]), "at which step it ended"},
		{"status.attempt", TypeNumber, limitAttempt, ClassStatus, "R1", messageEvents, nil, "number of the attempt"},
		{"status.repeated", TypeMark, 0, ClassTechnical, "R1", repeatEvents, nil, "it may have been told before: the relay crashed between this record and the queue's"},
		{"status.next_attempt", TypeTime, 0, ClassStatus, "R1", events(Deferred, Released), nil, "when it is tried again"},
		{"status.remote_id", TypeToken, limitID, ClassStatus, "R1", remoteEvents, nil, "queue ID at the next hop; of what was accepted from the other site, there"},
		{"status.headers_cut", TypeMark, 0, ClassStatus, "R3", events(ContentRejected), nil, "the header block was longer than what is kept"},
		{"headers", TypeHeaders, limitHeaders, ClassSensitive, "R3", events(ContentRejected), nil, "header fields of a message refused for its content"},
	}
}

// TLSFields gives the keys of tls.in and tls.out, in order: the first three
// or the fourth, and the last in tls.out alone.
func TLSFields() []Field {
	return []Field{
		{"version", TypeEnum, 0, ClassStatus, "R1, R7", allEvents, tlsVersions, "protocol version"},
		{"cipher", TypeToken, limitID, ClassStatus, "R1, R7", allEvents, nil, "cipher suite, by its IANA name"},
		{"verified", TypeEnum, 0, ClassStatus, "R1, R7", allEvents, tableNames(verifiedTable[:]), "by what the certificate was verified"},
		{"none", TypeEnum, 0, ClassStatus, "R1, R7", allEvents, tableNames(noTLSTable[:]), "why there was no TLS"},
		{"wanted", TypeEnum, 0, ClassStatus, "R1, R7", attemptEvents, tableNames(wantedTable[:]), "what the next hop was held to, if to more than TLS when offered"},
	}
}

func tableNames(table []string) func() []string {
	return func() []string {
		names := make([]string, 0, len(table))
		for _, name := range table {
			if name != "" {
				names = append(names, name)
			}
		}
		return names
	}
}

func reasonNames() []string {
	names := make([]string, 0, reasonEnd)
	for _, r := range Reasons() {
		names = append(names, r.String())
	}
	return names
}
