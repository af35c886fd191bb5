package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The partner WSDL's calls on records: create, update, upsert, delete and
// convertLead, and the small ones that clients make around them.

// soapCalls are the calls of the partner WSDL, by name.
var soapCalls = map[string]func(*Server, *call, *element){
	"merge":              (*Server).soapMerge,
	"create":             func(s *Server, c *call, op *element) { s.soapWrite(c, op, opInsert) },
	"update":             func(s *Server, c *call, op *element) { s.soapWrite(c, op, opUpdate) },
	"upsert":             func(s *Server, c *call, op *element) { s.soapWrite(c, op, opUpsert) },
	"delete":             func(s *Server, c *call, op *element) { s.soapWrite(c, op, opDelete) },
	"convertLead":        (*Server).soapConvert,
	"findDuplicates":     (*Server).soapFindDuplicates,
	"logout":             (*Server).soapLogout,
	"getUserInfo":        (*Server).soapUserInfo,
	"getServerTimestamp": (*Server).soapTimestamp,
}

func (s *Server) soapLogout(c *call, _ *element) {
	s.auth.end(c.session.token)
	c.soapAnswer(partnerSpace, "logout", "")
}

func (s *Server) soapUserInfo(c *call, _ *element) {
	c.soapAnswer(partnerSpace, "getUserInfo", "<result>"+s.userInfoXML(c.session)+"</result>")
}

func (s *Server) soapTimestamp(c *call, _ *element) {
	now := s.org.Clock().UTC().Format("2006-01-02T15:04:05.000Z")
	c.soapAnswer(partnerSpace, "getServerTimestamp", "<result><timestamp>"+now+"</timestamp></result>")
}

// userInfoXML renders what login() and getUserInfo() say of the user.
func (s *Server) userInfoXML(sess *session) string {
	name := s.auth.app.Username
	return elements([]pair{
		{"organizationId", s.org.id}, {"organizationName", s.org.name}, {"orgHasPersonAccounts", s.org.hasPersonAccounts()}, {"sessionSecondsValid", int(s.auth.life / time.Second)},
		{"userEmail", name}, {"userFullName", "Integration User"}, {"userId", sess.user}, {"userLanguage", "en_US"}, {"userLocale", "en_US"}, {"userName", name}, {"userTimeZone", "GMT"},
	})
}

