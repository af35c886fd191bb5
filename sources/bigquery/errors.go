package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/grpc/status"

	"coho/models"
)

// Error is what BigQuery answered, on one line.
type Error struct {
	Reason  string // BigQuery's word for it, such as invalidQuery
	Message string
	Hint    string // what to do about it; "" if nothing is known
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Message
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	if e.Reason != "" {
		text += " (BigQuery " + e.Reason + ")"
	}
	return text
}

// hints are for the reasons that users meet most (BigQuery's documentation,
// "Error messages").
var hints = map[string]string{
	"accessDenied":             "grant the source's account BigQuery Job User on the project and BigQuery Data Viewer on what the query reads",
	"notFound":                 "check the name and the source's project, dataset and location",
	"bytesBilledLimitExceeded": "raise max_bytes_billed or let the query read less",
	"quotaExceeded":            "the project's quota is used up; see Quotas in the Google Cloud console",
	"rateLimitExceeded":        "too many queries at once; run the sync again",
	"timeout":                  "it ran longer than timeout allows",
	"stopped":                  "somebody canceled the job",
	"billingNotEnabled":        "enable billing for the project",
	"authError":                "the credentials are not valid any more: sign in again or make a new key",
	"resourcesExceeded":        "let the query sort or join less",
	"responseTooLarge":         "let the query return less",
}

// describeError turns the client's error into one line. ctx is the query's:
// where it has ended, that is the reason.
func describeError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("the query was canceled: %w", context.Cause(ctx))
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	reason, message := "", ""
	var answer *googleapi.Error
	var job *bigquery.Error
	switch {
	case errors.As(err, &job):
		reason, message = job.Reason, job.Message
	case errors.As(err, &answer):
		message = answer.Message
		if len(answer.Errors) > 0 {
			reason = answer.Errors[0].Reason
			if message == "" {
				message = answer.Errors[0].Message
			}
		}
		if message == "" {
			message = fmt.Sprintf("HTTP status %d", answer.Code)
		}
	default:
		if s, ok := status.FromError(err); ok {
			reason, message = s.Code().String(), s.Message()
			break
		}
		return &connectionError{err}
	}
	return &Error{Reason: reason, Message: strings.Join(strings.Fields(message), " "), Hint: hints[reason]}
}

// connectionError is a failure to reach BigQuery, or to sign in, on one line.
type connectionError struct{ err error }

// Error implements error.
func (e *connectionError) Error() string {
	return "talk to BigQuery: " + strings.Join(strings.Fields(e.err.Error()), " ")
}

// Unwrap returns the client's own error.
func (e *connectionError) Unwrap() error { return e.err }

// signInError keeps of an error of signing in what tells no secret.
func signInError(err error) error {
	if strings.Contains(err.Error(), "could not find default credentials") {
		return errors.New("sign in to BigQuery: the environment has no default credentials: run gcloud auth application-default login, set GOOGLE_APPLICATION_CREDENTIALS, or give the source a credentials_file")
	}
	return fmt.Errorf("sign in to BigQuery: %w", err)
}

// credentialsType reads which kind of credentials a file holds. Kinds that
// would run a program or fetch a URL of the file's choosing are for the
// environment's default only.
func credentialsType(text models.Secret) (option.CredentialsType, error) {
	var file struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal([]byte(text.Reveal()), &file); err != nil {
		return "", errors.New("the credentials file is not JSON")
	}
	switch kind := credentials.CredType(file.Type); kind {
	case credentials.ServiceAccount:
		return option.ServiceAccount, nil
	case credentials.AuthorizedUser:
		return option.AuthorizedUser, nil
	case credentials.ImpersonatedServiceAccount:
		return option.ImpersonatedServiceAccount, nil
	case credentials.ExternalAccount:
		return option.ExternalAccount, nil
	}
	return "", fmt.Errorf("the credentials file is of the type %q, want service_account, authorized_user, impersonated_service_account or external_account", file.Type)
}
