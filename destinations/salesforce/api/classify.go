package api

import "strings"

// Class says what to do about an error.
type Class uint8

// The classes. The zero value is the class of codes that nobody knows.
const (
	// RowFault is permanent for the row: its data or the mapping is wrong.
	RowFault Class = iota
	// RetryRow is a passing condition: the same row may be sent again. The
	// row was not written.
	RetryRow
	// SplitBatch means that fewer rows in one request may succeed. Of a
	// request for one row it is that row's fault.
	SplitBatch
	// RenewSession means that a new login is needed. The client does this
	// itself; a caller sees it only where renewal did not help.
	RenewSession
	// Wait is a condition of the org that passes: pause, then send again.
	Wait
	// StopRun hits every row alike: going on is pointless until a person, or
	// the next day, changes it.
	StopRun
)

// String names the class.
func (c Class) String() string {
	names := [...]string{"row fault", "retry row", "split batch", "renew session", "wait", "stop run"}
	if int(c) < len(names) {
		return names[c]
	}
	return "unknown class"
}

// advice is what is known of a code: its class, and what a person should do.
type advice struct {
	class Class
	hint  string
}

// Classify says what to do about an error code. Salesforce wraps some codes in
// others and uses some for two conditions, so the message decides too; this is
// the one place that reads it. Bulk job errors are codes too ("InvalidBatch").
func Classify(code, message string) Class {
	switch code {
	case "REQUEST_LIMIT_EXCEEDED":
		// "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
		// passes in seconds; "TotalRequests Limit exceeded." in hours.
		if containsFold(message, "concurrent") {
			return Wait
		}
		return StopRun
	case "CANNOT_EXECUTE_FLOW_TRIGGER", "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "CUSTOM_APEX_ERROR", "FLOW_EXCEPTION", "UNKNOWN_EXCEPTION":
		// Automation that ran into a lock or a limit on the row's behalf.
		switch {
		case strings.Contains(message, "UNABLE_TO_LOCK_ROW"):
			return RetryRow
		case strings.Contains(message, "LimitException"), containsFold(message, "time limit exceeded"):
			return SplitBatch
		}
	case "LIMIT_EXCEEDED":
		if containsFold(message, "publish") || containsFold(message, "hourly") || containsFold(message, "daily") {
			return StopRun
		}
	}
	a, _ := lookUp(code)
	return a.class
}

// Explain says in one sentence what to do about a code. It is never empty.
func Explain(code string) string {
	if a, ok := lookUp(code); ok {
		return a.hint
	}
	return "Read the message: it is the org's own, often written by its administrator or raised by a trigger or flow."
}

func known(code string) bool {
	_, ok := lookUp(code)
	return ok
}

// lookUp finds a code as REST writes it (UNABLE_TO_LOCK_ROW), as Bulk 1.0 and
// job messages do (InvalidBatch), or as Bulk 2.0 does (INVALIDBATCH).
func lookUp(code string) (advice, bool) {
	if a, ok := advices[code]; ok {
		return a, true
	}
	if a, ok := rare[code]; ok {
		return a, true
	}
	if strings.Contains(code, "_") {
		return advice{}, false
	}
	a, ok := bulkAdvices[strings.ToUpper(code)]
	return a, ok
}

func containsFold(text, lower string) bool { return strings.Contains(strings.ToLower(text), lower) }

// The hints of codes that share one.
const (
	hintLock      = "Another process held the record or its parent; the row is sent again by itself."
	hintLater     = "The org is busy or under maintenance; run again later."
	hintReference = "Check that the record this row refers to exists and is of the right object."
	hintAccess    = "Give the integration user access to the object, the field or the record."
	hintSecurity  = "A transaction security policy of the org stopped the call; ask an administrator to exempt the integration user."
	hintQuery     = "The query is not one the org accepts; check the object and field names in it."
	hintEnabled   = "API access is switched off for the org or its edition; ask an administrator."
	hintAnother   = "Another row of the same request failed; look at that row's error."
	hintAutomated = "A flow, process or trigger of the org refused the record; its message says which one, and an administrator must fix it or the data."
	hintSmaller   = "Automation in the org is too slow for batches of this size; lower the batch size."
	hintBug       = "The request is malformed; check api_version, and report this as a fault of coho."
	hintTypes     = "A value has another type than its field; correct the mapping or the value in the model."
	hintDelete    = "Other records depend on this one; delete or detach those first."
)

