package emulator

import (
	"net/http"
	"time"
)

// replicationWindow is how far back getUpdated and getDeleted look.
const replicationWindow = 30 * 24 * time.Hour

// window reads the start and end of a replication call, to the minute; false
// when the answer is given.
func (s *Server) window(c *call) (from, to int64, ok bool) {
	q := c.r.URL.Query()
	start, okStart := parseInstant(q.Get("start"))
	end, okEnd := parseInstant(q.Get("end"))
	if !okStart || !okEnd {
		c.fail(http.StatusBadRequest, "INVALID_REPLICATION_DATE", "start and end are needed, in ISO 8601 with an offset")
		return 0, 0, false
	}
	start, end = start.Truncate(time.Minute), end.Truncate(time.Minute)
	if end.Sub(start) < time.Minute {
		c.fail(http.StatusBadRequest, "INVALID_REPLICATION_DATE", "endDate: must be more than one minute after startDate")
		return 0, 0, false
	}
	if s.org.Clock().Sub(start) > replicationWindow {
		c.fail(http.StatusBadRequest, "INVALID_REPLICATION_DATE", "startDate: cannot be more than 30 days ago")
		return 0, 0, false
	}
	return start.Unix(), end.Unix(), true
}

// updated serves getUpdated (REST API Developer Guide, "sObject Get Updated").
func (s *Server) updated(c *call, obj *object) {
	from, to, ok := s.window(c)
	if !ok {
		return
	}
	ids := []string{}
	s.org.mu.RLock()
	for _, r := range obj.records {
		if r != nil && !r.deleted && r.modstamp >= from && r.modstamp < to {
			ids = append(ids, makeID(obj.prefix, r.sequence()))
		}
	}
	s.org.mu.RUnlock()
	c.json(http.StatusOK, map[string]any{"ids": ids, "latestDateCovered": stamp(time.Unix(min(to, s.org.Clock().Unix()), 0))})
}

// deleted serves getDeleted (REST API Developer Guide, "sObject Get Deleted").
func (s *Server) deleted(c *call, obj *object) {
	from, to, ok := s.window(c)
	if !ok {
		return
	}
	type gone struct {
		ID          string `json:"id"`
		DeletedDate string `json:"deletedDate"`
	}
	all := []gone{}
	s.org.mu.RLock()
	for _, r := range obj.records {
		if r != nil && r.deleted && r.modstamp >= from && r.modstamp < to {
			all = append(all, gone{makeID(obj.prefix, r.sequence()), stamp(time.Unix(r.modstamp, 0))})
		}
	}
	s.org.mu.RUnlock()
	now := s.org.Clock()
	c.json(http.StatusOK, map[string]any{
		"deletedRecords": all, "earliestDateAvailable": stamp(now.Add(-replicationWindow)), "latestDateCovered": stamp(time.Unix(min(to, now.Unix()), 0)),
	})
}
