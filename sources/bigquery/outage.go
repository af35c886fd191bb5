package bigquery

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// outagePatience is how long BigQuery may be out of reach, or say that it can
// not just now. The client itself would try again until its context ends.
const outagePatience = 2 * time.Minute

// outageGap is how long after a failure another belongs to the same outage: the
// client pauses for 32 s at most before it tries again.
const outageGap = time.Minute

// outage is a time in which everything fails.
type outage struct {
	patience time.Duration

	mu          sync.Mutex // guards what follows
	first, last time.Time  // failures; zero while all is well
}

// failed counts a failure, and returns for how long all has failed where that is
// longer than patience; else 0.
func (o *outage) failed(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) > outageGap {
		o.first = now
	}
	o.last = now
	if out := now.Sub(o.first); out > o.patience {
		return out
	}
	return 0
}

// ended says that something went well.
func (o *outage) ended() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first, o.last = time.Time{}, time.Time{}
}

// passingErrors hands out answers that the client takes as reasons to try again, until
// they have come for too long.
type passingErrors struct {
	base   http.RoundTripper
	outage outage
}

// maxRefusal is how much of a refusal is looked at; BigQuery's are some hundred
// bytes.
const maxRefusal = 64 << 10

// RoundTrip implements http.RoundTripper.
func (p *passingErrors) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := p.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	why := answer.Status
	switch {
	case answer.StatusCode >= http.StatusInternalServerError, answer.StatusCode == http.StatusTooManyRequests:
	case answer.StatusCode == http.StatusForbidden:
		// Too many queries at once are a 403 too.
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		if err != nil {
			return nil, fmt.Errorf("read the answer: %w", errors.Join(err, answer.Body.Close()))
		}
		_ = answer.Body.Close() // all of it that counts is read
		answer.Body = io.NopCloser(strings.NewReader(string(body)))
		if !strings.Contains(string(body), "ateLimitExceeded") {
			return answer, nil
		}
		why = "that there are too many requests (rateLimitExceeded)"
	default:
		p.outage.ended()
		return answer, nil
	}
	if out := p.outage.failed(time.Now()); out > 0 {
		_ = answer.Body.Close() // what it says is known
		return nil, fmt.Errorf("for %s it has answered %s; run the sync again later, and see https://status.cloud.google.com", out.Round(time.Second), why)
	}
	return answer, nil
}