// advices is every code of the REST API that is likely to come of writing rows,
// or that is acted on.
var advices = map[string]advice{
	// Session and org.
	"INVALID_SESSION_ID":     {RenewSession, "The session is not accepted even after a new login; check the session and IP policies of the user and the app."},
	"REQUEST_LIMIT_EXCEEDED": {StopRun, "The org's API calls of the last 24 hours are used up; run again when calls are available."},
	"SERVER_UNAVAILABLE":     {Wait, hintLater},
	"ORG_IN_MAINTENANCE":     {Wait, hintLater},
	"INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE": {Wait, "The org is read-only during maintenance; run again later."},
	"API_DISABLED_FOR_ORG":                                {StopRun, hintEnabled},
	"API_CURRENTLY_DISABLED":                              {StopRun, hintEnabled},
	"STORAGE_LIMIT_EXCEEDED":                              {StopRun, "The org's data storage is full; delete records or buy storage."},
	"EXCEEDED_QUOTA":                                      {StopRun, "The org's Bulk API batches of the last 24 hours are used up; run again later."},
	"TXN_SECURITY_NO_ACCESS":                              {StopRun, hintSecurity},
	"TXN_SECURITY_METERING_ERROR":                         {StopRun, hintSecurity},
	"TXN_SECURITY_RUNTIME_ERROR":                          {StopRun, hintSecurity},
	"TXN_SECURITY_APEX_ERROR":                             {StopRun, hintSecurity},
	"TXN_SECURITY_END_A_SESSION":                          {StopRun, hintSecurity},
	"TXN_SECURITY_TWO_FA_REQUIRED":                        {StopRun, hintSecurity},
	"TXN_SECURITY_FAIL_CLOSE":                             {StopRun, hintSecurity},
	"PLATFORM_EVENT_PUBLISHING_UNAVAILABLE":               {Wait, hintLater},
	"PLATFORM_EVENT_PUBLISH_FAILED":                       {RetryRow, "The event could not be published; it is sent again by itself."},
	"UNSUPPORTED_API_VERSION":                             {StopRun, "Set api_version to one that the org serves."},
	"URI_TOO_LONG":                                        {SplitBatch, hintBug},

	// Passing conditions.
	"UNABLE_TO_LOCK_ROW":                {RetryRow, hintLock},
	"TOO_MANY_APEX_REQUESTS":            {Wait, "Too many long-running Apex requests are active in the org; run again later or with less parallelism."},
	"UNKNOWN_EXCEPTION":                 {RetryRow, "The org failed internally; if it goes on, give the error id in the message to Salesforce Support."},
	"INTERNAL_ERROR":                    {RetryRow, "The org failed internally; if it goes on, give the error id in the message to Salesforce Support."},
	"ALL_OR_NONE_OPERATION_ROLLED_BACK": {RetryRow, hintAnother},
	"PROCESSING_HALTED":                 {RetryRow, hintAnother},

	// Too much at once.
	"QUERY_TIMEOUT":              {SplitBatch, "The query took over two minutes; ask for fewer records or filter on an indexed field."},
	"REQUEST_RUNNING_TOO_LONG":   {SplitBatch, hintSmaller},
	"LIMIT_EXCEEDED":             {SplitBatch, "A limit of the org was passed; the message names it."},
	"EXCEEDED_MAX_SIZE_REQUEST":  {SplitBatch, "The request was larger than the org accepts; lower the batch size."},
	"JSON_PARSER_ERROR":          {SplitBatch, hintTypes},
	"DELETE_OPERATION_TOO_LARGE": {SplitBatch, "Deleting these records would delete too many others at once; delete the dependent records first."},

	// The mapping or the request.
	"EXCEEDED_ID_LIMIT":             {StopRun, "The request named more records than the org accepts; lower the batch size."},
	"METHOD_NOT_ALLOWED":            {StopRun, hintBug},
	"INVALID_TYPE":                  {StopRun, "The object does not exist, or the integration user may not see it; check object."},
	"MALFORMED_QUERY":               {StopRun, hintQuery},
	"QUERY_TOO_COMPLICATED":         {StopRun, "The query selects too many formula fields at once; select fewer."},
	"INVALID_QUERY_FILTER_OPERATOR": {StopRun, hintQuery},
	"INVALID_QUERY_LOCATOR":         {StopRun, "The query's results have expired on the org; run again."},
	"INVALID_REPLICATION_DATE":      {StopRun, "The org keeps changes for 30 days; ask for a later start."},
	"MIXED_DML_OPERATION":           {StopRun, "Setup objects, such as User, cannot be written together with others; give them a sync of their own."},
	"API_ERROR":                     {RowFault, "The job is still being processed; wait for it to end."},

	// The row.
	"NOT_FOUND":                                     {RowFault, "The record does not exist, or the integration user may not see it."},
	"INVALID_FIELD":                                 {RowFault, "Check that the field exists, that the integration user may see it, and that a record referred to by external id exists."},
	"INVALID_FIELD_FOR_INSERT_UPDATE":               {RowFault, "The named fields cannot be written by the integration user; leave them out of the mapping or give access to them."},
	"MALFORMED_ID":                                  {RowFault, "The value is not a Salesforce Id of the object that the field refers to."},
	"INVALID_ID_FIELD":                              {RowFault, "The value is not a Salesforce Id of the object that the field refers to."},
	"INVALID_CROSS_REFERENCE_KEY":                   {RowFault, hintReference},
	"INVALID_CROSS_REFERENCE_TYPE_FOR_FIELD":        {RowFault, hintReference},
	"INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": {RowFault, "The integration user may not see or share the record that this row refers to."},
	"INSUFFICIENT_ACCESS_OR_READONLY":               {RowFault, hintAccess},
	"ENTITY_IS_DELETED":                             {RowFault, "The record is in the org's recycle bin; restore it, or let the next full run create it again."},
	"ENTITY_IS_LOCKED":                              {RowFault, "The record is locked, usually by an approval process; it can be written once that ends."},
	"ENTITY_IS_ARCHIVED":                            {RowFault, "The record is archived and cannot be written."},
	"ENTITY_FAILED_IFLASTMODIFIED_ON_UPDATE":        {RowFault, "The record was changed by someone else in the meantime; run again."},
	"REQUIRED_FIELD_MISSING":                        {RowFault, "Map the named fields and make sure that the model has a value for them."},
	"STRING_TOO_LONG":                               {RowFault, "The value is longer than the field takes; shorten it in the model or lengthen the field."},
	"NUMBER_OUTSIDE_VALID_RANGE":                    {RowFault, "The number has more digits than the field takes."},
	"INVALID_TYPE_ON_FIELD_IN_RECORD":               {RowFault, hintTypes},
	"INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST":       {RowFault, "Add the value to the picklist, and to the record type where there is one, or map it to a value that exists."},
	"INVALID_EMAIL_ADDRESS":                         {RowFault, "The value is not an e-mail address; correct it or clear it in the model."},
	"FIELD_CUSTOM_VALIDATION_EXCEPTION":             {RowFault, "A validation rule of the org refused the record; the message is the rule's own."},
	"FIELD_FILTER_VALIDATION_EXCEPTION":             {RowFault, "The record referred to does not pass the lookup filter of the field."},
	"FIELD_INTEGRITY_EXCEPTION":                     {RowFault, "The value contradicts another field or is unknown to the org; the message says which."},
	"DUPLICATE_VALUE":                               {RowFault, "Another record, or another row of the model, has the same value in a unique field; make the key unique in the model."},
	"DUPLICATE_EXTERNAL_ID":                         {RowFault, "Several records of the org have this key; merge them, or make the field unique."},
	"DUPLICATES_DETECTED":                           {RowFault, "A duplicate rule found a similar record; merge them, or set allow_duplicates if the rule only alerts."},
	"MISSING_ARGUMENT":                              {RowFault, "The match field is empty; every row needs a key."},
	"CANNOT_UPDATE_CONVERTED_LEAD":                  {RowFault, "The lead has been converted; set skip_converted, or write to the contact it became."},
	"CANNOT_EXECUTE_FLOW_TRIGGER":                   {RowFault, hintAutomated},
	"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY":          {RowFault, hintAutomated},
	"CUSTOM_APEX_ERROR":                             {RowFault, hintAutomated},
	"FLOW_EXCEPTION":                                {RowFault, hintAutomated},
	"INVALID_STATUS":                                {RowFault, "The record cannot take this status from the one it is in."},
	"INACTIVE_OWNER_OR_USER":                        {RowFault, "The owner or user is inactive; choose an active one."},
	"OP_WITH_INVALID_USER_TYPE_EXCEPTION":           {RowFault, "A user of this licence cannot own the record; choose another owner."},
	"INVALID_PERSON_ACCOUNT_OPERATION":              {RowFault, "Person accounts are written through Account, with LastName in place of Name."},
	"PERSON_ACCOUNT_CONTACT_EXISTS":                 {RowFault, "The contact belongs to a person account; write the account instead."},
	"DELETE_FAILED":                                 {RowFault, hintDelete},
	"DEPENDENCY_EXISTS":                             {RowFault, hintDelete},
	"MERGE_FAILED":                                  {RowFault, "The records could not be merged; the message says why."},
	"OPERATION_ENQUEUED":                            {RowFault, "This is no error: the event was accepted."},

	// Logging in.
	"invalid_grant":          {StopRun, "The login was refused; the message says which setting to check."},
	"invalid_client":         {StopRun, "The app's secret or certificate was refused; check client_secret or private_key_file."},
	"invalid_client_id":      {StopRun, "client_id is not the consumer key of an app in this org."},
	"invalid_app_access":     {StopRun, "An administrator must give the user access to the app."},
	"inactive_user":          {StopRun, "The user is inactive; activate it or choose another."},
	"inactive_org":           {StopRun, "The org is inactive; check domain."},
	"rate_limit_exceeded":    {StopRun, "Too many logins of this user within the hour; try again later."},
	"unsupported_grant_type": {StopRun, "This host does not serve the way to log in; name the org's own domain."},
	"invalid_request":        {StopRun, "The login was refused as malformed; check auth and the settings it needs."},
	"invalid_scope":          {StopRun, "The app lacks the scope api; add it."},
}

