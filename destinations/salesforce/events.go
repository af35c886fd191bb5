package salesforce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// Platform events are inserted like records and are none: they cannot be found
// again, and the Id in an answer is not always unique (Platform Events Developer
// Guide, "Publish Event Messages with Salesforce APIs"). What identifies an event
// is its EventUuid.

// isEvent reports whether an object is a platform event.
func isEvent(object string) bool { return strings.HasSuffix(strings.ToLower(object), "__e") }

// uuidVersion is the first API version whose answers hold each event's EventUuid.
const uuidVersion = 52

// checkEvent refuses what makes no sense for an event.
func (c *checker) checkEvent() {
	w, name := &c.sync.Write, c.object.Name
	if c.sync.Mode != models.ModeInsert {
		c.problem("", "", "mode %q: platform event %s can only be published, which is mode = \"insert\"", c.sync.Mode, name)
	}
	if c.sync.Match.Field != "" {
		c.problem("", c.sync.Match.Field, "match: platform event %s is no record that could be found; map %s under fields instead", name, c.sync.Match.Field)
	}
	if w.IngestionAPI == "bulk" {
		c.problem("", "", "write.ingestion_api \"bulk\": platform events go by sObject Collections, since a bulk job's results do not tell their EventUuid; use \"automatic\"")
	}
	if w.OnlySyncDifferent {
		c.problem("", "", "write.only_sync_different: platform event %s is no record whose values could be read", name)
	}
	if v := c.client.Version(); v < uuidVersion {
		c.problem("", "", "platform event %s needs api_version = \"%d.0\" or later, from which on the org tells each event's EventUuid; it is \"%d.0\"", name, uuidVersion, v)
	}
}

// eventUUID is the EventUuid in the answer to a published event: a success whose
// errors hold it. "" where the org gave none.
func eventUUID(errs []api.RowError) string {
	for _, e := range errs {
		if strings.EqualFold(e.Code, "OPERATION_ENQUEUED") {
			return strings.TrimSpace(e.Message)
		}
	}
	return ""
}

// lost is the outcome of an event that was sent and whose answer did not come.
// Nothing can be asked what became of it.
func (t *Target) lost(how string, attempts int) destinations.Outcome {
	o := destinations.Outcome{Unknown: true, Code: planner.CodeUnknown, Attempts: attempts}
	switch t.sync.Write.OnUnknown {
	case "hold":
		o.Result = destinations.Held
		o.Message = how + ": it may have been published; it is held and not sent again"
	case "accept":
		o.Result = destinations.Created
		o.Message = how + `: on_unknown = "accept" counts it as published`
	default:
		o.Result = destinations.Resent
		o.Message = how + ": it may have been published, and is sent again"
	}
	return o
}

// lostEvents gives the rows of a request whose answer was lost their outcome, and
// returns those that are to be sent again.
func (r *run) lostEvents(rows []*row, s *settled, e *api.Error) (again []*row) {
	for _, x := range rows {
		o := r.t.lost("the answer to it was lost ("+cut(e.Error())+")", x.attempts)
		s.add(x.op, o)
		if o.Result == destinations.Resent {
			again = append(again, x)
		}
	}
	return again
}

// settleLost does the same for a batch that a run before this one left open, and
// closes it. What is to be sent again goes with the rest of the plan.
func (r *run) settleLost(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	ops, err := r.plan.Read(b.Seqs)
	if err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	defer ops.Close()
	var s settled
	for ops.Next() {
		op := ops.Operation()
		if !pending.Has(op.Seq) {
			continue
		}
		s.add(op.Clone(), r.t.lost("a run was cut short while it was being sent", 1))
		if len(s.ops) < prepareRows {
			continue
		}
		if err := r.settle(ctx, b.Number, s.ops, s.outcomes, false); err != nil {
			return err
		}
		s = settled{}
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	return r.settle(ctx, b.Number, s.ops, s.outcomes, true)
}

// The org's limits of published events by name. The second is of orgs that have
// only standard-volume events; nobody can define those any more, and describe does
// not tell them from others, so that in an org with both their own limit is noticed
// only when the org refuses them (Platform Events Developer Guide, "Platform Event
// Allocations").
var eventLimits = []string{"HourlyPublishedPlatformEvents", "HourlyPublishedStandardVolumePlatformEvents"}

// codeLimit is how the org refuses an event past a limit.
const codeLimit = "LIMIT_EXCEEDED"

// hourlyFresh is how long the org's word is believed, less what was sent since:
// its limits are exact to about five minutes.
const hourlyFresh = 5 * time.Minute

// forbidden is the HTTP status of what a user may not see.
const forbidden = 403

// hourly is how many events an org takes this hour. It is shared by all runs on a
// destination and safe for use by several goroutines.
type hourly struct {
	turn  chan struct{} // admits one at a time to all that follows
	now   func() time.Time
	read  time.Time // zero before the first reading
	known bool      // the org has said what its limit is
	max   int64
	left  int64
}

func newHourly() *hourly { return &hourly{turn: make(chan struct{}, 1), now: time.Now} }

// take asks for leave to publish so many events and returns how many may be: fewer
// where the hour has no room for all, and a *destinations.BudgetError where it has
// none. An org that tells this user no limits is published to without.
func (h *hourly) take(ctx context.Context, t *Target, want int) (int, error) {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-h.turn }()
	if now := h.now(); h.read.IsZero() || now.Sub(h.read) >= hourlyFresh {
		limits, err := t.client.Limits(ctx)
		var e *api.Error
		if errors.As(err, &e) && e.Status == forbidden {
			t.log.WarnContext(ctx, "the org does not tell this user its limits, so the hourly limit of events is not watched; give the user View Setup and Configuration", "error", err)
			limits, err = nil, nil
		}
		if err != nil {
			return 0, err
		}
		h.read, h.known = now, false
		for _, name := range eventLimits {
			if l, ok := limits[name]; ok && !h.known {
				h.known, h.max, h.left = true, l.Max, l.Remaining
			}
		}
	}
	if !h.known {
		return want, nil
	}
	if h.left <= 0 {
		return 0, h.usedUp()
	}
	n := int(min(int64(want), h.left))
	h.left -= int64(n)
	return n, nil
}

func (h *hourly) usedUp() error {
	return &destinations.BudgetError{Used: h.max - max(0, h.left), Limit: h.max, Of: "platform events an hour"}
}

// refusedByLimit is the error of a run whose events the org refuses because the
// hour has no more room.
func (h *hourly) refusedByLimit(message string) error {
	h.turn <- struct{}{} // held for the length of one call to the org at most
	defer func() { <-h.turn }()
	if h.known {
		h.left = 0
		return h.usedUp()
	}
	return fmt.Errorf("%w: %s", &destinations.BudgetError{Of: "platform events an hour"}, message)
}
