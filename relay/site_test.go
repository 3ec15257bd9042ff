package relay

import "testing"

// The other site's queue ID is that of the newest trace field, and nothing that a
// client could have put into it.
func TestReceivedID(t *testing.T) {
	for field, want := range map[string]string{
		"Received: by mx2.example.org with ESMTPS id 06H0JXG2QTPFQR7A\n\tfor <b@example.org>;\n\tMon, 02 Jan 2006 15:04:05 +0000\n":                                            "06H0JXG2QTPFQR7A",
		"Received: from c.example (c.example [192.0.2.1])\n\t(using TLSv1.3 (id Fake1))\n\tby mx2.example.org (Postfix) with ESMTPS id 4Zk1Xy2z\n\tfor <b@example.org>; Mon\n": "4Zk1Xy2z",
		"Authentication-Results: mx2.example.org; none\nReceived: by mx2.example.org with ESMTP id 06H0JXG2QTPFQR7A;\n\tMon\nReceived: by x id OTHER12\n":                      "06H0JXG2QTPFQR7A",
		"Received: from mx2 by mail.example.org with esmtps\n\t(Exim 4.98)\n\t(envelope-from <a@b>)\n\tid 1tYabc-000000001Ab-2xYz\n\tfor b@example.org; Mon\n":                 "1tYabc-000000001Ab-2xYz",
		"Received: by x with SMTP; id AFTER123\nReceived: by y id OTHER12;\n":                                                                                                  "",
		"Received: by x id id<script>1;\n":                      "",
		"Received: by x id letters;\n":                          "",
		"Received: by x id 1234;\n":                             "",
		"Received: id\n":                                        "",
		"Received: (((((\\\n":                                   "",
		"X-Received: by x id 12345678;\nSubject: id 12345678\n": "",
	} {
		if got := receivedID(crlf(field)); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}
