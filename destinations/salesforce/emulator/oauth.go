package emulator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// session is a token that was issued.
type session struct {
	token string
	user  string    // Id
	ends  time.Time // slides with use
}

// auth knows the org's one connected app and its sessions.
type auth struct {
	mu       sync.Mutex
	org      *Org
	app      orgSection
	key      *rsa.PublicKey  // for the JWT bearer flow
	private  *rsa.PrivateKey // its other half, when the org made it itself
	life     time.Duration
	sessions map[string]*session
	refresh  map[string]bool
	first    Credentials
}

const keyBits = 2048

func newAuth(file *orgFile, org *Org) (*auth, error) {
	a := &auth{org: org, app: file.Org, life: 2 * time.Hour, sessions: map[string]*session{}, refresh: map[string]bool{}}
	if n := file.Limits.SessionSeconds; n > 0 {
		a.life = time.Duration(n) * time.Second
	}
	text := file.Org.PublicKey
	if name := file.Org.PublicKeyFile; name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the app's public key: %w", err)
		}
		text = string(b)
	}
	if text != "" {
		key, err := parsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("read the app's public key: %w", err)
		}
		a.key = key
	}
	a.first = Credentials{ClientID: a.app.ClientID, ClientSecret: a.app.ClientSecret, Username: a.app.Username, Password: a.app.Password + a.app.SecurityToken}
	a.first.AccessToken = a.issue().token
	a.first.RefreshToken = "5Aep861" + random(24)
	a.refresh[a.first.RefreshToken] = true
	return a, nil
}

func parsePublicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if block.Type == "CERTIFICATE" {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
			return key, nil
		}
		return nil, errors.New("the certificate's key is not RSA")
	}
	return jwt.ParseRSAPublicKeyFromPEM([]byte(text))
}

// JWTKey is the private key, as PEM, with which assertions for the JWT bearer
// flow can be signed when the org file gives no certificate. The org makes it on
// first use.
func (s *Server) JWTKey() (string, error) {
	a := s.auth
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key != nil && a.private == nil {
		return "", errors.New("the org file gives the public key, only its owner has the private one")
	}
	if a.private == nil {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return "", fmt.Errorf("make a key for the JWT bearer flow: %w", err)
		}
		a.private, a.key = key, &key.PublicKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.private)
	if err != nil {
		return "", fmt.Errorf("render the key of the JWT bearer flow: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// Credentials are what a client needs; the access token is a valid one, for
// clients that are given a token.
func (s *Server) Credentials() Credentials {
	c := s.auth.first
	c.URL = s.url
	return c
}

func random(n int) string {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil { // never fails on the platforms Go supports
		return strings.Repeat("0", 2*n)
	}
	return hex.EncodeToString(b)
}

// issue makes a session. Its token has the form that an org's opaque tokens
// have: the 15-character org Id, "!", and something.
func (a *auth) issue() *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &session{token: a.org.id[:15] + "!AQ" + random(32), user: a.org.person(integrationUser), ends: time.Now().Add(a.life)}
	a.sessions[s.token] = s
	return s
}

// ExpireSessions ends every session issued so far; their tokens stay dead.
func (s *Server) ExpireSessions() {
	s.auth.mu.Lock()
	defer s.auth.mu.Unlock()
	clear(s.auth.sessions)
}

// end ends one session.
func (a *auth) end(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, token)
}

// check finds the session of a token and slides its end.
func (a *auth) check(token string) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[token]
	if s == nil {
		return nil
	}
	now := time.Now()
	if now.After(s.ends) {
		delete(a.sessions, token)
		return nil
	}
	s.ends = now.Add(a.life)
	return s
}

// authenticate checks a REST request's token; false when the answer is given.
func (s *Server) authenticate(c *call) bool {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "OAuth") {
		c.session = s.auth.check(strings.TrimSpace(token))
	}
	if c.session == nil {
		c.w.Header().Set("WWW-Authenticate", "Token")
		c.fail(http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid")
		return false
	}
	return true
}

