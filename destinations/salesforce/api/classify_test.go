package api

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	const lock = "We can't save this record because the \"X\" process failed. ... UNABLE_TO_LOCK_ROW: unable to obtain exclusive access to this record"
	for name, test := range map[string]struct {
		code, message string
		want          Class
	}{
		"nobody knows it":        {"BRAND_NEW_CODE", "", RowFault},
		"no code":                {"", "", RowFault},
		"session":                {"INVALID_SESSION_ID", "Session expired or invalid", RenewSession},
		"daily limit":            {"REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", StopRun},
		"concurrent limit":       {"REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.", Wait},
		"concurrent transaction": {"REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.", Wait},
		"limit without words":    {"REQUEST_LIMIT_EXCEEDED", "", StopRun},
		"lock":                   {"UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access", RetryRow},
		"lock in a flow":         {"CANNOT_EXECUTE_FLOW_TRIGGER", lock, RetryRow},
		"flow":                   {"CANNOT_EXECUTE_FLOW_TRIGGER", "We can't save this record", RowFault},
		"lock in a trigger":      {"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "T: execution of AfterInsert caused by: System.DmlException: ... UNABLE_TO_LOCK_ROW", RetryRow},
		"CPU in a trigger":       {"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "System.LimitException: Apex CPU time limit exceeded", SplitBatch},
		"trigger":                {"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "T: execution of BeforeInsert caused by: System.NullPointerException", RowFault},
		"unknown exception":      {"UNKNOWN_EXCEPTION", "123456789-12345 (-1234567890)", RetryRow},
		"storage":                {"STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", StopRun},
		"publishing limit":       {"LIMIT_EXCEEDED", "The hourly publishing limit was exceeded", StopRun},
		"governor limit":         {"LIMIT_EXCEEDED", "You have reached a limit", SplitBatch},
		"maintenance":            {"SERVER_UNAVAILABLE", "", Wait},
		"parser":                 {"JSON_PARSER_ERROR", "", SplitBatch},
		"query timeout":          {"QUERY_TIMEOUT", "", SplitBatch},
		"mapping":                {"INVALID_TYPE", "", StopRun},
		"bulk 1.0 spelling":      {"TooManyLockFailure", "", SplitBatch},
		"bulk 2.0 spelling":      {"TOOMANYLOCKFAILURE", "", SplitBatch},
		"bulk quota":             {"ExceededQuota", "ApiBatchItems Limit exceeded.", StopRun},
		"bulk batch":             {"InvalidBatch", "Field name not found : Foo__c", StopRun},
		"bulk session":           {"InvalidSessionId", "", RenewSession},
		"duplicate":              {"DUPLICATE_VALUE", "", RowFault},
		"rolled back":            {"ALL_OR_NONE_OPERATION_ROLLED_BACK", "", RetryRow},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Classify(test.code, test.message); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// documented is every code of the reference's tables of errors.
const documented = `INVALID_SESSION_ID REQUEST_LIMIT_EXCEEDED SERVER_UNAVAILABLE ORG_IN_MAINTENANCE INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE
UNABLE_TO_LOCK_ROW TOO_MANY_APEX_REQUESTS QUERY_TIMEOUT REQUEST_RUNNING_TOO_LONG UNKNOWN_EXCEPTION INTERNAL_ERROR API_DISABLED_FOR_ORG API_CURRENTLY_DISABLED
STORAGE_LIMIT_EXCEEDED LIMIT_EXCEEDED EXCEEDED_ID_LIMIT EXCEEDED_MAX_SIZE_REQUEST EXCEEDED_QUOTA TXN_SECURITY_NO_ACCESS TXN_SECURITY_METERING_ERROR
TXN_SECURITY_RUNTIME_ERROR TXN_SECURITY_APEX_ERROR TXN_SECURITY_END_A_SESSION TXN_SECURITY_TWO_FA_REQUIRED TXN_SECURITY_FAIL_CLOSE NOT_FOUND METHOD_NOT_ALLOWED
JSON_PARSER_ERROR INVALID_FIELD INVALID_FIELD_FOR_INSERT_UPDATE INVALID_TYPE MALFORMED_QUERY QUERY_TOO_COMPLICATED INVALID_QUERY_FILTER_OPERATOR INVALID_QUERY_LOCATOR
MALFORMED_ID INVALID_CROSS_REFERENCE_KEY INVALID_CROSS_REFERENCE_TYPE_FOR_FIELD INVALID_ID_FIELD INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY INSUFFICIENT_ACCESS_OR_READONLY
ENTITY_IS_DELETED ENTITY_IS_LOCKED ENTITY_IS_ARCHIVED ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE REQUIRED_FIELD_MISSING STRING_TOO_LONG NUMBER_OUTSIDE_VALID_RANGE
INVALID_TYPE_ON_FIELD_IN_RECORD INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST INVALID_EMAIL_ADDRESS FIELD_CUSTOM_VALIDATION_EXCEPTION FIELD_FILTER_VALIDATION_EXCEPTION
FIELD_INTEGRITY_EXCEPTION DUPLICATE_VALUE DUPLICATE_EXTERNAL_ID DUPLICATES_DETECTED MISSING_ARGUMENT CANNOT_UPDATE_CONVERTED_LEAD CANNOT_EXECUTE_FLOW_TRIGGER
CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY CUSTOM_APEX_ERROR FLOW_EXCEPTION INVALID_STATUS INACTIVE_OWNER_OR_USER OP_WITH_INVALID_USER_TYPE_EXCEPTION
INVALID_PERSON_ACCOUNT_OPERATION PERSON_ACCOUNT_CONTACT_EXISTS DELETE_FAILED DEPENDENCY_EXISTS DELETE_OPERATION_TOO_LARGE MIXED_DML_OPERATION MERGE_FAILED ALL_OR_NONE_OPERATION_ROLLED_BACK
PROCESSING_HALTED OPERATION_ENQUEUED API_ERROR
TooManyLockFailure InvalidBatch ClientInputError Timeout ExceededQuota InternalServerError Unknown FEATURENOTENABLED UNSUPPORTEDCONTENTTYPE INVALIDJOB INVALIDJOBSTATE
FeatureNotEnabled HttpsRequired InvalidJob InvalidJobState InvalidOperation InvalidSessionId InvalidUrl InvalidUser InvalidVersion InvalidXML MethodNotAllowed NotFound UnsupportedContentType
invalid_grant invalid_client invalid_client_id invalid_app_access inactive_user inactive_org rate_limit_exceeded unsupported_grant_type invalid_request invalid_scope`

func TestEveryDocumentedCodeIsExplained(t *testing.T) {
	for _, code := range strings.Fields(documented) {
		if !known(code) {
			t.Errorf("%s is not in the table", code)
		}
	}
	for _, table := range []map[string]advice{advices, rare, bulkAdvices} {
		for code, a := range table {
			if a.hint == "" || !strings.HasSuffix(a.hint, ".") || strings.Contains(a.hint, "\n") || a.hint[0] < 'A' || a.hint[0] > 'z' {
				t.Errorf("%s is explained by %q", code, a.hint)
			}
		}
	}
	if Explain("BRAND_NEW_CODE") == "" || Explain("UNABLE_TO_LOCK_ROW") == Explain("BRAND_NEW_CODE") {
		t.Error("codes are not explained apart")
	}
}
