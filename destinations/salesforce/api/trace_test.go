package api

import (
	"strings"
	"testing"
)

// TestBodiesAreCleaned: no token that a body holds gets into the log of calls, whoever's it is.
func TestBodiesAreCleaned(t *testing.T) {
	c, err := New(Config{Domain: "https://acme.my.salesforce.com", Auth: AuthClientCredentials, ClientID: "client", ClientSecret: "of the client"})
	if err != nil {
		t.Fatal(err)
	}
	const session = "00D000000000001!AQcAQH0dMHZfz972Szmpkb58urFRkgeBGsxL"
	for _, body := range []string{
		`{"access_token":"hush-hush","id":"x"}`, `{"refresh_token": "hush-hush"}`, "grant_type=password&password=hush-hush&x=1",
		"<sessionId>hush-hush</sessionId>", "token " + session, "client_secret=hush-hush",
	} {
		if got := c.clean(body); strings.Contains(got, "hush-hush") || strings.Contains(got, session) || !strings.Contains(got, "[redacted]") {
			t.Errorf("%s became %s", body, got)
		}
	}
}
