package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenPath = "/services/oauth2/token"

	// loginPatience bounds a login with its retries.
	loginPatience = 2 * time.Minute

	// assertionLife is how long a signed assertion holds; the org refuses
	// long ones.
	assertionLife = 3 * time.Minute

	// A login that was refused for good is not tried again for a while: many
	// callers meet the same expired session, and an org locks a user out who
	// knocks too often.
	refusalHolds = 30 * time.Second
)

// session is one login. It is not changed once made.
type session struct {
	token string
	base  *url.URL // instance_url: where the API is, from each login anew
	id    string   // the identity URL, "" where the answer had none
}

// sessions holds the current session and sees to it that one login serves all
// who need it.
type sessions struct {
	mu      sync.Mutex
	current *session
	flight  *loginFlight
	refused *Error // the last login was refused for good
	until   time.Time
	refresh string // the refresh token to use, where the org has rotated it
	closed  bool
}

type loginFlight struct {
	done    chan struct{} // closed once session and err are set
	session *session
	err     error
}

var errClosed = errors.New("the client is closed")

func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// token is the current access token, or "".
func (s *sessions) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return ""
	}
	return s.current.token
}

// session returns a session other than stale, logging in where there is none.
// However many callers ask at once, one request is made.
func (c *Client) session(ctx context.Context, stale *session) (*session, error) {
	s := &c.sessions
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if s.current != nil && s.current != stale {
		defer s.mu.Unlock()
		return s.current, nil
	}
	if s.refused != nil && time.Now().Before(s.until) {
		defer s.mu.Unlock()
		refused := *s.refused
		return nil, &refused
	}
	flight := s.flight
	if flight == nil {
		flight = &loginFlight{done: make(chan struct{})}
		s.flight = flight
		c.logins.Go(func() { c.fly(flight) })
	}
	s.mu.Unlock()

	select {
	case <-flight.done:
		if e, ok := errors.AsType[*Error](flight.err); ok {
			own := *e // others wait on the flight too
			return nil, &own
		}
		return flight.session, flight.err
	case <-ctx.Done():
		return nil, &Error{Op: c.loginOp(), Class: Wait, Message: "stopped waiting for the login", Err: context.Cause(ctx)}
	}
}

// fly logs in for all who wait on the flight.
func (c *Client) fly(flight *loginFlight) {
	ctx, cancel := context.WithTimeout(c.life, loginPatience)
	defer cancel()
	next, err := c.logIn(ctx)

	s := &c.sessions
	s.mu.Lock()
	flight.session, flight.err = next, err
	s.flight = nil
	if err == nil {
		s.current, s.refused = next, nil
	} else if e, ok := errors.AsType[*Error](err); ok && e.Class == StopRun {
		s.refused, s.until = e, time.Now().Add(refusalHolds)
	}
	s.mu.Unlock()
	close(flight.done)
}

func (c *Client) loginOp() string { return "log in to " + c.login.Host }

