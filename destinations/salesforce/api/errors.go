package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Error is a request that failed as a whole.
type Error struct {
	Op      string // what was being done: "upsert Account records"
	Status  int    // HTTP status, 0 when no answer came
	Code    string // Salesforce's error code, "" when there is none
	Message string // in one line
	Fields  []string
	// Class is Classify's, save where the status says more: a resource that
	// is not there stops the run, and a Collections call that one record
	// spoilt is to be split.
	Class Class
	// Unknown: the request may have been carried out; it was sent and no
	// usable answer came. Where it is false, nothing was done. It comes before
	// Class: an unknown write is not to be sent again, whatever its class,
	// until the org has been asked what became of it.
	Unknown bool
	Err     error

	retryAfter time.Duration
}

// Error implements error, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Code != "" {
		b.WriteString(": ")
		b.WriteString(e.Code)
	}
	if e.Message != "" {
		b.WriteString(": ")
		b.WriteString(e.Message)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(oneLine(e.Err.Error()))
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	return b.String()
}

// Unwrap implements errors.Unwrap.
func (e *Error) Unwrap() error { return e.Err }

// BudgetError says that a call was not made because it would pass the budget.
type BudgetError struct {
	Used, Limit int64
}

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("API budget used up: %d of %d calls", e.Used, e.Limit)
}

// passing reports whether the same request may succeed later on its own. It
// does not say that sending it again is safe.
func passing(e *Error) bool { return e.Class == Wait || e.Class == RetryRow }

// isDial reports an error that came before there was a connection.
func isDial(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	_, dns := errors.AsType[*net.DNSError](err)
	return dns || isTLS(err)
}

// isTLS reports a handshake that failed for good.
func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.HostnameError](err)
	return ok
}

// transportError is the error of a request that no answer came to.
func transportError(ctx context.Context, r *call, host string, err error, unknown bool) *Error {
	e := &Error{Op: r.op, Class: Wait, Unknown: unknown, Err: err}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSilent):
		e.Message, e.Err = "no answer from "+host, cause
		return e
	case cause != nil:
		e.Message, e.Err = "stopped", cause
		if unknown {
			e.Message = "stopped before the answer came"
		}
		return e
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && dns.IsNotFound:
		e.Message, e.Err = "there is no host "+host+": check domain", dns
	case isDNS:
		e.Message, e.Err = "the name "+host+" could not be looked up", dns
	case isTLS(err):
		e.Message, e.Class = "no secure connection to "+host, StopRun
	case isDial(err):
		e.Message = "no connection to " + host
	case unknown:
		e.Message = "the connection to " + host + " was lost before the answer came"
	}
	return e
}

// wireError is one error of an error body. REST says errorCode, records in
// collections statusCode, Bulk 1.0 exceptionCode and OAuth error.
type wireError struct {
	ErrorCode        string     `json:"errorCode" xml:"errorCode"`
	StatusCode       string     `json:"statusCode" xml:"statusCode"`
	ExceptionCode    string     `json:"exceptionCode" xml:"exceptionCode"`
	OAuth            string     `json:"error" xml:"-"`
	Message          string     `json:"message" xml:"message"`
	ExceptionMessage string     `json:"exceptionMessage" xml:"exceptionMessage"`
	Description      string     `json:"error_description" xml:"-"`
	Fields           fieldNames `json:"fields" xml:"fields"`

	// What a duplicate rule found; REST misspells it.
	Found    *wireFound `json:"duplicateResult" xml:"-"`
	FoundAlt *wireFound `json:"duplicateResut" xml:"-"`
}

// wireFound is what a duplicate rule found of a record.
type wireFound struct {
	MatchResults []struct {
		MatchRecords []struct {
			Record struct {
				ID string `json:"Id"`
			} `json:"record"`
		} `json:"matchRecords"`
	} `json:"matchResults"`
}

// UnmarshalJSON implements json.Unmarshaler. What has another shape is taken for
// nothing, because the error it belongs to matters more.
func (w *wireFound) UnmarshalJSON(b []byte) error {
	type plain wireFound
	if p := new(plain); json.Unmarshal(b, p) == nil {
		*w = wireFound(*p)
	}
	return nil
}

// found is the Ids of the records that a duplicate rule found, each once.
func (w *wireError) found() []string {
	var ids []string
	for _, f := range []*wireFound{w.Found, w.FoundAlt} {
		if f == nil {
			continue
		}
		for i := range f.MatchResults {
			for _, m := range f.MatchResults[i].MatchRecords {
				ids = append(ids, m.Record.ID)
			}
		}
	}
	return distinct(ids)
}

func (w *wireError) code() string {
	return first(w.ErrorCode, w.StatusCode, w.ExceptionCode, w.OAuth)
}

func (w *wireError) message() string { return first(w.Message, w.ExceptionMessage, w.Description) }

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// fieldNames is a list of field names; a lone name, null or anything else is
// taken for what it is worth, because the error it belongs to matters more.
type fieldNames []string

