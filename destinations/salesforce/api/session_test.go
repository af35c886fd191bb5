package api

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"coho/models"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{Domain: "acme.my.salesforce.com", Auth: AuthClientCredentials, ClientID: "id", ClientSecret: "secret"}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":                {func(*Config) {}, ""},
		"url":                 {func(c *Config) { c.Domain = "http://127.0.0.1:8088" }, ""},
		"version with v":      {func(c *Config) { c.APIVersion = "v66.0" }, ""},
		"no domain":           {func(c *Config) { c.Domain = " " }, "domain is empty"},
		"domain with path":    {func(c *Config) { c.Domain = "https://acme.my.salesforce.com/services" }, "not a host"},
		"domain with user":    {func(c *Config) { c.Domain = "https://u:hunter2@acme.my.salesforce.com" }, "not a host"},
		"other scheme":        {func(c *Config) { c.Domain = "ftp://acme.my.salesforce.com" }, "not a host"},
		"lightning":           {func(c *Config) { c.Domain = "acme.lightning.force.com" }, "use acme.my.salesforce.com"},
		"login host":          {func(c *Config) { c.Domain = "login.salesforce.com" }, "does not serve client_credentials"},
		"no secret":           {func(c *Config) { c.ClientSecret = "" }, "needs client_secret"},
		"no id nor secret":    {func(c *Config) { c.ClientID, c.ClientSecret = "", "" }, "needs client_id and client_secret"},
		"unknown auth":        {func(c *Config) { c.Auth = "password" }, `auth "password" is not`},
		"jwt without key":     {func(c *Config) { c.Auth = AuthJWTBearer; c.Username = "u" }, "needs private_key_file"},
		"jwt with other text": {func(c *Config) { c.Auth, c.Username, c.PrivateKeyPEM = AuthJWTBearer, "u", "hunter2" }, "RSA private key"},
		"refresh without":     {func(c *Config) { c.Auth = AuthRefreshToken }, "needs refresh_token"},
		"retired version":     {func(c *Config) { c.APIVersion = "30.0" }, "api_version"},
		"version as a word":   {func(c *Config) { c.APIVersion = "latest" }, "api_version"},
		"negative calls":      {func(c *Config) { c.DailyCalls = -1 }, "daily_api_calls"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			c, err := New(cfg)
			switch {
			case err == nil && test.want != "":
				t.Fatalf("no error, want one that says %q", test.want)
			case err == nil:
				_ = c.Close()
			case test.want == "" || !strings.Contains(err.Error(), test.want):
				t.Fatalf("error %q, want %q", err, test.want)
			case strings.Contains(err.Error(), "hunter2"):
				t.Fatalf("a secret in %q", err)
			}
		})
	}
}

func TestAudienceFollowsTheDomain(t *testing.T) {
	for domain, want := range map[string]string{
		"login.salesforce.com":                  "https://login.salesforce.com",
		"acme.my.salesforce.com":                "https://login.salesforce.com",
		"acme-dev-ed.develop.my.salesforce.com": "https://login.salesforce.com",
		"test.salesforce.com":                   "https://test.salesforce.com",
		"acme--uat.sandbox.my.salesforce.com":   "https://test.salesforce.com",
		"brave-fox.scratch.my.salesforce.com":   "https://test.salesforce.com",
		"http://127.0.0.1:8088":                 "http://127.0.0.1:8088",
	} {
		u, err := parseDomain(domain)
		if err != nil {
			t.Fatal(err)
		}
		if got := defaultAudience(u); got != want {
			t.Errorf("%s: audience %s, want %s", domain, got, want)
		}
	}
}

