package api

import (
	"os"
	"strings"
	"testing"
)

// wsdlCodes is every code of the partner WSDL.
func wsdlCodes(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("testdata/codes.txt")
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for code := range strings.FieldsSeq(line) {
			codes[code] = true
		}
	}
	if len(codes) != 540 {
		t.Fatalf("%d codes in testdata/codes.txt", len(codes))
	}
	return codes
}

// classes is the class of every code whose class is not RowFault. It is kept
// apart from the table on purpose: who moves a code must say so twice.
var classes = map[Class]string{
	RetryRow: `UNABLE_TO_LOCK_ROW UNKNOWN_EXCEPTION INTERNAL_ERROR ALL_OR_NONE_OPERATION_ROLLED_BACK PROCESSING_HALTED PLATFORM_EVENT_PUBLISH_FAILED
		RECORD_IN_USE_BY_WORKFLOW COLLISION_DETECTED BATCH_PROCESSING_HALTED XCLEAN_DJ_MATCH_RETRIABLE_ERROR
		MATCH_RUNTIME_ERROR MATCH_SERVICE_ERROR MATCH_SERVICE_TIMED_OUT MATCH_SERVICE_UNAVAILABLE_ERROR InternalServerError Unknown`,
	SplitBatch: `QUERY_TIMEOUT REQUEST_RUNNING_TOO_LONG LIMIT_EXCEEDED EXCEEDED_MAX_SIZE_REQUEST JSON_PARSER_ERROR DELETE_OPERATION_TOO_LARGE URI_TOO_LONG
		OPERATION_TOO_LARGE TOO_MANY_RECORDS PAYLOAD_SIZE_EXCEEDED REALTIME_PROCESSING_TIME_EXCEEDED_LIMIT MAX_LIMIT_EXCEEDED EXCEEDED_MAX_SOBJECTS
		TooManyLockFailure Timeout`,
	RenewSession: `INVALID_SESSION_ID InvalidSessionId`,
	Wait: `SERVER_UNAVAILABLE ORG_IN_MAINTENANCE INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE TOO_MANY_APEX_REQUESTS PLATFORM_EVENT_PUBLISHING_UNAVAILABLE
		TERRITORY_REALIGN_IN_PROGRESS TOO_MANY_JOBS FUNCTIONALITY_TEMPORARILY_UNAVAILABLE SSO_SERVICE_DOWN DATACLOUD_API_SERVER_BUSY_EXCEPTION
		DATACLOUD_API_TIMEOUT_EXCEPTION DATACLOUD_API_UNAVAILABLE SOCIALCRM_FEEDSERVICE_API_UNAVAILABLE CONTENT_HUB_TIMEOUT_EXCEPTION
		CONTENT_IMAGE_SCALING_TIMEOUT_EXCEPTION`,
	StopRun: `REQUEST_LIMIT_EXCEEDED API_DISABLED_FOR_ORG API_CURRENTLY_DISABLED STORAGE_LIMIT_EXCEEDED EXCEEDED_QUOTA TXN_SECURITY_NO_ACCESS
		TXN_SECURITY_METERING_ERROR TXN_SECURITY_RUNTIME_ERROR TXN_SECURITY_APEX_ERROR TXN_SECURITY_END_A_SESSION TXN_SECURITY_TWO_FA_REQUIRED
		TXN_SECURITY_FAIL_CLOSE UNSUPPORTED_API_VERSION EXCEEDED_ID_LIMIT METHOD_NOT_ALLOWED INVALID_TYPE MALFORMED_QUERY QUERY_TOO_COMPLICATED
		INVALID_QUERY_FILTER_OPERATOR INVALID_QUERY_LOCATOR INVALID_REPLICATION_DATE MIXED_DML_OPERATION
		CLIENT_NOT_ACCESSIBLE_FOR_USER CLIENT_REQUIRE_UPDATE_FOR_USER INVALID_AUTH_HEADER INVALID_CLIENT INVALID_LOGIN INVALID_NEW_PASSWORD INVALID_OLD_PASSWORD
		INVALID_OPERATION_WITH_EXPIRED_PASSWORD INVALID_SSO_GATEWAY_URL LOGIN_CHALLENGE_ISSUED LOGIN_CHALLENGE_PENDING LOGIN_DURING_RESTRICTED_DOMAIN
		LOGIN_DURING_RESTRICTED_TIME LOGIN_MUST_USE_SECURITY_TOKEN MUTUAL_AUTHENTICATION_FAILED PASSWORD_LOCKOUT REQUIRE_CONNECTED_APP_SCS
		REQUIRE_CONNECTED_APP_SESSION_SCS REQUIRE_RUNAS_USER TERMS_OF_SERVICE_UNREAD UNSUPPORTED_CLIENT
		KEY_HAS_BEEN_DESTROYED LICENSING_DATA_ERROR LICENSING_UNKNOWN_ERROR ORG_IS_DOT_ORG ORG_IS_SIGNING_UP ORG_LOCKED ORG_NOT_OWNED_BY_INSTANCE TRIAL_EXPIRED
		UNKNOWN_ORG_SETTING APEX_REST_SERVICES_DISABLED FEED_NOT_ENABLED_FOR_OBJECT FUNCTIONALITY_NOT_ENABLED REQUIRED_FEATURE_MISSING SERVICE_DESK_NOT_ENABLED
		ARGUMENT_OBJECT_PARSE_ERROR CIRCULAR_OBJECT_GRAPH EXCEEDED_MAX_TYPES_LIMIT INVALID_BATCH_REQUEST INVALID_BATCH_SIZE INVALID_CONTENT_TYPE
		INVALID_MULTIPART_REQUEST INVALID_SOAP_HEADER MISMATCHING_VERSIONS NOT_ACCEPTABLE POST_BODY_PARSE_ERROR UNSUPPORTED_MEDIA_TYPE XML_PARSER_ERROR
		INVALID_ENTITY_FOR_UPSERT BIG_OBJECT_UNSUPPORTED_OPERATION EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION
		ASYNC_OPERATION_LOCATOR ASYNC_QUERY_UNSUPPORTED_QUERY DATACLOUD_API_INVALID_QUERY_EXCEPTION ENTITY_NOT_QUERYABLE EXCEEDED_MAX_FILTER_ENTITIES
		EXCEEDED_MAX_SEMIJOIN_SUBSELECTS EXCEEDED_MAX_SEMIJOIN_SUBSELECTS_WRITE ILLEGAL_QUERY_PARAMETER_VALUE INVALID_FILTER_LANGUAGE INVALID_FILTER_VALUE
		INVALID_INPUT_COMBINATION INVALID_LOCATOR INVALID_PAGING_OPTION INVALID_QUERY_KEY INVALID_QUERY_SCOPE INVALID_QUERY_VALUE INVALID_SEARCH
		INVALID_SEARCH_SCOPE INVALID_SORT_OPTION MALFORMED_SEARCH
		InvalidBatch ClientInputError ExceededQuota FeatureNotEnabled HttpsRequired InvalidJob InvalidJobState InvalidOperation InvalidUrl InvalidUser
		InvalidVersion InvalidXML MethodNotAllowed NotFound UnsupportedContentType InvalidEntity
		invalid_grant invalid_client invalid_client_id invalid_app_access inactive_user inactive_org rate_limit_exceeded unsupported_grant_type invalid_request invalid_scope`,
}

