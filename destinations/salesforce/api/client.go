package api

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"coho/models"
)

// The ways to log in, as Config.Auth names them.
const (
	AuthClientCredentials = "client_credentials"
	AuthJWTBearer         = "jwt_bearer"
	AuthRefreshToken      = "refresh_token"
)

// Config says which org to talk to, as whom, and within what budget.
type Config struct {
	// Domain is the org's My Domain: a host ("acme.my.salesforce.com") or a
	// full URL ("http://127.0.0.1:8088").
	Domain string

	Auth         string // client_credentials, jwt_bearer or refresh_token
	ClientID     string
	ClientSecret models.Secret // client_credentials; refresh_token where the app asks for it

	Username      string        // jwt_bearer: the user to act as
	PrivateKeyPEM models.Secret // jwt_bearer: the RSA key whose certificate the app holds
	Audience      string        // jwt_bearer: "" for the one that Domain implies

	// RefreshToken is of auth refresh_token. Where the app rotates refresh
	// tokens the client goes on with each new one while it lives, and writes
	// none down: the configured one then logs in once only.
	RefreshToken models.Secret

	APIVersion string // "62.0"; "" for that

	// DailyCalls is the share of the org's daily API calls that is ours; 0
	// is the org's own limit. With EnforceLimits a call that would pass the
	// budget returns a *BudgetError instead of being made.
	DailyCalls    int64
	EnforceLimits bool
	// UsedToday gives the calls that were spent in the last 24 hours by
	// others than this client: earlier runs. It may be nil.
	UsedToday func() int64

	// Transport carries the requests. Nil is a copy of the default transport
	// with timeouts and connection limits that fit the API, which Close then
	// closes.
	Transport http.RoundTripper
	UserAgent string

	// OnCall is called after each HTTP exchange, logins included, from the
	// goroutine that made it. It may be nil.
	OnCall func(Call)

	// Trace is called as OnCall is, with the context of the call and, where
	// TraceBytes is positive, with up to so many bytes of the beginnings of
	// the bodies, secrets and tokens taken out. It may be nil.
	Trace      func(context.Context, Call)
	TraceBytes int
}

// Call is one HTTP exchange.
type Call struct {
	Time           time.Time
	Method, Path   string // Path without the query string
	Status         int    // 0 when no answer came
	Duration       time.Duration
	Sent, Received int64 // bytes of the bodies as they travelled
	Login          bool  // a login, or the question whose it is: neither counts against the API limit
	Err            error

	// For Trace only. Rows is the records that the call carried, either way,
	// as far as that is known to the client; Request of a GET is its query.
	Rows            int64
	Request, Answer string
}

const (
	defaultVersion   = "62.0"
	defaultUserAgent = "coho"

	// The org ends a call after ten minutes (Developer Limits Quick Reference,
	// "REST/SOAP call timeout"), so an answer may take that long.
	writePatience = 11 * time.Minute
	// A query is ended after two minutes, and nothing else that may be
	// repeated takes longer.
	readPatience = 3 * time.Minute
)

// Client talks to one org. It is safe for use by several goroutines, which
// share its session, its connections and its budget.
type Client struct {
	cfg      Config
	login    *url.URL // scheme and host of Domain
	audience string
	key      *rsa.PrivateKey // jwt_bearer
	prefix   string          // "/services/data/v62.0"

	transport http.RoundTripper
	own       *http.Transport // transport, where the client made it

	meter     meter
	sessions  sessions
	describes describes
	versions  versionCheck

	retry    backoff
	patience struct{ read, write time.Duration }

	// life bounds the logins, which outlive the call that began them because
	// others wait for them too. Close cancels it and waits on logins.
	life   context.Context
	end    context.CancelFunc
	logins sync.WaitGroup
}

