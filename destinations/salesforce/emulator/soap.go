package emulator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// The SOAP API: its envelope, login and merge of the partner WSDL.

const (
	soapEnvelope  = "http://schemas.xmlsoap.org/soap/envelope/"
	partnerSpace  = "urn:partner.soap.sforce.com"
	faultSpace    = "urn:fault.partner.soap.sforce.com"
	metadataSpace = "http://soap.sforce.com/2006/04/metadata"
	lastLogin     = 64 // the last API version that offers login()
)

func (c *call) soapFault(code, message string) {
	c.soapFaultAs(http.StatusInternalServerError, code, message)
}

func (c *call) soapFaultAs(status int, code, message string) {
	c.w.Header().Set("Content-Type", "text/xml; charset=UTF-8")
	c.w.WriteHeader(status)
	kind := "UnexpectedErrorFault"
	if c.soapLogin {
		kind = "LoginFault"
	}
	message = escapeXML(message)
	_, _ = fmt.Fprintf(c.w, `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="%s" xmlns:sf="%s" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>sf:%s</faultcode><faultstring>%s: %s</faultstring><detail><sf:%s xsi:type="sf:%s"><sf:exceptionCode>%s</sf:exceptionCode><sf:exceptionMessage>%s</sf:exceptionMessage></sf:%s></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`,
		soapEnvelope, faultSpace, code, code, message, kind, kind, code, message, kind) // the client may have gone
}

func (c *call) soapAnswer(space, operation, inner string) {
	c.w.Header().Set("Content-Type", "text/xml; charset=UTF-8")
	c.w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(c.w, `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="%s" xmlns="%s" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><%sResponse>%s</%sResponse></soapenv:Body></soapenv:Envelope>`,
		soapEnvelope, space, operation, inner, operation) // the client may have gone
}

func (s *Server) soap(c *call) {
	if c.r.Method != http.MethodPost || len(c.path) < 2 {
		c.soapFault("UNKNOWN_EXCEPTION", "Only POST is supported")
		return
	}
	number, err := strconv.ParseFloat(c.path[1], 64)
	if err != nil || number < goneVersion || number > newestVersion {
		c.soapFault("UNSUPPORTED_API_VERSION", "Invalid Api version specified on URL")
		return
	}
	text, ok := c.body(maxBody)
	if !ok {
		return
	}
	doc, err := parseXML(text)
	if err != nil || doc.name != "Envelope" || doc.child("Body") == nil || len(doc.child("Body").kids) == 0 {
		c.soapFault("INVALID_OPERATION", "The body is no SOAP envelope with an operation")
		return
	}
	op := &doc.child("Body").kids[0]
	if op.name == "login" {
		c.soapLogin = true
		s.soapLogin(c, op, number)
		return
	}
	c.soapHeader = doc.child("Header")
	if c.session = s.auth.check(c.soapHeader.child("SessionHeader").childText("sessionId")); c.session == nil {
		c.soapFault("INVALID_SESSION_ID", "Invalid Session ID found in SessionHeader: Illegal Session. Session not found, missing session hash")
		return
	}
	calls := soapCalls
	if c.path[0] == "m" {
		calls = metadataCalls
	}
	serve := calls[op.name]
	if serve == nil || c.path[0] != "m" && c.path[0] != "u" {
		c.soapFault("INVALID_OPERATION", "No operation available for request "+op.name)
		return
	}
	s.counting.soap(op.name)
	serve(s, c, op)
}

func (s *Server) soapLogin(c *call, op *element, number float64) {
	if number > lastLogin {
		c.soapFault("INVALID_OPERATION", "SOAP API login() is not available in this version of the API.")
		return
	}
	app := s.auth.app
	if op.childText("username") == app.Username && op.childText("password") == app.Password && app.SecurityToken != "" {
		c.soapFault("LOGIN_MUST_USE_SECURITY_TOKEN", "Invalid username, password, security token; or user locked out. Are you at a new location? When accessing Salesforce--either via a desktop client or the API--from outside of your company's trusted networks, you must add a security token to your password to log in.")
		return
	}
	if op.childText("username") != app.Username || op.childText("password") != app.Password+app.SecurityToken {
		c.soapFault("INVALID_LOGIN", "Invalid username, password, security token; or user locked out.")
		return
	}
	sess := s.auth.issue()
	end := fmt.Sprintf("/%.1f/%s", number, s.org.id[:15])
	c.soapAnswer(partnerSpace, "login", "<result>"+elements([]pair{
		{"metadataServerUrl", s.url + "/services/Soap/m" + end}, {"passwordExpired", false}, {"sandbox", false}, {"serverUrl", s.url + "/services/Soap/u" + end},
		{"sessionId", sess.token}, {"userId", sess.user},
	})+"<userInfo>"+s.userInfoXML(sess)+"</userInfo></result>")
}

// Limits of merge() (SOAP API Developer Guide, "merge()").
const (
	maxMerges  = 200
	maxVictims = 2
)

