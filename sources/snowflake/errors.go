package snowflake

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/snowflakedb/gosnowflake"
)

// Error is what Snowflake answered, on one line.
type Error struct {
	Number   int    // Snowflake's code, such as 2003
	SQLState string // "" if unknown
	Message  string
	QueryID  string // to look up in the query history; "" if unknown
	Hint     string // what to do about it; "" if nothing is known
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	fmt.Fprintf(&b, " (Snowflake %06d", e.Number)
	if e.QueryID != "" {
		b.WriteString(", query " + e.QueryID)
	}
	b.WriteString(")")
	return b.String()
}

// hints are for the errors that users meet most. The numbers are those of
// Snowflake's knowledge base and of the driver's errors.go.
var hints = map[int]string{
	606:    "name a warehouse in the source, or give the user a default one",
	630:    "it ran longer than statement_timeout or the warehouse allows",
	2003:   "check the name, and that the source's role may use the database and schema and SELECT from it",
	2043:   "check the name of the database, schema, warehouse and role",
	3001:   "grant the source's role what it lacks",
	390100: "check user and password",
	390144: "check that the public key is set on the user (ALTER USER ... SET RSA_PUBLIC_KEY) and that the account's name is right",
	390189: "check the role",
	390303: "the OAuth token is not valid; get a new one",
	390318: "the OAuth token has expired; get a new one",
	394400: "the programmatic access token is not valid",
}

// link is one to a result's file, whose signature lets anybody read it, or to
// a request.
var link = regexp.MustCompile(`(https?://[^/?\s"]+)[^\s"]*`)

// clean makes one line of a message, without links or the secrets that the
// source signs in with.
func (s *Source) clean(message string) string {
	return s.secrets.Replace(link.ReplaceAllString(strings.Join(strings.Fields(message), " "), "$1"))
}

// fail turns the driver's error into one line without links or tokens. ctx is
// the statement's: where it has ended, that is the reason.
func (s *Source) fail(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("the query was canceled: %w", cause)
	}
	var answer *gosnowflake.SnowflakeError
	if !errors.As(err, &answer) {
		// Not wrapped: what is within names links.
		return errors.New("talk to Snowflake: " + s.clean(err.Error()))
	}
	message := answer.Message
	if len(answer.MessageArgs) > 0 {
		message = fmt.Sprintf(answer.Message, answer.MessageArgs...)
	}
	// The driver repeats number and state before the message.
	message = strings.TrimPrefix(message, fmt.Sprintf("%06d (%s): ", answer.Number, answer.SQLState))
	return &Error{
		Number: answer.Number, SQLState: answer.SQLState, QueryID: answer.QueryID,
		Message: s.clean(message), Hint: hints[answer.Number],
	}
}
