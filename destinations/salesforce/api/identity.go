package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// Identity is who is logged in, and where.
type Identity struct {
	OrgID    string // 18 characters
	UserID   string // 18 characters
	Username string // "" where the app may not see it
}

// Identity says which org and user the session belongs to, logging in first
// where there is none. The ids come with the token; the name is asked for.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	s, err := c.session(ctx, nil)
	if err != nil {
		return Identity{}, err
	}
	known, complete := parseIdentityURL(s.id)
	a, err := c.do(ctx, &call{
		op: "identify the user", method: http.MethodGet, path: "/services/oauth2/userinfo",
		accept: "application/json", repeat: true, whoami: true,
	})
	if err != nil {
		// An app without the scope for userinfo is refused here while its
		// token works everywhere else.
		if e, ok := errors.AsType[*Error](err); ok && complete && (e.Status == 401 || e.Status == 403 || e.Status == 404) {
			known.Username = c.cfg.Username
			return known, nil
		}
		return Identity{}, err
	}
	var info struct {
		UserID   string `json:"user_id"`
		OrgID    string `json:"organization_id"`
		Username string `json:"preferred_username"`
	}
	if err := json.Unmarshal(a.body, &info); err != nil || info.OrgID == "" {
		if complete {
			known.Username = c.cfg.Username
			return known, nil
		}
		return Identity{}, &Error{Op: "identify the user", Status: a.status, Class: StopRun, Message: "the answer names no org", Err: err}
	}
	return Identity{OrgID: LongID(info.OrgID), UserID: LongID(info.UserID), Username: info.Username}, nil
}

// parseIdentityURL reads the org and user out of
// https://login.salesforce.com/id/00D.../005...
func parseIdentityURL(text string) (Identity, bool) {
	u, err := url.Parse(text)
	if err != nil {
		return Identity{}, false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) != 3 || parts[0] != "id" || len(parts[1]) < 15 || len(parts[2]) < 15 {
		return Identity{}, false
	}
	return Identity{OrgID: LongID(parts[1]), UserID: LongID(parts[2])}, true
}

// LongID gives the 18-character form of a 15-character id: the case of each
// five characters, as bits, names one of three characters that follow. Other
// text is returned as it is.
func LongID(id string) string {
	if len(id) != 15 {
		return id
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	long := append(make([]byte, 0, 18), id...)
	for group := 0; group < 15; group += 5 {
		bits := 0
		for i := range 5 {
			if ch := id[group+i]; ch >= 'A' && ch <= 'Z' {
				bits |= 1 << i
			}
		}
		long = append(long, alphabet[bits])
	}
	return string(long)
}