// UnmarshalJSON implements json.Unmarshaler.
func (f *fieldNames) UnmarshalJSON(b []byte) error {
	*f = nil
	var many []string
	if json.Unmarshal(b, &many) == nil {
		if len(many) > 0 {
			*f = many
		}
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil && one != "" {
		*f = fieldNames{one}
	}
	return nil
}

// decodeErrors reads an error body in any of its shapes. It returns nil for
// what is none, such as a page of HTML.
func decodeErrors(body []byte) []wireError {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 {
		return nil
	}
	var found []wireError
	switch body[0] {
	case '[':
		if json.Unmarshal(body, &found) != nil {
			return nil
		}
	case '{':
		found = make([]wireError, 1)
		if json.Unmarshal(body, &found[0]) != nil {
			return nil
		}
	case '<':
		found = decodeXML(body)
	}
	kept := found[:0]
	for _, w := range found {
		if w.code() != "" {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// decodeXML reads <Errors><Error>..</Error></Errors>, Bulk's <error> and the fault of
// a SOAP envelope.
func decodeXML(body []byte) []wireError {
	var doc struct {
		XMLName xml.Name
		wireError
		Errors []wireError `xml:"Error"`
		Fault  struct {
			Code string `xml:"faultcode"`
			Text string `xml:"faultstring"`
		} `xml:"Body>Fault"`
	}
	if xml.NewDecoder(io.LimitReader(bytes.NewReader(body), 1<<20)).Decode(&doc) != nil {
		return nil
	}
	switch strings.ToLower(doc.XMLName.Local) {
	case "errors":
		return doc.Errors
	case "error":
		return []wireError{doc.wireError}
	case "envelope":
		code := doc.Fault.Code[strings.IndexByte(doc.Fault.Code, ':')+1:]
		return []wireError{{ErrorCode: code, Message: strings.TrimPrefix(doc.Fault.Text, code+": ")}}
	}
	return nil
}

// refusal reports the codes by which the org turns a request away at the door,
// whatever the status: nothing of it was carried out.
func refusal(code string) bool {
	switch code {
	case "REQUEST_LIMIT_EXCEEDED", "SERVER_UNAVAILABLE", "ORG_IN_MAINTENANCE", "INVALID_SESSION_ID",
		"INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED":
		return true
	}
	return false
}

// httpError is the error of an answer that is no success.
func (c *Client) httpError(r *call, resp *http.Response, body []byte) *Error {
	status := resp.StatusCode
	e := &Error{Op: r.op, Status: status, retryAfter: retryAfter(resp.Header)}
	found := decodeErrors(body)
	for i := range found {
		w := &found[i]
		text := oneLine(w.message())
		if i == 0 {
			e.Code, e.Message = w.code(), text
		} else if text != "" && text != e.Message {
			e.Message += "; " + text
		}
		e.Fields = append(e.Fields, w.Fields...)
	}
	e.Message = c.scrub(e.Message)
	if e.Message == "" {
		e.Message = describeBody(status, resp.Header, body)
	}

	switch {
	case e.Code != "" && known(e.Code):
		e.Class = Classify(e.Code, e.Message)
	case status == 420 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		e.Class = Wait
	case status == http.StatusRequestEntityTooLarge || status == http.StatusRequestURITooLong || status == http.StatusRequestHeaderFieldsTooLarge:
		e.Class = SplitBatch
	case status == http.StatusBadRequest || status == http.StatusMultipleChoices || status == http.StatusConflict:
		e.Class = RowFault
	default:
		e.Class = StopRun
	}
	switch status {
	case http.StatusUnauthorized:
		// Another 401 than an expired session is a policy that a new login
		// does not change.
		if e.Class != RenewSession || strings.Contains(e.Message, "not valid for use with the REST API") {
			e.Class = StopRun
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusUnsupportedMediaType:
		if e.Class == RowFault {
			e.Class = StopRun
		}
	}

	switch {
	case refusal(e.Code):
	case status >= 500, status == http.StatusRequestTimeout:
		e.Unknown = true
	case status < 400 && status != http.StatusMultipleChoices:
		e.Unknown = true // a redirect, which the API never uses
	}
	return e
}

// garbled is the error for a success whose body cannot be read: a page of
// HTML, or an answer of another shape than documented.
func garbled(r *call, a *answer, err error) *Error {
	e := &Error{Op: r.op, Status: a.status, Class: Wait, Unknown: true, Message: describeBody(a.status, a.header, a.body), Err: err}
	if looksHTML(a.body) {
		e.Err = nil
	} else {
		e.Message = "the answer is not what the API documents"
	}
	return e
}

func looksHTML(body []byte) bool {
	head := bytes.ToLower(bytes.TrimSpace(body[:min(len(body), 256)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// describeBody says in a line what came instead of an error body.
func describeBody(status int, h http.Header, body []byte) string {
	name := http.StatusText(status)
	if status == 420 {
		name = "no such org on this host"
	}
	switch text := bytes.TrimSpace(body); {
	case len(text) == 0:
		return first(name, "an empty answer")
	case looksHTML(text):
		return strings.TrimSpace(name + " (an HTML page instead of an answer)")
	case status == http.StatusMultipleChoices:
		return "several records match"
	default:
		kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
		return strings.TrimSpace(fmt.Sprintf("%s (%d bytes of %s instead of an error)", name, len(text), first(kind, "an unnamed type")))
	}
}

// scrub takes credentials out of a text that the org sent.
func (c *Client) scrub(text string) string {
	for _, secret := range []string{c.cfg.ClientSecret.Reveal(), c.cfg.RefreshToken.Reveal(), c.refreshToken(), c.sessions.token()} {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// oneLine folds the white space of a text, which may span lines.
func oneLine(text string) string {
	if !strings.ContainsAny(text, "\n\r\t") {
		return strings.TrimSpace(text)
	}
	return strings.Join(strings.Fields(text), " ")
}