// logIn asks for a token, again where the failure may pass.
func (c *Client) logIn(ctx context.Context) (*session, error) {
	for attempt := 1; ; attempt++ {
		s, wait, err := c.requestToken(ctx)
		if err == nil {
			return s, nil
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || !passing(e) || !c.retry.pause(ctx, attempt, e, wait) {
			return nil, err
		}
	}
}

// tokenAnswer is the token endpoint's answer, success or not.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	InstanceURL  string `json:"instance_url"`
	ID           string `json:"id"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

func (c *Client) requestToken(ctx context.Context) (*session, time.Duration, error) {
	form, err := c.tokenForm()
	if err != nil {
		return nil, 0, &Error{Op: c.loginOp(), Class: StopRun, Message: "the login could not be signed", Err: err}
	}
	r := &call{
		op: c.loginOp(), method: http.MethodPost, path: tokenPath, accept: "application/json",
		contentType: "application/x-www-form-urlencoded", body: []byte(form.Encode()),
		repeat: true, plain: true, login: true,
	}
	a, err := c.exchange(ctx, &session{base: c.login}, r)
	if err != nil {
		// It is the login itself that went unanswered; whatever call waits
		// for it has not been made.
		if e, ok := errors.AsType[*Error](err); ok {
			e.Unknown = false
			c.explainLogin(e)
			return nil, e.retryAfter, e
		}
		return nil, 0, err
	}
	var t tokenAnswer
	if err := json.Unmarshal(a.body, &t); err != nil || t.AccessToken == "" || t.InstanceURL == "" {
		return nil, 0, &Error{Op: c.loginOp(), Status: a.status, Class: StopRun,
			Message: "the answer is not a token: is the domain that of an org?"}
	}
	base, err := url.Parse(t.InstanceURL)
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != c.login.Scheme) {
		return nil, 0, &Error{Op: c.loginOp(), Status: a.status, Class: StopRun,
			Message: "the token's instance_url is not an address that a token may be sent to"}
	}
	if t.RefreshToken != "" && c.cfg.Auth == AuthRefreshToken {
		// An app with refresh token rotation has just made the old one void.
		// The new one serves this process. It is not written anywhere: state
		// holds no secrets, and the place that the configured one came from
		// is not ours to write. The next process is told what to do.
		c.sessions.mu.Lock()
		c.sessions.refresh = t.RefreshToken
		c.sessions.mu.Unlock()
	}
	return &session{token: t.AccessToken, base: &url.URL{Scheme: base.Scheme, Host: base.Host}, id: t.ID}, 0, nil
}

// tokenForm is the body of a token request.
func (c *Client) tokenForm() (url.Values, error) {
	form := url.Values{}
	switch c.cfg.Auth {
	case AuthClientCredentials:
		form.Set("grant_type", "client_credentials")
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", c.cfg.ClientSecret.Reveal())
	case AuthJWTBearer:
		assertion, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": c.cfg.ClientID,
			"sub": c.cfg.Username,
			"aud": c.audience,
			"exp": time.Now().Add(assertionLife).Unix(),
		}).SignedString(c.key)
		if err != nil {
			return nil, err
		}
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
		form.Set("assertion", assertion)
	case AuthRefreshToken:
		form.Set("grant_type", "refresh_token")
		form.Set("client_id", c.cfg.ClientID)
		if secret := c.cfg.ClientSecret.Reveal(); secret != "" {
			form.Set("client_secret", secret)
		}
		form.Set("refresh_token", c.refreshToken())
	}
	return form, nil
}

// refreshToken is the configured refresh token, or the one that replaced it.
func (c *Client) refreshToken() string {
	c.sessions.mu.Lock()
	defer c.sessions.mu.Unlock()
	if c.sessions.refresh != "" {
		return c.sessions.refresh
	}
	return c.cfg.RefreshToken.Reveal()
}

// explainLogin adds to a refused login what to do about it. The OAuth error
// alone does not say: invalid_grant means another thing for each way to log in.
func (c *Client) explainLogin(e *Error) {
	if e.Status == 0 || passing(e) {
		return
	}
	e.Class = StopRun
	said := strings.ToLower(e.Message)
	var hint string
	switch e.Code {
	case "invalid_grant":
		switch {
		case c.cfg.Auth == AuthRefreshToken:
			hint = "the refresh token has expired or was revoked, or the app rotates refresh tokens, which this auth cannot outlive: authorise again and set refresh_token, with rotation off, or use auth jwt_bearer or client_credentials"
		case c.cfg.Auth == AuthClientCredentials:
			hint = "enable the client credentials flow on the app and choose the user it runs as"
		case strings.Contains(said, "approved"):
			hint = fmt.Sprintf("pre-authorise %s for the app (its permitted users, by profile or permission set)", c.cfg.Username)
		case strings.Contains(said, "audience"):
			hint = fmt.Sprintf("the audience %s is not this org's: set audience, or the domain of the right org", c.audience)
		default:
			hint = "check username, and that private_key_file belongs to the certificate uploaded on the app; the clock must be right too"
		}
	case "invalid_client":
		hint = "client_secret is wrong, or belongs to another app"
		if c.cfg.Auth == AuthJWTBearer {
			hint = "client_id names no app that holds the certificate of private_key_file"
		}
	case "invalid_client_id":
		hint = "client_id is not the consumer key of an app in this org"
	case "invalid_app_access":
		hint = "an administrator must give the user access to the app"
	case "inactive_user":
		hint = "the user is inactive: activate it or choose another"
	case "inactive_org":
		hint = "the org is inactive: check domain"
	case "unsupported_grant_type":
		hint = fmt.Sprintf("%s does not serve auth %s: name the org's own domain", c.login.Host, c.cfg.Auth)
	case "rate_limit_exceeded":
		hint = "too many logins of this user within the hour: try again later"
	case "":
		hint = "is the domain that of an org?"
	}
	switch {
	case hint == "":
	case e.Message == "":
		e.Message = hint
	default:
		e.Message += ": " + hint
	}
}
