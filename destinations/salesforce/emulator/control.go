package emulator

import (
	"encoding/json"
	"net/http"
	"time"
)

// control serves /emulator/..., the org's own control API. It is no part of
// Salesforce, needs no login and counts nothing.
func (s *Server) control(c *call) {
	name, arg := "", ""
	if len(c.path) > 0 {
		name = c.path[0]
	}
	if len(c.path) > 1 {
		arg = c.path[1]
	}
	switch c.r.Method + " " + name {
	case "GET counters":
		c.json(http.StatusOK, s.Counters())
	case "DELETE counters":
		s.ResetCounters()
		c.w.WriteHeader(http.StatusNoContent)
	case "GET credentials":
		c.json(http.StatusOK, s.Credentials())
	case "POST faults":
		var f Fault
		if c.decode(&f) {
			s.AddFault(f)
			c.w.WriteHeader(http.StatusNoContent)
		}
	case "DELETE faults":
		s.ClearFaults()
		c.w.WriteHeader(http.StatusNoContent)
	case "POST expire-sessions":
		s.ExpireSessions()
		c.w.WriteHeader(http.StatusNoContent)
	case "POST hold-bulk":
		s.HoldBulk(true)
		c.w.WriteHeader(http.StatusNoContent)
	case "DELETE hold-bulk":
		s.HoldBulk(false)
		c.w.WriteHeader(http.StatusNoContent)
	case "GET records":
		if s.org.object(arg) == nil {
			c.notFound()
			return
		}
		c.json(http.StatusOK, s.org.Records(arg))
	case "GET events":
		c.json(http.StatusOK, append([]map[string]any{}, s.org.Published(arg)...))
	case "POST advance-time":
		var in struct {
			By string `json:"by"` // such as "36h"
		}
		if !c.decode(&in) {
			return
		}
		d, err := time.ParseDuration(in.By)
		if err != nil || d < 0 {
			c.fail(http.StatusBadRequest, "INVALID", "by: want a duration such as 36h")
			return
		}
		s.org.AdvanceTime(d)
		c.w.WriteHeader(http.StatusNoContent)
	case "POST api-calls":
		var in struct {
			Used int `json:"used"`
		}
		if c.decode(&in) {
			s.SetAPICallsUsed(in.Used)
			c.w.WriteHeader(http.StatusNoContent)
		}
	case "POST convert-lead":
		s.convertLead(c)
	default:
		c.notFound()
	}
}

func (c *call) decode(into any) bool {
	text, ok := c.body(maxBody)
	if !ok {
		return false
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		c.fail(http.StatusBadRequest, "INVALID", err.Error())
		return false
	}
	return true
}