// soapWrite writes up to 200 records, in runs of one type (SOAP API Developer
// Guide, "create()", "update()", "upsert()", "delete()").
func (s *Server) soapWrite(c *call, op *element, what operation) {
	var records []*element
	for i := range op.kids {
		if n := op.kids[i].name; n == "sObjects" || n == "ids" {
			records = append(records, &op.kids[i])
		}
	}
	if len(records) > maxCollection {
		c.soapFault("EXCEEDED_ID_LIMIT", exceeded(len(records), maxCollection).message)
		return
	}
	runs, e := s.soapRuns(records, what, op.childText("externalIDFieldName"))
	if e != nil {
		c.soapFault(e.code, e.message)
		return
	}
	header := c.soapHeader
	allOrNone := strings.EqualFold(header.child("AllOrNoneHeader").childText("allOrNone"), "true")
	if err := s.runAll(c, runs, allOrNone, func(b *dml) {
		b.allowDups = header.child("DuplicateRuleHeader").childText("allowSave") == "true"
		if rule := header.child("AssignmentRuleHeader"); rule != nil {
			b.assign = rule.childText("useDefaultRule") == "true" || rule.childText("assignmentRuleId") != ""
		}
		b.fault = s.faults.rows("soap " + what.String() + " " + b.obj.name)
	}); err != nil {
		c.soapFault("UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return
	}
	var out strings.Builder
	for _, b := range runs {
		for i := range b.rows {
			r := resultOf(b, &b.rows[i])
			out.WriteString("<result>")
			if r.Created != nil {
				out.WriteString("<created>" + strconv.FormatBool(*r.Created) + "</created>")
			}
			for _, e := range r.Errors {
				out.WriteString(errorXML(e.StatusCode, e.Message, e.Fields))
			}
			if r.ID == "" {
				out.WriteString(`<id xsi:nil="true"/>`)
			} else {
				out.WriteString("<id>" + r.ID + "</id>")
			}
			out.WriteString("<success>" + strconv.FormatBool(r.Success) + "</success></result>")
		}
	}
	c.soapAnswer(partnerSpace, op.name, out.String())
}

func errorXML(code, message string, fields []string) string {
	text := "<errors>"
	for _, f := range fields {
		text += "<fields>" + escapeXML(f) + "</fields>"
	}
	return text + "<message>" + escapeXML(message) + "</message><statusCode>" + escapeXML(code) + "</statusCode></errors>"
}

// soapRuns sorts records, or the Ids to delete, into runs of one type.
func (s *Server) soapRuns(records []*element, op operation, keyName string) ([]*dml, *apiError) {
	var runs []*dml
	for _, r := range records {
		w := rowWrite{}
		var obj *object
		var clean node
		if op == opDelete {
			w.id = trim(r.text)
			if id, ok := canonicalID(w.id); ok {
				obj = s.org.byKey[id[:3]]
			}
			if obj == nil {
				return nil, &apiError{http.StatusBadRequest, "MALFORMED_ID", "malformed id " + w.id, nil}
			}
		} else {
			if obj = s.org.object(r.childText("type")); obj == nil {
				return nil, unsupportedType(r.childText("type"))
			}
			clean = s.soapRecord(obj, r)
		}
		if len(runs) == 0 || runs[len(runs)-1].obj != obj {
			b := &dml{obj: obj, op: op}
			if op == opUpsert {
				if b.keyField = obj.visible(keyName); b.keyField == nil || !b.keyField.idLookup {
					return nil, &apiError{http.StatusBadRequest, "INVALID_FIELD", "Field name provided, " + keyName + " is not an External ID or indexed field for " + obj.name, nil}
				}
			}
			if len(runs) == maxRuns {
				return nil, &apiError{http.StatusBadRequest, "LIMIT_EXCEEDED", fmt.Sprintf("Cannot have more than %d chunks in a single operation. Please rearrange the data to reduce chunking.", maxRuns), nil}
			}
			runs = append(runs, b)
		}
		b := runs[len(runs)-1]
		if op != opDelete {
			byID := op == opUpdate || op == opUpsert && b.keyField.from == fromID
			if e := s.readRecord("", obj, &clean, &w, byID); e != nil {
				return nil, e
			}
			switch {
			case op == opUpdate:
				w.id = r.childText("Id")
			case byID:
				w.key = r.childText("Id")
			case op == opUpsert:
				if v, ok := after(b.keyField, w.changes, nil); ok {
					w.key = v
				}
			}
		}
		b.rows = append(b.rows, w)
	}
	return runs, nil
}

// soapRecord turns an sObject into the node that its JSON would be; fieldsToNull
// become nulls.
func (s *Server) soapRecord(obj *object, r *element) node {
	n := s.xmlRecord(obj, r)
	clean := node{kind: jsonObject}
	add := func(name string, item node) {
		clean.keys, clean.items = append(clean.keys, name), append(clean.items, item)
	}
	for i, k := range n.keys {
		if k != "fieldsToNull" {
			add(k, n.items[i])
		}
	}
	for i := range r.kids {
		if r.kids[i].name == "fieldsToNull" {
			add(trim(r.kids[i].text), node{kind: jsonNull, text: "null"})
		}
	}
	return clean
}

// runAll runs the transactions of one request, each alone or, with allOrNone,
// all together.
func (s *Server) runAll(c *call, runs []*dml, allOrNone bool, set func(*dml)) error {
	failed := false
	for _, b := range runs {
		b.allErrors, b.allOrNone, b.hold = true, allOrNone, allOrNone || c.txn != nil
		b.delay = s.opts.ProcessingDelay
		set(b)
		if allOrNone && failed {
			for i := range b.rows {
				b.rows[i].fail("ALL_OR_NONE_OPERATION_ROLLED_BACK", rolledBack)
			}
			continue
		}
		if err := s.transact(c.r.Context(), b); err != nil {
			s.log.ErrorContext(c.r.Context(), "a transaction could not be kept", "error", err)
			return err
		}
		c.wrote(b)
		for i := range b.rows {
			failed = failed || len(b.rows[i].errs) > 0
		}
	}
	var err error
	switch {
	case allOrNone && failed:
		s.org.undoRuns(runs)
	case c.txn == nil:
		err = s.org.finishHeld(runs)
	}
	if err = errors.Join(err, s.org.log.sync()); err != nil {
		s.log.ErrorContext(c.r.Context(), "a transaction could not be kept", "error", err)
	}
	return err
}

const maxConversions = 100

// soapConvert converts leads (SOAP API Developer Guide, "convertLead()").
func (s *Server) soapConvert(c *call, op *element) {
	if len(op.kids) > maxConversions {
		c.soapFault("EXCEEDED_ID_LIMIT", exceeded(len(op.kids), maxConversions).message)
		return
	}
	var out strings.Builder
	for i := range op.kids {
		l := &op.kids[i]
		lead, status := l.childText("leadId"), l.childText("convertedStatus")
		e := s.org.convertible(lead, status)
		var ids [3]string
		if e == nil {
			var err error
			ids, err = s.org.ConvertLead(lead, l.childText("accountId"), l.childText("contactId"), l.childText("opportunityName"), l.childText("doNotCreateOpportunity") != "true")
			if err != nil {
				e = &rowError{"UNKNOWN_EXCEPTION", err.Error(), nil}
			}
		}
		nilOr := func(name, id string) string {
			if id == "" {
				return "<" + name + ` xsi:nil="true"/>`
			}
			return "<" + name + ">" + id + "</" + name + ">"
		}
		out.WriteString("<result>" + nilOr("accountId", ids[0]) + nilOr("contactId", ids[1]))
		if e != nil {
			out.WriteString(errorXML(e.code, e.message, e.fields))
		}
		out.WriteString(elements([]pair{{"leadId", lead}}) + nilOr("opportunityId", ids[2]) + elements([]pair{{"success", e == nil}}) + "</result>")
	}
	c.soapAnswer(partnerSpace, op.name, out.String())
}

// convertible checks what convertLead() is given.
func (o *Org) convertible(lead, status string) *rowError {
	found := o.Find("Lead", "Id", lead)
	switch {
	case len(found) == 0:
		return &rowError{"INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", nil}
	case found[0]["IsConverted"] == true:
		return &rowError{"CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", nil}
	case !strings.Contains(status, "Converted") || strings.Contains(status, "Not"):
		return &rowError{"INVALID_STATUS", "invalid convertedStatus: " + status, nil}
	}
	return nil
}
