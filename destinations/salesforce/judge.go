package salesforce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// verdict says what is to be done about a row after the org's answer.
type verdict uint8

const (
	settledRow  verdict = iota // it has its outcome
	retryRow                   // send it again after a pause
	rematchRow                 // its Id is dead: find its record again
	completeRow                // its record was gone: send all of it
	omitRow                    // send it without the references that are not there
	relookRow                  // look its references up again
	stopRun                    // going on is pointless
)

// answer is what the org said of one row, by either API.
type answer struct {
	ok      bool
	id      string
	created bool
	errors  []api.RowError
}

// judge turns an answer into an outcome, or into what to do next.
func (r *run) judge(ctx context.Context, row *row, a answer) (destinations.Outcome, verdict) {
	if id, ok := canonicalID(a.id); ok {
		a.id = id
	}
	if a.ok {
		return r.accepted(row, a)
	}
	if row.id != "" && a.id == "" {
		a.id = row.id
	}
	if row.kind != planner.Archive {
		if o, v, ok := r.judgeReference(ctx, row, a); ok {
			return o, v
		}
	}
	o := refusal(a, row.attempts)
	gone := o.Code == "ENTITY_IS_DELETED"
	missing := gone || o.Code == "INVALID_CROSS_REFERENCE_KEY" || o.Code == codeNotFound
	switch row.kind {
	case planner.Archive:
		if gone || (missing && row.op.Known) {
			return destinations.Outcome{Result: destinations.Deleted, ID: a.id, Forget: r.forgets(), Attempts: row.attempts}, settledRow
		}
		if missing {
			o.Result = destinations.Skipped
			return o, settledRow
		}
	case planner.ClearFields:
		if missing {
			o.Result, o.Forget = destinations.Skipped, true
			return o, settledRow
		}
	case planner.Update:
		if missing && !row.rematch && !r.t.paired && row.op.Match != "" && r.t.match != nil && !r.t.match.isID() {
			return o, rematchRow
		}
	case planner.Upsert:
		if o.Code == "REQUIRED_FIELD_MISSING" && (row.op.Known || row.part) && !row.complete {
			return o, completeRow
		}
	}
	if r.t.event && o.Code == codeLimit {
		return o, stopRun
	}
	message := ""
	if len(a.errors) > 0 {
		message = a.errors[0].Message
	}
	if locked(o.Code, message) {
		r.t.tally.locks.Add(1)
	}
	switch api.Classify(o.Code, message) {
	case api.RetryRow, api.SplitBatch, api.Wait, api.RenewSession:
		if row.attempts < r.maxAttempts() {
			return o, retryRow
		}
	case api.StopRun:
		return o, stopRun
	}
	return o, settledRow
}

// locked reports a refusal for a lock, automation that ran into one included.
func locked(code, message string) bool {
	return code == codeLocked || strings.Contains(message, codeLocked)
}

const codeLocked = "UNABLE_TO_LOCK_ROW"

// crowded reports whether a code shows that the org has too much to do at once:
// row locks, long-running Apex, too many requests side by side, no server free.
func crowded(code, message string) bool {
	switch strings.ToUpper(code) {
	case "TOO_MANY_APEX_REQUESTS", "SERVER_UNAVAILABLE", "TOOMANYLOCKFAILURE", "REQUEST_RUNNING_TOO_LONG", "TIMEOUT":
		return true
	case "REQUEST_LIMIT_EXCEEDED":
		return api.Classify(code, message) == api.Wait // of concurrent requests
	}
	return locked(code, message)
}

// serviceUnavailable is the HTTP status of an org that has too much to do.
const serviceUnavailable = 503

// crowdedBy is crowded of a request that failed as a whole.
func crowdedBy(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Status == serviceUnavailable || crowded(e.Code, e.Message))
}

// accepted is the outcome of a row that the org took.
func (r *run) accepted(row *row, a answer) (destinations.Outcome, verdict) {
	if a.id == "" {
		a.id = row.id
	}
	o := destinations.Outcome{ID: a.id, Attempts: row.attempts}
	switch row.kind {
	case planner.Insert:
		o.Result = destinations.Created
		if r.t.event {
			o.ID = eventUUID(a.errors)
		}
	case planner.Update:
		o.Result = destinations.Updated
	case planner.ClearFields:
		o.Result = destinations.Cleared
	case planner.Archive:
		o.Result, o.Forget = destinations.Deleted, r.forgets()
	case planner.Upsert:
		o.Result = destinations.Updated
		if a.created || row.complete {
			o.Result = destinations.Created
		}
		if a.created && (row.op.Known || row.part) && !row.complete {
			return o, completeRow
		}
	}
	return o, settledRow
}

// forgets reports whether the snapshot drops the row of a deleted record. In
// archive mode the row is still in the model and must be remembered as done.
func (r *run) forgets() bool { return r.t.sync.Mode != models.ModeArchive }

// maxMessage bounds the length of an error message in bytes: some echo the
// whole value.
const maxMessage = 1000

// refusal is the outcome of a row that the org refused, in its own words.
func refusal(a answer, attempts int) destinations.Outcome {
	o := destinations.Outcome{Result: destinations.Failed, ID: a.id, Attempts: attempts, Code: "UNKNOWN_EXCEPTION"}
	seen := make(map[string]bool)
	var messages, found []string
	for i, e := range a.errors {
		if i == 0 && e.Code != "" {
			o.Code = e.Code
		}
		found = append(found, e.Found...)
		if e.Message != "" {
			messages = append(messages, e.Message)
		}
		for _, f := range e.Fields {
			if !seen[f] {
				seen[f] = true
				o.Fields = append(o.Fields, f)
			}
		}
	}
	o.Message = cut(strings.Join(messages, "; "))
	if len(found) > 0 {
		o.Message = cut(o.Message + foundText(found))
	}
	return o
}

func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	end := maxMessage
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// stopError is the error that ends a run because of a row's answer.
func (r *run) stopError(o destinations.Outcome) error {
	if r.t.event && o.Code == codeLimit {
		return r.t.hourly.refusedByLimit(o.Message)
	}
	return fmt.Errorf("the org refuses every row: %s: %s (%s)", o.Code, o.Message, api.Explain(o.Code))
}