// New checks a config and makes a client of it. It does no I/O: the first call
// logs in.
func New(cfg Config) (*Client, error) {
	login, err := parseDomain(cfg.Domain)
	if err != nil {
		return nil, err
	}
	if cfg.APIVersion == "" {
		cfg.APIVersion = defaultVersion
	}
	cfg.APIVersion = strings.TrimPrefix(cfg.APIVersion, "v")
	if v, err := strconv.ParseFloat(cfg.APIVersion, 64); err != nil || v < 31 || v > 999 || !strings.HasSuffix(cfg.APIVersion, ".0") {
		return nil, fmt.Errorf("api_version %q is not a version such as %q (31.0 or later)", cfg.APIVersion, defaultVersion)
	}
	if cfg.DailyCalls < 0 {
		return nil, fmt.Errorf("daily_api_calls is %d: it cannot be negative", cfg.DailyCalls)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = defaultUserAgent
	}
	c := &Client{
		cfg:      cfg,
		login:    login,
		audience: cfg.Audience,
		prefix:   "/services/data/v" + cfg.APIVersion,
		retry:    backoff{start: 250 * time.Millisecond, cap: 30 * time.Second, attempts: 6},
	}
	c.patience.read, c.patience.write = readPatience, writePatience
	if err := c.checkAuth(); err != nil {
		return nil, err
	}
	c.meter.init(cfg.DailyCalls, cfg.EnforceLimits, cfg.UsedToday)
	c.versions.turn = make(chan struct{}, 1)
	c.describes.entries = map[string]*describeEntry{}
	c.transport = cfg.Transport
	if c.transport == nil {
		c.own = newTransport()
		c.transport = c.own
	}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// checkAuth reports settings that the chosen way to log in needs and lacks.
func (c *Client) checkAuth() error {
	cfg := &c.cfg
	var missing []string
	need := func(name, value string) {
		if value == "" {
			missing = append(missing, name)
		}
	}
	need("client_id", cfg.ClientID)
	switch cfg.Auth {
	case AuthClientCredentials:
		need("client_secret", cfg.ClientSecret.Reveal())
		if host := c.login.Hostname(); host == "login.salesforce.com" || host == "test.salesforce.com" {
			return fmt.Errorf("domain %s does not serve client_credentials: name the org's own domain, such as acme.my.salesforce.com", host)
		}
	case AuthJWTBearer:
		need("username", cfg.Username)
		need("private_key_file", cfg.PrivateKeyPEM.Reveal())
		if len(missing) == 0 {
			key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(cfg.PrivateKeyPEM.Reveal()))
			if err != nil {
				return errors.New("private_key_file does not hold an unencrypted RSA private key in PEM form")
			}
			c.key = key
		}
		if c.audience == "" {
			c.audience = defaultAudience(c.login)
		}
	case AuthRefreshToken:
		need("refresh_token", cfg.RefreshToken.Reveal())
	default:
		return fmt.Errorf("auth %q is not %s, %s or %s", cfg.Auth, AuthClientCredentials, AuthJWTBearer, AuthRefreshToken)
	}
	if len(missing) > 0 {
		return fmt.Errorf("auth %s needs %s", cfg.Auth, strings.Join(missing, " and "))
	}
	return nil
}

// parseDomain turns a host or a URL into the URL of the org's root.
func parseDomain(domain string) (*url.URL, error) {
	text := strings.TrimSpace(domain)
	if text == "" {
		return nil, errors.New("domain is empty: name the org's own domain, such as acme.my.salesforce.com")
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("domain is not a host such as acme.my.salesforce.com, nor an http or https URL of one")
	}
	host := strings.ToLower(u.Hostname())
	if name, ok := strings.CutSuffix(host, ".lightning.force.com"); ok {
		return nil, fmt.Errorf("domain %s serves pages, not the API: use %s.my.salesforce.com", host, name)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

// defaultAudience is the audience that an org expects of a JWT: the login host
// of its kind, or the address itself for what is not on Salesforce's domains.
func defaultAudience(login *url.URL) string {
	const production, sandbox = "https://login.salesforce.com", "https://test.salesforce.com"
	switch host := login.Hostname(); {
	case host == "test.salesforce.com",
		strings.HasSuffix(host, ".sandbox.my.salesforce.com"),
		strings.HasSuffix(host, ".scratch.my.salesforce.com"):
		return sandbox
	case host == "login.salesforce.com", strings.HasSuffix(host, ".my.salesforce.com"):
		return production
	default:
		return login.String()
	}
}

// newTransport is the default transport fitted to many parallel requests to
// one host.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        128,
		MaxIdleConnsPerHost: 64,
		// Short, because a write that goes out on a connection the org is just
		// closing has an unknown outcome.
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // the client asks for gzip itself
	}
}

// Close ends logins under way and closes idle connections. Results that are
// still being read should be closed first.
func (c *Client) Close() error {
	c.sessions.close()
	c.end()
	c.logins.Wait()
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}
