package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// promises are what a hoster may say of this relay in a privacy statement, each with the tests that
// hold it: FOLDER/Test…, from the top of the project. Whoever takes such a test away leaves a promise behind.
var promises = []struct {
	promise string
	tests   []string
}{
	// What is recorded.
	{"a record has the fields of the schema and no other, and documents and notices are made from the same schema", []string{
		"logging/TestSchemaFiles", "logging/TestEncoderFollowsSchema", "logging/TestParseLineIsStrict", "cmd/tacet/TestStatementNamesEveryField"}},
	{"user and client are recorded on submission only", []string{"cmd/tacet/TestCanaries", "relay/inbound/TestOriginOfMX"}},
	{"each accepted recipient ends in one terminal record, and a second one is marked", []string{"cmd/tacet/TestCompletenessUnderKills", "relay/TestRecover", "relay/TestDeleteIsOnRecordFirst"}},
	{"the next host on record is the one that was really connected to", []string{"relay/outbound/TestWalksTheHops", "cmd/tacet/TestCanaries"}},
	{"how both connections were protected is recorded, or why they were not", []string{"relay/outbound/TestTLSPolicies", "relay/outbound/TestHostileCertificates", "relay/inbound/TestHandshakeFails"}},
	{"the status is made of closed lists, without a word of the other side", []string{"logging/TestClassifyCorpus", "relay/outbound/TestRemoteID", "cmd/tacet/TestCanaries"}},
	{"header fields are recorded of what is refused for its content, and of nothing else", []string{"relay/TestHeadersOfRefusals", "relay/TestHeadersOfOtherRefusals", "logging/TestHeadersOfOtherRejectionsAreNotWritten", "logging/TestHeadersAreCutAt64KB"}},
	{"content, HELO names, Message-IDs, server names, certificates, ENVID and ORCPT are recorded nowhere", []string{"cmd/tacet/TestCanaries", "cmd/tacet/TestCanariesOfTheBinary", "cmd/tacet/TestCanariesCatchLeaks"}},
	{"no password is recorded, and no user name of a failed login that does not exist", []string{"cmd/tacet/TestCanaries", "relay/inbound/TestTraceHasNoCredentials", "relay/inbound/wire/TestCredentialsAreCleared"}},

	// How long.
	{"a record cannot be read after 365 days, and no config says more", []string{"logging/TestSealedRetention", "logging/TestRetentionIsLimited", "logging/TestVerify", "cmd/tacet/TestBadConfig"}},
	{"a failed login or TLS handshake is on record for 30 days at most", []string{"logging/TestLoginsGoBeforeTheLog", "cmd/tacet/TestEmptyConfigIsTheStrictest", "cmd/tacet/TestBadConfig"}},
	{"subject, client and user may go before the record", []string{"logging/TestFieldsGoBeforeTheRecord", "logging/TestVerifyOfFields"}},
	{"more is recorded within an incident alone: with ticket, scope and deadline", []string{"logging/TestIncidentKeepsWhatMatchesAndNothingElse", "logging/TestIncidentLimits", "logging/TestIncidentContentOnlyIfAskedFor"}},
	{"an incident is destroyed at its end, and after a crash before the first connection", []string{"logging/TestIncidentEndsAtItsDeadline", "logging/TestIncidentsOfAnEarlierProcess", "cmd/tacet/TestCanaries"}},
	{"nothing is left of a message once its last recipient is settled", []string{"queue/pebblestore/TestForgets", "queue/pebblestore/TestManySurvivors", "cmd/tacet/TestTorture"}},
	{"and it is not lost before", []string{"queue/pebblestore/TestCrashAtEveryOperation", "queue/pebblestore/TestEveryWriteFails", "queue/pebblestore/TestGapsKeepWhatTheyHide", "cmd/tacet/TestTorture"}},
	{"mail that cannot be delivered expires, and its sender hears of it", []string{"relay/TestDeferAndExpire", "relay/TestReportOwed"}},

	// To whom.
	{"nothing is sent to anybody but next hops, resolvers, and the services that the config names", []string{"cmd/tacet/TestImports", "cmd/tacet/TestEveryPacketIsADigest", "cmd/tacet/TestCanaries"}},
	{"a next hop sees its own recipients, and the DNS sees domains", []string{"cmd/tacet/TestCanaries", "relay/content/TestVerifyAsksForDomains"}},
	{"the trace field names neither client nor user", []string{"cmd/tacet/TestCanaries", "relay/TestAccept"}},
	{"services outside learn digests, and are off by default", []string{"cmd/tacet/TestEveryPacketIsADigest", "cmd/tacet/TestStrictestIsTheDefault"}},
	{"domains learn in reports how TLS and DMARC came out, with hosts, counts and the clients of mail in their name", []string{"cmd/tacet/TestCanaries", "relay/aggregate/tlsrpt/TestReports", "relay/aggregate/dmarcrpt/TestReports", "relay/content/TestDMARCOutcomes"}},
	{"a delivery report returns no content that was not asked for", []string{"relay/TestReportReturns", "cmd/tacet/TestCanaries"}},
	{"who is asked outside has a purpose in the config", []string{"cmd/tacet/TestBadConfig", "cmd/tacet/TestPrivacyTextsGolden"}},
	{"mail is refused in the session, never accepted and dropped", []string{"relay/TestCheckFailure", "cmd/tacet/TestListedMail", "cmd/tacet/TestMilterStages"}},

	// On the way.
	{"TLS is used whenever the other side has it", []string{"relay/outbound/TestTLSPolicies", "relay/outbound/TestInTheClearAtTheSameAddress", "relay/outbound/TestNeverDowngraded"}},
	{"domains may ask for more: DANE, MTA-STS, REQUIRETLS", []string{"relay/outbound/TestDANE", "relay/tlspolicy/TestHolds", "relay/outbound/TestRequireTLS"}},
	{"no login is offered in the clear", []string{"relay/inbound/TestAuth", "relay/inbound/TestBeforeEHLO"}},

	// The fallback.
	{"a fallback holds mail while the primary cannot be reached, and drains at once", []string{"cmd/tacet/TestETRN", "cmd/tacet/TestPeers"}},
	{"it takes mail for its own domains and sends it to the primary, whatever the DNS says", []string{"cmd/tacet/TestNoOpenRelay", "relay/route/TestRoutePrimary"}},
	{"it holds no password", []string{"cmd/tacet/TestSelftestOfAFallback", "cmd/tacet/TestPeers"}},
	{"mail that waits for long is an alarm", []string{"cmd/tacet/TestPrimaryAlarm"}},
	{"a person is erased at both sites or the erasure fails", []string{"cmd/tacet/TestPeers", "cmd/tacet/TestAFailedErasureLeavesOneRecord"}},

	// Access and rights.
	{"reading needs a role, and is on record before anything is shown", []string{"cmd/tacet/TestReadingByRole", "cmd/tacet/TestReadingIsRecordedBeforeItIsShown", "logging/TestStatusOnly"}},
	{"each action of an operator leaves one record, who may act included", []string{"cmd/tacet/TestEveryCommandLeavesOneRecord", "cmd/tacet/TestEveryVerbIsWanted", "cmd/tacet/TestGrantsAreOnRecord"}},
	{"who looks at the queue sees envelopes, never content", []string{"cmd/tacet/TestCanaries", "cmd/tacet/TestQueueTable"}},
	{"a person gets what is known of them, and nothing of others", []string{"logging/TestRecordsOfAPerson", "cmd/tacet/TestScripts", "cmd/tacet/TestCanaries"}},
	{"a person can be erased, from backups too", []string{"logging/TestErase", "relay/quota/TestErase", "cmd/tacet/TestScripts"}},

	// Measures.
	{"what is on the disk is encrypted, the running day's log aside", []string{"logging/TestSealedFileHasNothingPlain", "logging/TestRunningDaySealed", "logging/TestIncidentFileIsNoise", "cmd/tacet/TestSealedFile", "cmd/tacet/TestCanaries"}},
	{"keys stand apart from data, and in no backup", []string{"queue/pebblestore/TestCheckpointWithoutKeys", "cmd/tacet/TestFreshFile", "queue/pebblestore/TestGivenMasterKey"}},
	{"the audit log shows if it was changed, shortened or put back", []string{"logging/TestAuditFindsTampering", "logging/TestAuditEnds", "logging/TestAuditPutBack"}},
	{"a backup can be checked, and its check is on record", []string{"cmd/tacet/TestDamagedArchive", "cmd/tacet/TestScripts", "cmd/tacet/TestEveryCommandLeavesOneRecord"}},
	{"notices are made from what is in force, and the relay can test itself", []string{"cmd/tacet/TestPrivacyTextsGolden", "cmd/tacet/TestReportJSON", "cmd/tacet/TestScripts"}},
	{"the empty config is the strictest, and each key that widens it shows", []string{"cmd/tacet/TestEmptyConfigIsTheStrictest", "cmd/tacet/TestStrictestIsTheDefault", "cmd/tacet/TestEveryKeyIsJudged"}},
	{"metrics and statistics name nobody", []string{"cmd/tacet/TestCanaries", "cmd/tacet/TestShape"}},
	{"a crash prints and dumps nothing of anybody", []string{"cmd/tacet/TestCrashesAreContained", "cmd/tacet/TestCanariesOfTheBinary", "relay/TestPanicIsContained", "relay/inbound/TestPanicIsContained"}},
}

// Each promise has its tests, and there are such tests.
func TestPromisesHaveTheirTests(t *testing.T) {
	found := map[string]map[string]bool{}
	for _, p := range promises {
		if len(p.tests) == 0 {
			t.Errorf("nothing holds that %s", p.promise)
		}
		for _, test := range p.tests {
			folder, name := filepath.Split(test)
			if found[folder] == nil {
				found[folder] = testsIn(t, filepath.Join("..", "..", folder))
			}
			if !found[folder][name] {
				t.Errorf("%s: there is no %s", p.promise, test)
			}
		}
	}
}

// testsIn are the names of the test functions of a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}