func (s *Server) soapMerge(c *call, op *element) {
	// The schema calls them "request"; an org takes them by their place, and
	// there are clients that give them other names.
	var requests []*element
	for i := range op.kids {
		requests = append(requests, &op.kids[i])
	}
	if len(requests) == 0 || len(requests) > maxMerges {
		c.soapFault("EXCEEDED_ID_LIMIT", "merge takes 1 to 200 requests")
		return
	}
	for _, r := range requests {
		name := r.child("masterRecord").childText("type")
		switch obj := s.org.object(name); {
		case name == "":
			c.soapFault("INVALID_SOBJECT", "Missing entity type information. sObject requires a separate 'type' field be sent.")
			return
		case obj == nil:
			c.soapFault("INVALID_TYPE", unsupportedType(name).message)
			return
		case !obj.mergeable:
			c.soapFault("INVALID_TYPE_FOR_OPERATION", "entity type does not support merge")
			return
		}
	}
	var out strings.Builder
	for _, r := range requests {
		out.WriteString(s.mergeOne(c.r.Context(), r))
	}
	if err := s.org.log.sync(); err != nil {
		c.soapFault("UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return
	}
	c.soapAnswer(partnerSpace, "merge", out.String())
}

func mergeFailure(e rowError) string {
	return "<result>" + errorXML(e.code, e.message, e.fields) + "<success>false</success></result>"
}

// mergeOne runs one merge request, which is a transaction of its own.
func (s *Server) mergeOne(ctx context.Context, r *element) string {
	master := r.child("masterRecord")
	obj := s.org.object(master.childText("type"))
	var victims []string
	for i := range r.kids {
		if r.kids[i].name == "recordToMergeIds" {
			victims = append(victims, trim(r.kids[i].text))
		}
	}
	if len(victims) == 0 || len(victims) > maxVictims {
		return mergeFailure(rowError{"INVALID_ARGUMENT", "one or two records can be merged into the master", nil})
	}
	clean := s.soapRecord(obj, master)
	w := rowWrite{id: master.childText("Id")}
	if e := s.readRecord("", obj, &clean, &w, true); e != nil {
		return mergeFailure(rowError{e.code, e.message, e.fields})
	}
	// The victims are looked at first, so that nothing is written for a merge
	// that cannot be.
	s.org.mu.RLock()
	for i, v := range victims {
		probe := rowWrite{id: v}
		if !s.org.locate(&dml{obj: obj, op: opUpdate}, &probe) {
			s.org.mu.RUnlock()
			return mergeFailure(probe.errs[0])
		}
		victims[i] = probe.id
		if p := obj.persons; p != nil {
			if m := obj.find(idOf(w.id)); m != nil && p.is(obj, m) != p.is(obj, probe.rec) || obj == p.contact && p.is(obj, probe.rec) {
				s.org.mu.RUnlock()
				return mergeFailure(rowError{personOperation, "A person account can be merged with person accounts only", nil})
			}
		}
		if full, ok := canonicalID(w.id); ok && full == probe.id {
			s.org.mu.RUnlock()
			return mergeFailure(rowError{"MERGE_FAILED", "a record cannot be merged into itself", nil})
		}
	}
	s.org.mu.RUnlock()
	if fault := s.faults.rows("soap merge " + obj.name); fault != nil {
		for _, v := range victims {
			if e := fault(&rowWrite{id: v}); e != nil {
				return mergeFailure(*e)
			}
		}
	}
	b := &dml{obj: obj, op: opUpdate, rows: []rowWrite{w}, also: victims}
	if err := s.transact(ctx, b); err != nil {
		return mergeFailure(rowError{"UNKNOWN_EXCEPTION", "An unexpected error occurred", nil})
	}
	if errs := b.rows[0].errs; len(errs) > 0 {
		return mergeFailure(errs[0])
	}
	moved, err := s.org.mergeInto(obj, b.rows[0].id, victims)
	if err != nil {
		return mergeFailure(rowError{"UNKNOWN_EXCEPTION", "An unexpected error occurred", nil})
	}
	text := "<result><id>" + b.rows[0].id + "</id>"
	for _, v := range victims {
		text += "<mergedRecordIds>" + v + "</mergedRecordIds>"
	}
	text += "<success>true</success>"
	for _, id := range moved {
		text += "<updatedRelatedIds>" + id + "</updatedRelatedIds>"
	}
	return text + "</result>"
}

// mergeInto moves the victims' children to the master and the victims to the
// recycle bin, where MasterRecordId says what became of them.
func (o *Org) mergeInto(obj *object, master string, victims []string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := &dml{obj: obj}
	moved := o.absorb(b, obj, master, victims)
	o.count(b.counts)
	return moved, o.log.write(b.entries)
}

func idOf(raw string) string {
	id, _ := canonicalID(raw)
	return id
}

func (o *Org) absorb(b *dml, obj *object, master string, victims []string) (moved []string) {
	for _, v := range victims {
		r := obj.find(v)
		if r == nil || r.deleted {
			continue
		}
		p := obj.persons
		if p != nil && obj == p.account && p.is(obj, r) {
			if own, theirs := obj.find(master), p.shadow(r); own != nil && theirs != nil {
				into, _ := own.get(p.contactRef.idx)
				moved = append(moved, o.absorb(b, p.contact, into, []string{makeID(p.contact.prefix, theirs.sequence())})...)
				b.counts.Deleted-- // the two halves are one record to those who count
			}
		}
		for _, f := range obj.kids {
			if p != nil && (f == p.accountRef && p.is(obj, r) || f == p.contactRef) {
				continue // each person keeps its own other half
			}
			var kids []*record
			f.obj.children(f, v, func(k *record) bool { kids = append(kids, k); return true })
			for _, k := range kids {
				id := makeID(f.obj.prefix, k.sequence())
				c := change{f: f, val: master, null: id == master} // a record is no parent of itself
				f.obj.store(k, merge(nil, k.data, []change{c}))
				k.modstamp = o.now()
				o.record(b, f.obj, k)
				moved = append(moved, id)
			}
		}
		if f := obj.field("MasterRecordId"); f != nil {
			obj.store(r, merge(nil, r.data, []change{{f: f, val: master}}))
		}
		o.bin(b, obj, r)
		b.counts.Deleted++
	}
	return moved
}
