package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Usage is what the client has cost, and what is left.
type Usage struct {
	Calls     int64 // calls this client has made, logins left out
	Limit     int64 // the org's daily calls, as last heard; -1 unknown
	Remaining int64 // of those; -1 unknown
}

// counterKey is CountCalls's key in a context.
type counterKey struct{}

// CountCalls returns a context under which every HTTP exchange that counts
// against the org's limit adds one to n: the calls of one piece of work, where
// several share a client. Logins do not count, retries do.
func CountCalls(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, counterKey{}, n)
}

// Usage returns the counts so far.
func (c *Client) Usage() Usage { return c.meter.usage() }

// staleLimit is how long the org's word that its calls are used up is believed.
// The limit is one of a rolling day, so calls come back without being told.
const staleLimit = 15 * time.Minute

// meter counts calls and holds them to the budget.
type meter struct {
	daily   int64
	enforce bool
	earlier func() int64

	mu    sync.Mutex
	calls int64
	hours [24]hour // this client's calls of the last day
	used  int64    // the org's own count, -1 unknown
	limit int64    // the org's limit, -1 unknown
	heard time.Time
}

type hour struct {
	at    int64 // hours since the epoch
	calls int64
}

func (m *meter) init(daily int64, enforce bool, earlier func() int64) {
	m.daily, m.enforce, m.earlier = daily, enforce, earlier
	m.used, m.limit = -1, -1
}

// reserve counts a call before it is made, or refuses it.
func (m *meter) reserve(now time.Time) error {
	var earlier int64
	if m.enforce && m.daily > 0 && m.earlier != nil {
		earlier = m.earlier()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := now.Unix() / 3600
	switch {
	case !m.enforce:
	case m.daily > 0:
		used := earlier
		for _, h := range m.hours {
			if h.at > at-24 {
				used += h.calls
			}
		}
		if used >= m.daily {
			return &BudgetError{Used: used, Limit: m.daily}
		}
	case m.limit >= 0 && m.used >= m.limit && now.Sub(m.heard) < staleLimit:
		return &BudgetError{Used: m.used, Limit: m.limit}
	}
	h := &m.hours[at%24]
	if h.at != at {
		*h = hour{at: at}
	}
	h.calls++
	m.calls++
	return nil
}

// refund takes back a call that never reached the org.
func (m *meter) refund(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := now.Unix() / 3600
	if h := &m.hours[at%24]; h.at == at && h.calls > 0 {
		h.calls--
	}
	m.calls--
}

// note takes in the Sforce-Limit-Info header of an answer.
func (m *meter) note(header string, now time.Time) {
	used, limit, ok := parseLimitInfo(header)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.limit, m.heard = used, limit, now
}

func (m *meter) usage() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := Usage{Calls: m.calls, Limit: m.limit, Remaining: -1}
	if m.limit >= 0 {
		u.Remaining = max(0, m.limit-m.used)
	}
	return u
}

// parseLimitInfo reads "api-usage=18/5000", which other items may surround:
// "api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)".
func parseLimitInfo(header string) (used, limit int64, ok bool) {
	for item := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		counts, found := strings.CutPrefix(strings.TrimSpace(item), "api-usage=")
		if !found {
			continue
		}
		of, total, found := strings.Cut(counts, "/")
		if !found {
			return 0, 0, false
		}
		used, err := strconv.ParseInt(strings.TrimSpace(of), 10, 64)
		if err != nil || used < 0 {
			return 0, 0, false
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		if err != nil || limit < 0 {
			return 0, 0, false
		}
		return used, limit, true
	}
	return 0, 0, false
}

// Limit is one of the org's limits. The org keeps them exact to about five
// minutes.
type Limit struct {
	Max, Remaining int64
}

// Limits returns the org's limits by name ("DailyApiRequests"). The user needs
// the permission View Setup and Configuration.
func (c *Client) Limits(ctx context.Context) (map[string]Limit, error) {
	r := c.get("read the org's limits", "/limits", "")
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	limits := map[string]Limit{}
	if err := json.Unmarshal(a.body, &limits); err != nil {
		return nil, garbled(r, a, err)
	}
	return limits, nil
}

// RecordCount is about how many records an object has: the org counts now and then
// (REST API Developer Guide, "Record Count").
func (c *Client) RecordCount(ctx context.Context, object string) (int64, error) {
	r := c.get("count "+object+" records", "/limits/recordCount", "sObjects="+url.QueryEscape(object))
	a, err := c.do(ctx, r)
	if err != nil {
		return 0, err
	}
	var counts struct {
		Objects []struct {
			Name  string `json:"name"`
			Count int64  `json:"count"`
		} `json:"sObjects"`
	}
	if err := json.Unmarshal(a.body, &counts); err != nil {
		return 0, garbled(r, a, err)
	}
	for _, o := range counts.Objects {
		if strings.EqualFold(o.Name, object) {
			return o.Count, nil
		}
	}
	return 0, nil // an object without records is not in the list
}

// get is a read of a resource below the version's path.
func (c *Client) get(op, path, query string) *call {
	return &call{op: op, method: http.MethodGet, path: c.prefix + path, query: query, accept: "application/json", repeat: true}
}