func testKey(t *testing.T) (*rsa.PrivateKey, models.Secret) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, models.Secret(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func TestLoginSendsWhatEachFlowNeeds(t *testing.T) {
	key, keyPEM := testKey(t)
	for name, test := range map[string]struct {
		change func(*Config)
		check  func(t *testing.T, r *http.Request, domain string)
	}{
		"client_credentials": {func(*Config) {}, func(t *testing.T, r *http.Request, _ string) {
			if r.Form.Get("grant_type") != "client_credentials" || r.Form.Get("client_id") != "consumer" || r.Form.Get("client_secret") != "s3cr3t-value" {
				t.Errorf("form %v", r.Form)
			}
		}},
		"refresh_token": {func(c *Config) { c.Auth, c.RefreshToken = AuthRefreshToken, "5Aep-refresh" }, func(t *testing.T, r *http.Request, _ string) {
			if r.Form.Get("grant_type") != "refresh_token" || r.Form.Get("refresh_token") != "5Aep-refresh" {
				t.Errorf("form %v", r.Form)
			}
		}},
		"jwt_bearer": {func(c *Config) { c.Auth, c.Username, c.PrivateKeyPEM = AuthJWTBearer, "ops@acme.test", keyPEM }, func(t *testing.T, r *http.Request, domain string) {
			if r.Form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.Form.Has("client_secret") {
				t.Errorf("form %v", r.Form)
			}
			claims := jwt.MapClaims{}
			if _, err := jwt.ParseWithClaims(r.Form.Get("assertion"), claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil },
				jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired()); err != nil {
				t.Errorf("assertion: %v", err)
			}
			if claims["iss"] != "consumer" || claims["sub"] != "ops@acme.test" || claims["aud"] != domain {
				t.Errorf("claims %v", claims)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.onLogin(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				test.check(t, r, org.URL)
				// A JWT answer may hold no more than this.
				reply(w, 200, `{"access_token":"00D!x","instance_url":"`+org.URL+`"}`)
			})
			c := org.client(t, test.change)
			if _, err := c.session(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRefusedLoginSaysWhatToDo(t *testing.T) {
	_, keyPEM := testKey(t)
	refresh := func(c *Config) { c.Auth, c.RefreshToken = AuthRefreshToken, "5Aep-refresh-token" }
	signed := func(c *Config) { c.Auth, c.Username, c.PrivateKeyPEM = AuthJWTBearer, "ops@acme.test", keyPEM }
	for name, test := range map[string]struct {
		change func(*Config)
		status int
		body   string
		want   []string
	}{
		"wrong secret":    {nil, 400, `{"error":"invalid_client","error_description":"invalid client credentials"}`, []string{"invalid_client", "client_secret"}},
		"secret echoed":   {nil, 400, `{"error":"invalid_client","error_description":"bad secret s3cr3t-value"}`, []string{"[redacted]"}},
		"wrong id":        {nil, 400, `{"error":"invalid_client_id","error_description":"client identifier invalid"}`, []string{"client_id"}},
		"no run-as user":  {nil, 400, `{"error":"invalid_grant","error_description":"no client credentials user enabled"}`, []string{"user it runs as"}},
		"no access":       {nil, 400, `{"error":"invalid_app_access","error_description":"user is not admin approved to access this app"}`, []string{"administrator"}},
		"revoked refresh": {refresh, 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`, []string{"authorise again", "refresh_token"}},
		"not approved":    {signed, 400, `{"error":"invalid_grant","error_description":"user hasn't approved this consumer"}`, []string{"pre-authorise ops@acme.test"}},
		"wrong audience":  {signed, 400, `{"error":"invalid_grant","error_description":"audience is invalid"}`, []string{"set audience"}},
		"wrong key":       {signed, 400, `{"error":"invalid_grant","error_description":"invalid assertion"}`, []string{"private_key_file"}},
		"page of another": {nil, 404, `<html><body>Not here</body></html>`, []string{"HTML", "domain"}},
		"success, no org": {nil, 200, `<html></html>`, []string{"not a token"}},
		"token to http":   {nil, 200, `{"access_token":"00D!secret","instance_url":"gopher://x"}`, []string{"instance_url"}},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.onLogin(answering(test.status, test.body))
			change := test.change
			if change == nil {
				change = func(*Config) {}
			}
			c := org.client(t, change)
			_, err := c.Describe(t.Context(), "Account")
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Class != StopRun || e.Unknown {
				t.Fatalf("error %#v, want one that stops the run", err)
			}
			for _, want := range append(test.want, "log in to ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			for _, secret := range []string{"s3cr3t-value", "5Aep-refresh-token", "00D!secret", "\n"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q holds %q", err, secret)
				}
			}
			// Asking again at once does not knock again.
			if _, err := c.Describe(t.Context(), "Account"); err == nil || org.logins.Load() != 1 {
				t.Errorf("%d logins, want 1 (error %v)", org.logins.Load(), err)
			}
		})
	}
}

func TestPassingLoginFailureIsRetried(t *testing.T) {
	org := newOrg(t)
	org.onLogin(sequence(answering(503, "<html>busy</html>"), hangUp, func(w http.ResponseWriter, r *http.Request) {
		org.login.Store(nil)
		org.token(w, r)
	}))
	c := org.client(t)
	if _, err := c.session(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestManyCallersShareOneRenewal(t *testing.T) {
	org := newOrg(t)
	org.on("GET /services/data/v62.0/limits", answering(200, `{"DailyApiRequests":{"Max":15000,"Remaining":14998}}`))
	c := org.client(t)
	for round := range 5 {
		org.expire()
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if _, err := c.Limits(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := org.logins.Load(); got != int64(round+1) {
			t.Fatalf("round %d: %d logins in all, want %d", round, got, round+1)
		}
	}
}

func TestRenewalFollowsTheInstance(t *testing.T) {
	first, second := newOrg(t), newOrg(t)
	second.on("GET /services/data/v62.0/limits", answering(200, `{}`))
	first.onLogin(sequence(func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, `{"access_token":"00D!old","instance_url":"`+first.URL+`"}`)
	}, second.token))
	first.on("GET /services/data/v62.0/limits", answering(200, `{}`))
	c := first.client(t)
	if _, err := c.Limits(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestUnauthorizedThatARenewalDoesNotCure(t *testing.T) {
	for name, test := range map[string]struct {
		body   string
		logins int64
		class  Class
	}{
		"policy":       {`[{"message":"This session is not valid for use with the REST API","errorCode":"INVALID_SESSION_ID"}]`, 1, StopRun},
		"other code":   {`[{"message":"nope","errorCode":"INVALID_AUTH_HEADER"}]`, 1, StopRun},
		"no body":      {``, 1, StopRun},
		"dead session": {`[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`, 1 + maxRenewals, RenewSession},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("PATCH /services/data/v62.0/composite/sobjects", answering(401, test.body))
			c := org.client(t)
			_, err := c.UpdateRecords(t.Context(), [][]byte{[]byte(`{}`)}, CollectionOptions{})
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Class != test.class || e.Unknown {
				t.Errorf("error %#v", err)
			}
			if got := org.logins.Load(); got != test.logins {
				t.Errorf("%d logins, want %d", got, test.logins)
			}
		})
	}
}

func TestCallerMayLeaveALoginToOthers(t *testing.T) {
	org := newOrg(t)
	entered, release := make(chan struct{}), make(chan struct{})
	org.onLogin(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		reply(w, 200, `{"access_token":"00D!x","instance_url":"`+org.URL+`"}`)
	})
	c := org.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := c.session(ctx, nil); left <- err }()
	<-entered
	stayed := make(chan error, 1)
	go func() { _, err := c.session(t.Context(), nil); stayed <- err }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who left got %v", err)
	}
	close(release)
	if err := <-stayed; err != nil {
		t.Errorf("the caller who stayed got %v", err)
	}
	if org.logins.Load() != 1 {
		t.Errorf("%d logins, want 1", org.logins.Load())
	}
}

func TestClosedClientRefuses(t *testing.T) {
	org := newOrg(t)
	c := org.client(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Limits(t.Context()); err == nil {
		t.Error("a closed client made a call")
	}
}

func TestIdentity(t *testing.T) {
	userinfo := `{"sub":"https://login.salesforce.com/id/00D000000000062EAA/005000000000001AAA","user_id":"005000000000001AAA","organization_id":"00D000000000062EAA","preferred_username":"ops@acme.test"}`
	for name, test := range map[string]struct {
		login, info string
		status      int
		want        Identity
		fails       bool
	}{
		"both":                    {"id", userinfo, 200, Identity{orgID, userID, "ops@acme.test"}, false},
		"userinfo alone":          {"", userinfo, 200, Identity{orgID, userID, "ops@acme.test"}, false},
		"id alone":                {"id", `Bad_OAuth_Token`, 403, Identity{orgID, userID, ""}, false},
		"neither":                 {"", `Bad_OAuth_Token`, 403, Identity{}, true},
		"userinfo of something":   {"", `{}`, 200, Identity{}, true},
		"userinfo of fewer chars": {"", strings.ReplaceAll(userinfo, "EAA", ""), 200, Identity{orgID, userID, "ops@acme.test"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			if test.login == "" {
				org.onLogin(func(w http.ResponseWriter, r *http.Request) {
					reply(w, 200, `{"access_token":"00D!x","instance_url":"`+org.URL+`"}`)
				})
				org.valid["00D!x"] = true
			}
			org.on("GET /services/oauth2/userinfo", answering(test.status, test.info))
			got, err := org.client(t).Identity(t.Context())
			if (err != nil) != test.fails || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestLongID(t *testing.T) {
	for in, want := range map[string]string{
		"001D000000INjVe":    "001D000000INjVeIAL",
		"001D000000INjVeIAL": "001D000000INjVeIAL",
		"short":              "short",
		"":                   "",
	} {
		if got := LongID(in); got != want {
			t.Errorf("LongID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRotatedRefreshTokenIsUsed(t *testing.T) {
	org := newOrg(t)
	var seen atomic.Value
	org.onLogin(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.FormValue("refresh_token"))
		reply(w, 200, `{"access_token":"00D!x","instance_url":"`+org.URL+`","refresh_token":"second"}`)
	})
	c := org.client(t, func(c *Config) { c.Auth, c.RefreshToken = AuthRefreshToken, "first" })
	s, err := c.session(t.Context(), nil)
	if err != nil || seen.Load() != "first" {
		t.Fatalf("sent %v, error %v", seen.Load(), err)
	}
	if _, err := c.session(t.Context(), s); err != nil || seen.Load() != "second" {
		t.Fatalf("sent %v, error %v", seen.Load(), err)
	}
}

// Where the app rotates refresh tokens, the one in the config is void after the
// first login: the next process says so, and what to do.
func TestRotatedRefreshTokenIsToldOf(t *testing.T) {
	org := newOrg(t)
	valid := "first"
	var mu sync.Mutex
	org.onLogin(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.FormValue("refresh_token") != valid {
			reply(w, 400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`)
			return
		}
		valid = "second"
		reply(w, 200, `{"access_token":"00D!x","instance_url":"`+org.URL+`","refresh_token":"second"}`)
	})
	for process, want := range []string{"", "rotates refresh tokens"} {
		c := org.client(t, func(c *Config) { c.Auth, c.RefreshToken = AuthRefreshToken, "first" })
		_, err := c.session(t.Context(), nil)
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "second") {
			t.Fatalf("process %d: %v", process, err)
		}
	}
}

func mustDomain(t *testing.T, domain string) *url.URL {
	t.Helper()
	u, err := parseDomain(domain)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