// bulkAdvices is every code of the Bulk APIs, upper-case and without
// separators, which is how Bulk API 2.0 writes the names of 1.0.
var bulkAdvices = map[string]advice{
	"TOOMANYLOCKFAILURE":     {SplitBatch, "Rows of the job fought over the same parents; sort by the parent, or use smaller or serial batches."},
	"INVALIDBATCH":           {StopRun, "The job's columns or its CSV were refused; check the mapped fields and the integration user's access to them."},
	"CLIENTINPUTERROR":       {StopRun, hintBug},
	"EXCEEDEDQUOTA":          {StopRun, "The org's Bulk API batches of the last 24 hours are used up; run again later."},
	"FEATURENOTENABLED":      {StopRun, "The integration user lacks a permission for this: hard delete needs Bulk API Hard Delete."},
	"HTTPSREQUIRED":          {StopRun, "The org wants https; check domain."},
	"INTERNALSERVERERROR":    {RetryRow, "The org failed internally; run again, and ask Salesforce Support if it goes on."},
	"UNKNOWN":                {RetryRow, "The org failed internally; run again, and ask Salesforce Support if it goes on."},
	"TIMEOUT":                {SplitBatch, hintSmaller},
	"INVALIDENTITY":          {StopRun, "The Bulk API does not take this object; set ingestion_api to rest."},
	"INVALIDJOB":             {StopRun, "The org refused the job; the message says why, often an object that the Bulk API does not take."},
	"INVALIDJOBSTATE":        {StopRun, "The job was already closed or aborted, perhaps by someone else; run again."},
	"INVALIDOPERATION":       {StopRun, "The operation is not one for this object or job."},
	"INVALIDSESSIONID":       {RenewSession, "The session is not accepted even after a new login; check the session and IP policies of the user and the app."},
	"INVALIDURL":             {StopRun, hintBug},
	"INVALIDUSER":            {StopRun, "The job belongs to another user; use the user that created it."},
	"INVALIDVERSION":         {StopRun, "The org does not serve this API version; check api_version."},
	"INVALIDXML":             {StopRun, hintBug},
	"METHODNOTALLOWED":       {StopRun, hintBug},
	"NOTFOUND":               {StopRun, "The job is not there any more: the org keeps jobs for seven days."},
	"UNSUPPORTEDCONTENTTYPE": {StopRun, hintBug},
}
