package api

import (
	"net/http"
	"time"

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
	Audience      string        // jwt_bearer: "" for the login host that Domain implies

	RefreshToken models.Secret // refresh_token

	APIVersion string // "62.0"; "" for that

	// DailyCalls is the share of the org's daily API calls that is ours; 0
	// is the org's own limit. With EnforceLimits a call that would pass the
	// budget returns a *BudgetError instead of being made.
	DailyCalls    int64
	EnforceLimits bool
	// UsedToday gives the calls that earlier runs spent in the last 24 hours.
	// It may be nil.
	UsedToday func() int64

	// Transport carries the requests. Nil is a copy of the default transport
	// with timeouts and connection limits that fit the API; it is then closed
	// by Client.Close.
	Transport http.RoundTripper
	UserAgent string

	// OnCall is called after each HTTP exchange, logins included, from the
	// goroutine that made it. It may be nil.
	OnCall func(Call)
}

// Call is one HTTP exchange.
type Call struct {
	Time           time.Time
	Method, Path   string // Path without the query string
	Status         int    // 0 when no answer came
	Duration       time.Duration
	Sent, Received int64 // bytes of the bodies as they travelled
	Login          bool  // a login, which does not count against the API limit
	Err            error
}