func (c *call) oauthError(status int, code, description string) {
	c.json(status, map[string]string{"error": code, "error_description": description})
}

const formLimit = 1 << 20

func (c *call) form() (url.Values, bool) {
	text, ok := c.body(formLimit)
	if !ok {
		return nil, false
	}
	form, err := url.ParseQuery(text)
	if err != nil {
		c.oauthError(http.StatusBadRequest, "invalid_request", "malformed form")
		return nil, false
	}
	for k, v := range c.r.URL.Query() {
		if !form.Has(k) {
			form[k] = v
		}
	}
	return form, true
}

// token is the OAuth 2.0 token endpoint (Salesforce Help, "OAuth Authorization
// Flows").
func (s *Server) token(c *call) {
	if c.r.Method != http.MethodPost {
		c.oauthError(http.StatusBadRequest, "invalid_request", "must use HTTP POST")
		return
	}
	form, ok := c.form()
	if !ok {
		return
	}
	if id, secret, ok := c.r.BasicAuth(); ok {
		form.Set("client_id", id)
		form.Set("client_secret", secret)
	}
	a := s.auth
	grant := form.Get("grant_type")
	if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		if code, description := s.assertion(form.Get("assertion")); code != "" {
			c.oauthError(http.StatusBadRequest, code, description)
			return
		}
		s.granted(c, "")
		return
	}
	if grant != "client_credentials" && grant != "refresh_token" && grant != "password" {
		c.oauthError(http.StatusBadRequest, "unsupported_grant_type", "grant type not supported")
		return
	}
	if form.Get("client_id") != a.app.ClientID {
		c.oauthError(http.StatusBadRequest, "invalid_client_id", "client identifier invalid")
		return
	}
	if secret := form.Get("client_secret"); secret != a.app.ClientSecret && (grant != "refresh_token" || secret != "") {
		c.oauthError(http.StatusBadRequest, "invalid_client", "invalid client credentials")
		return
	}
	switch grant {
	case "refresh_token":
		a.mu.Lock()
		known := a.refresh[form.Get("refresh_token")]
		a.mu.Unlock()
		if !known {
			c.oauthError(http.StatusBadRequest, "invalid_grant", "expired access/refresh token")
			return
		}
	case "password":
		if form.Get("username") != a.app.Username || form.Get("password") != a.app.Password+a.app.SecurityToken {
			c.oauthError(http.StatusBadRequest, "invalid_grant", "authentication failure")
			return
		}
	}
	s.granted(c, grant)
}

func (s *Server) granted(c *call, grant string) {
	sess := s.auth.issue()
	issued := strconv.FormatInt(time.Now().UnixMilli(), 10)
	id := s.url + "/id/" + s.org.id + "/" + sess.user
	answer := map[string]string{
		"access_token": sess.token, "instance_url": s.url, "id": id, "token_type": "Bearer", "scope": "api id",
	}
	if grant != "" { // the JWT bearer flow's answer has neither
		mac := hmac.New(sha256.New, []byte(s.auth.app.ClientSecret))
		_, _ = mac.Write([]byte(id + issued)) // never fails
		answer["issued_at"], answer["signature"] = issued, base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	c.w.Header().Set("Cache-Control", "no-cache, no-store")
	c.json(http.StatusOK, answer)
}

// maxAssertionLife is how far in the future an assertion may expire.
const maxAssertionLife = 10 * time.Minute

// assertion checks a JWT; it returns an error code and its description.
func (s *Server) assertion(text string) (code, description string) {
	a := s.auth
	a.mu.Lock()
	key := a.key
	a.mu.Unlock()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(text, claims); err != nil {
		return "invalid_grant", "invalid assertion"
	}
	if iss, _ := claims["iss"].(string); iss != a.app.ClientID {
		return "invalid_client_id", "client identifier invalid"
	}
	if key == nil {
		return "invalid_client", "the app has no certificate"
	}
	exp, err := expiry(claims["exp"])
	if err != nil {
		return "invalid_grant", "invalid assertion"
	}
	if _, err := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation()).Parse(text, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		return "invalid_grant", "invalid assertion"
	}
	now := time.Now()
	if exp.Before(now) || exp.After(now.Add(maxAssertionLife)) {
		return "invalid_grant", "expired authorization code"
	}
	if !s.audience(claims["aud"]) {
		return "invalid_grant", "audience is invalid"
	}
	if sub, _ := claims["sub"].(string); sub != a.app.Username {
		return "invalid_grant", "user hasn't approved this consumer"
	}
	return "", ""
}

