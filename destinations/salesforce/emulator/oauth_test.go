package emulator_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"coho/destinations/salesforce/emulator"
)

func (c *client) token1(form url.Values, header ...string) answer {
	c.t.Helper()
	return c.do("POST", "/services/oauth2/token", form.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)...)
}

func TestTokenEndpointRefusals(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	id, secret := k.ClientID, k.ClientSecret
	for _, tc := range []struct {
		name  string
		form  url.Values
		error string
	}{
		{"unknown client", url.Values{"grant_type": {"client_credentials"}, "client_id": {"x"}, "client_secret": {secret}}, "invalid_client_id"},
		{"wrong secret", url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {"x"}}, "invalid_client"},
		{"wrong password", url.Values{"grant_type": {"password"}, "client_id": {id}, "client_secret": {secret}, "username": {k.Username}, "password": {"x"}}, "invalid_grant"},
		{"unknown refresh token", url.Values{"grant_type": {"refresh_token"}, "client_id": {id}, "refresh_token": {"x"}}, "invalid_grant"},
		{"unknown grant", url.Values{"grant_type": {"magic"}}, "unsupported_grant_type"},
		{"no assertion", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}}, "invalid_grant"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := c.token1(tc.form)
			var e struct{ Error, ErrorDescription string }
			a.decode(t, &e)
			if a.status != 400 || e.Error != tc.error {
				t.Fatalf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestTokenAnswers(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	var tok map[string]string
	a := c.token1(url.Values{"grant_type": {"client_credentials"}}, "Authorization", "Basic "+basic(k.ClientID, k.ClientSecret))
	a.decode(t, &tok)
	if a.status != 200 || tok["instance_url"] != c.s.URL() || !strings.Contains(tok["access_token"], "!") || len(tok["issued_at"]) != 13 || tok["expires_in"] != "" {
		t.Fatalf("%d %v", a.status, tok)
	}
	c.token = tok["access_token"]
	var me map[string]any
	c.want(200, "GET", strings.TrimPrefix(tok["id"], c.s.URL()), "").decode(t, &me)
	if me["organization_id"] != c.s.Org().ID() {
		t.Fatalf("identity: %v", me)
	}
	c.want(200, "POST", "/services/oauth2/revoke", "token="+url.QueryEscape(c.token), "Content-Type", "application/x-www-form-urlencoded")
	c.refused(c.do("GET", v66+"/limits", ""), 401, "INVALID_SESSION_ID", "Session expired or invalid")
	a = c.token1(url.Values{"grant_type": {"refresh_token"}, "client_id": {k.ClientID}, "refresh_token": {k.RefreshToken}})
	a.decode(t, &tok)
	c.token = tok["access_token"]
	c.want(200, "GET", v66+"/limits", "")
	c.s.ExpireSessions()
	c.refused(c.do("GET", v66+"/limits", ""), 401, "INVALID_SESSION_ID", "")
}

func TestJWTBearer(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	pem, err := c.s.JWTKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(pem))
	if err != nil {
		t.Fatal(err)
	}
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": k.ClientID, "sub": k.Username, "aud": "https://login.salesforce.com", "exp": time.Now().Add(time.Minute).Unix()}
	}
	for _, tc := range []struct {
		name   string
		change func(jwt.MapClaims)
		method jwt.SigningMethod
		error  string
	}{
		{"good", func(jwt.MapClaims) {}, jwt.SigningMethodRS256, ""},
		{"own address as audience", func(m jwt.MapClaims) { m["aud"] = c.s.URL() }, jwt.SigningMethodRS256, ""},
		{"sandbox audience", func(m jwt.MapClaims) { m["aud"] = "https://test.salesforce.com" }, jwt.SigningMethodRS256, "invalid_grant"},
		{"expired", func(m jwt.MapClaims) { m["exp"] = time.Now().Add(-time.Minute).Unix() }, jwt.SigningMethodRS256, "invalid_grant"},
		{"other user", func(m jwt.MapClaims) { m["sub"] = "x@y.z" }, jwt.SigningMethodRS256, "invalid_grant"},
		{"other app", func(m jwt.MapClaims) { m["iss"] = "x" }, jwt.SigningMethodRS256, "invalid_client_id"},
		{"other algorithm", func(jwt.MapClaims) {}, jwt.SigningMethodRS512, "invalid_grant"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := good()
			tc.change(claims)
			text, err := jwt.NewWithClaims(tc.method, claims).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			a := c.token1(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {text}})
			var got map[string]string
			a.decode(t, &got)
			if got["error"] != tc.error || (a.status == 200) != (tc.error == "") {
				t.Fatalf("%d %s", a.status, a.body)
			}
		})
	}
}
