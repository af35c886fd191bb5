package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"coho/destinations"
	"coho/engine"
	"coho/engine/daemon"
	"coho/planner"
)

// Problem is what the API answers instead of a result: RFC 9457's problem
// document with a stable code. It is also the error that [Client] returns.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"` // the HTTP status
	// Code says what is wrong in a way that programs may rely on: one of the
	// Code constants.
	Code string `json:"code"`
	// Detail is the error in words, without secrets.
	Detail string `json:"detail"`
	// Problems are the lines of an error that has several.
	Problems []string `json:"problems,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// The codes of problems: a contract, never renamed.
const (
	CodeBadRequest   = "request.invalid"    // 400: the request cannot be understood
	CodeUsage        = "request.refused"    // 400: it is understood and makes no sense
	CodeTooLarge     = "request.too_large"  // 413
	CodeMediaType    = "request.media_type" // 415: a body that is not JSON
	CodeHost         = "request.host"       // 403: a Host that is not this machine
	CodeNotFound     = "request.not_found"  // 404: no such path
	CodeMethod       = "request.method"     // 405
	CodeUnauthorized = "auth.token"         // 401: no token, or a wrong one
	CodeNoToken      = "auth.not_configured"
	CodeUnknownName  = "name.unknown"    // 404: no sync, sequence or run has the name
	CodeInvalidSync  = "sync.invalid"    // 422: warehouse or org contradict the sync
	CodeBound        = "sync.bound"      // 409: the state belongs to something else
	CodeBusy         = "sync.busy"       // 409: the sync is running
	CodeHalted       = "run.halted"      // a guard or the API budget halted the run
	CodeCanceled     = "run.canceled"    // stopped before its end
	CodeRunFailed    = "run.failed"      // the run, or the plan, failed
	CodeNotBegun     = "run.not_begun"   // called off before it began
	CodeEnded        = "run.ended"       // 409: the run has ended
	CodeNoPlan       = "run.no_plan"     // 409: no plan of the run waits, or none that can be approved
	CodeConfig       = "config.invalid"  // 422: the new config was refused, the old one stays
	CodeStopping     = "daemon.stopping" // 503: the daemon takes no more work
	CodeTooMany      = "daemon.too_many" // 503: as many event streams as there may be
)

// problem makes a problem document.
func problem(status int, code, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf says of an error what the API's callers are told: the only place
// that maps errors to statuses and codes.
func problemOf(err error) *Problem {
	var (
		p        *Problem
		usage    *engine.UsageError
		invalid  *engine.InvalidSyncError
		bound    *engine.BoundError
		locked   *engine.LockedError
		guard    *planner.GuardError
		budget   *destinations.BudgetError
		tooLarge *http.MaxBytesError
	)
	text := err.Error()
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, CodeTooLarge, text)
	case errors.Is(err, daemon.ErrStopping):
		return problem(http.StatusServiceUnavailable, CodeStopping, text)
	case errors.Is(err, daemon.ErrNotBegun):
		return problem(http.StatusConflict, CodeNotBegun, text)
	case errors.As(err, &locked):
		return problem(http.StatusConflict, CodeBusy, text)
	case errors.As(err, &usage):
		return problem(http.StatusBadRequest, CodeUsage, text)
	case errors.As(err, &invalid):
		p := problem(http.StatusUnprocessableEntity, CodeInvalidSync, text)
		p.Problems = strings.Split(invalid.Error(), "\n")
		return p
	case errors.As(err, &bound):
		return problem(http.StatusConflict, CodeBound, text)
	case errors.As(err, &guard), errors.As(err, &budget):
		return problem(http.StatusConflict, CodeHalted, text)
	case errors.Is(err, destinations.ErrStopped), errors.Is(err, context.Canceled):
		return problem(http.StatusConflict, CodeCanceled, text)
	}
	return problem(http.StatusInternalServerError, CodeRunFailed, text)
}

// write sends the problem as the answer.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	// A client that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(p)
}
