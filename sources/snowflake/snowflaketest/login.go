package snowflaketest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// User is somebody who may sign in, by what is set.
type User struct {
	Name        string
	Password    string
	PublicKey   *rsa.PublicKey
	OAuthToken  string
	AccessToken string
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Data struct {
			Account       string         `json:"ACCOUNT_NAME"`
			User          string         `json:"LOGIN_NAME"`
			Password      string         `json:"PASSWORD"`
			Authenticator string         `json:"AUTHENTICATOR"`
			Token         string         `json:"TOKEN"`
			Parameters    map[string]any `json:"SESSION_PARAMETERS"`
		} `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d := body.Data
	user := d.User
	var refused *Failure
	switch d.Authenticator {
	case "":
		if s.user(func(u User) bool { return u.Name == d.User && u.Password != "" && u.Password == d.Password }) == nil {
			refused = &Failure{Code: "390100", Message: "Incorrect username or password was specified."}
		}
	case "SNOWFLAKE_JWT":
		u := s.user(func(u User) bool { return u.PublicKey != nil && verifyJWT(d.Token, d.Account, u) == nil })
		if u == nil {
			refused = &Failure{Code: "390144", Message: "JWT token is invalid."}
		} else {
			user = u.Name
		}
	case "OAUTH":
		if s.user(func(u User) bool { return u.OAuthToken != "" && u.OAuthToken == d.Token }) == nil {
			refused = &Failure{Code: "390303", Message: "Invalid OAuth access token. " + d.Token}
		}
	case "PROGRAMMATIC_ACCESS_TOKEN":
		if s.user(func(u User) bool { return u.Name == d.User && u.AccessToken != "" && u.AccessToken == d.Token }) == nil {
			refused = &Failure{Code: "394400", Message: "Programmatic access token is invalid."}
		}
	default:
		refused = &Failure{Code: "390139", Message: "The specified authenticator is not accepted by your Snowflake account configuration."}
	}
	if refused != nil {
		s.reply(w, refused.Code, false, refused.Message, nil)
		return
	}
	if role := r.URL.Query().Get("roleName"); role == "NOBODY" {
		s.reply(w, "390189", false, "Role 'NOBODY' specified in the connect string does not exist or not authorized. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.", nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id()
	new := &session{token: "session-" + id, master: "master-" + id}
	s.sessions[new.token], s.masters[new.master] = new, new
	q := r.URL.Query()
	s.logins = append(s.logins, Login{
		User: user, Authenticator: d.Authenticator, Account: d.Account, Parameters: d.Parameters,
		Role: q.Get("roleName"), Warehouse: q.Get("warehouse"), Database: q.Get("databaseName"), Schema: q.Get("schemaName"),
	})
	s.succeed(w, map[string]any{
		"token": new.token, "masterToken": new.master, "sessionId": s.next, "validityInSeconds": 3600, "masterValidityInSeconds": 14400,
		"parameters": []any{}, "sessionInfo": map[string]any{"roleName": q.Get("roleName"), "warehouseName": q.Get("warehouse")},
	})
}

// user returns the user that is, or somebody where everybody may sign in.
func (s *Server) user(is func(User) bool) *User {
	if len(s.o.Users) == 0 {
		return &User{}
	}
	for _, u := range s.o.Users {
		if is(u) {
			return &u
		}
	}
	return nil
}

// verifyJWT checks a key pair's token (Snowflake's documentation, "Key-pair
// authentication": issuer ACCOUNT.USER.SHA256:fingerprint, subject
// ACCOUNT.USER, RS256).
func verifyJWT(token, account string, u User) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not a token")
	}
	var decoded [3][]byte
	for i, p := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return err
		}
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(u.PublicKey, crypto.SHA256, sum[:], decoded[2]); err != nil {
		return err
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(decoded[1], &claims); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(u.PublicKey)
	if err != nil {
		return err
	}
	print := sha256.Sum256(der)
	subject := strings.ToUpper(account) + "." + strings.ToUpper(u.Name)
	switch {
	case claims.Subject != subject:
		return errors.New("another subject")
	case claims.Issuer != subject+".SHA256:"+base64.StdEncoding.EncodeToString(print[:]):
		return errors.New("another key")
	case time.Now().Unix() > claims.Expires:
		return errors.New("expired")
	}
	return nil
}
