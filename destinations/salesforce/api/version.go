package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const versionsPath = "/services/data/"

// versionCheck finds out, at most once, whether the org serves the version.
type versionCheck struct {
	turn    chan struct{} // admits one caller at a time to the rest
	done    bool
	verdict string // "" where the version is served
}

// Version is the API version that the client speaks, such as 62.
func (c *Client) Version() int {
	v, _ := strconv.ParseFloat(c.cfg.APIVersion, 64) // New has checked it
	return int(v)
}

// checkVersion explains a resource that was not found by the API version,
// where that is the reason. An org answers both alike, and lists its versions
// to anyone who asks.
func (c *Client) checkVersion(ctx context.Context, s *session, path string) string {
	if !strings.HasPrefix(path, c.prefix) {
		return ""
	}
	v := &c.versions
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return ""
	}
	if v.done {
		return v.verdict
	}
	a, err := c.exchange(ctx, s, &call{
		op: "list the API versions", method: http.MethodGet, path: versionsPath,
		accept: "application/json", repeat: true, free: true,
	})
	if err != nil {
		return ""
	}
	var served []struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(a.body, &served) != nil || len(served) == 0 {
		return ""
	}
	v.done = true
	for _, one := range served {
		if one.Version == c.cfg.APIVersion {
			return ""
		}
	}
	v.verdict = fmt.Sprintf("the org does not serve API version %s; its newest is %s: set api_version",
		c.cfg.APIVersion, served[len(served)-1].Version)
	return v.verdict
}