// TestEveryCodeHasItsClass: every code that the org can say, of the partner WSDL,
// REST, the Bulk APIs in both spellings and OAuth, has a class and a sentence of
// its own; what is in no list is the row's fault.
func TestEveryCodeHasItsClass(t *testing.T) {
	want := make(map[string]Class)
	for code := range wsdlCodes(t) {
		want[code] = RowFault
	}
	for code := range strings.FieldsSeq(documented) {
		want[code] = RowFault
	}
	count := make(map[Class]int)
	for class, codes := range classes {
		for code := range strings.FieldsSeq(codes) {
			if had := want[code]; had != RowFault {
				t.Errorf("%s is listed as %s and as %s", code, had, class)
			}
			want[code] = class
			if !strings.Contains(code, "_") && strings.ToUpper(code) != code {
				want[strings.ToUpper(code)] = class // as Bulk API 2.0 writes it
			}
		}
	}
	nobodys := Explain("BRAND_NEW_CODE")
	for code, class := range want {
		if got := Classify(code, ""); got != class {
			t.Errorf("%s: %s, want %s", code, got, class)
		}
		count[class]++
		hint := Explain(code)
		if !known(code) || hint == nobodys {
			t.Errorf("%s is not explained", code)
		}
		if strings.ContainsAny(hint, "\n_") && !strings.Contains(hint, "api_version") && !strings.Contains(hint, "ingestion_api") &&
			!strings.Contains(hint, "client_") && !strings.Contains(hint, "skip_converted") && !strings.Contains(hint, "allow_duplicates") {
			t.Errorf("%s is explained by %q, which is no plain sentence", code, hint)
		}
	}
	for _, table := range []map[string]advice{advices, rare} {
		for code := range table {
			if _, ok := want[code]; !ok {
				t.Errorf("%s is in the table and in no list", code)
			}
		}
	}
	for code := range rare {
		if _, twice := advices[code]; twice {
			t.Errorf("%s is explained twice", code)
		}
	}
	n := 0
	for _, f := range families {
		n += len(strings.Fields(f.codes))
	}
	if n != len(rare) {
		t.Errorf("%d codes in the families, %d of them different", n, len(rare))
	}
	t.Logf("%d codes: %v", len(want), count)
	for _, code := range []string{"", "BRAND_NEW_CODE", "BrandNewCode", "unable_to_lock_row"} {
		if got := Classify(code, ""); got != RowFault {
			t.Errorf("%q is %s", code, got)
		}
	}
}