func expiry(v any) (time.Time, error) {
	switch v := v.(type) {
	case float64:
		return time.Unix(int64(v), 0), nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return time.Unix(n, 0), err
	}
	return time.Time{}, errors.New("no expiry")
}

func (s *Server) audience(v any) bool {
	var all []string
	switch v := v.(type) {
	case string:
		all = []string{v}
	case []any:
		for _, a := range v {
			if text, ok := a.(string); ok {
				all = append(all, text)
			}
		}
	}
	for _, aud := range all {
		if aud = strings.TrimSuffix(aud, "/"); aud == "https://login.salesforce.com" || aud == s.url {
			return true
		}
	}
	return false
}

// revoke ends a token. Its errors are form-encoded, unlike those of every other
// endpoint.
func (s *Server) revoke(c *call) {
	form, ok := c.form()
	if !ok {
		return
	}
	a := s.auth
	a.mu.Lock()
	token := form.Get("token")
	known := a.sessions[token] != nil || a.refresh[token]
	delete(a.sessions, token)
	delete(a.refresh, token)
	a.mu.Unlock()
	if !known {
		c.w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		c.w.WriteHeader(http.StatusBadRequest)
		_, _ = c.w.Write([]byte("error=unsupported_token_type&error_description=this+token+type+is+not+supported")) // the client may have gone
		return
	}
	c.w.WriteHeader(http.StatusOK)
}

// userinfo serves /services/oauth2/userinfo and the identity URL.
func (s *Server) userinfo(c *call) {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	sess := s.auth.check(token)
	if sess == nil || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "OAuth") {
		c.w.WriteHeader(http.StatusForbidden)
		_, _ = c.w.Write([]byte("Bad_OAuth_Token")) // the client may have gone
		return
	}
	base := s.url + "/services/"
	c.json(http.StatusOK, map[string]any{
		"sub": s.url + "/id/" + s.org.id + "/" + sess.user, "id": s.url + "/id/" + s.org.id + "/" + sess.user, "user_id": sess.user, "organization_id": s.org.id,
		"preferred_username": s.auth.app.Username, "username": s.auth.app.Username, "nickname": "integration", "name": "Integration User", "display_name": "Integration User",
		"email": s.auth.app.Username, "email_verified": true, "given_name": "Integration", "family_name": "User", "zoneinfo": "GMT", "photos": map[string]string{},
		"profile": s.url + "/" + sess.user, "active": true, "user_type": "STANDARD", "language": "en_US", "locale": "en_US", "utcOffset": 0,
		"urls": map[string]string{
			"enterprise": base + "Soap/c/{version}/" + s.org.id[:15], "metadata": base + "Soap/m/{version}/" + s.org.id[:15], "partner": base + "Soap/u/{version}/" + s.org.id[:15],
			"rest": base + "data/v{version}/", "sobjects": base + "data/v{version}/sobjects/", "query": base + "data/v{version}/query/",
			"search": base + "data/v{version}/search/", "recent": base + "data/v{version}/recent/", "tooling_rest": base + "data/v{version}/tooling/",
		},
	})
}
