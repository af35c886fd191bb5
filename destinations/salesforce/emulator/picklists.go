package emulator

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Picklist values by the Metadata API (SOAP) and by Tooling (REST). Both replace
// a field's whole list; a value that is left out becomes inactive, it is not
// removed (Metadata API Developer Guide, "CustomValue").

const (
	maxComponents    = 10
	maxPicklistCount = 1000
)

// customField finds "Account.Tier__c".
func (o *Org) customField(fullName string) *field {
	objectName, name, _ := strings.Cut(fullName, ".")
	obj := o.object(objectName)
	if obj == nil {
		return nil
	}
	if f := obj.field(name); f != nil && (f.kind == kindPicklist || f.kind == kindMulti) {
		return f
	}
	return nil
}

// replaceValues sets a field's values; those that are missing become inactive.
func (o *Org) replaceValues(f *field, values []picklistValue, restricted bool) error {
	seen := map[string]bool{}
	for _, v := range values {
		if v.value == "" || len(v.value) > 255 {
			return fmt.Errorf("a picklist value has 1 to 255 characters")
		}
		if seen[strings.ToLower(v.value)] {
			return fmt.Errorf("duplicate value: %s", v.value)
		}
		seen[strings.ToLower(v.value)] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, old := range f.picklist.Load().values {
		if !seen[strings.ToLower(old.value)] {
			old.active, old.dflt = false, false
			values = append(values, old)
		}
	}
	if len(values) > maxPicklistCount {
		return fmt.Errorf("a picklist has at most %d values", maxPicklistCount)
	}
	f.picklist.Store(newPicklist(values, restricted))
	o.schema = time.Now().UTC()
	return nil
}

func (s *Server) metadata(c *call, op *element) {
	var parts []*element
	for i := range op.kids {
		if op.kids[i].name == "fullNames" || op.kids[i].name == "metadata" {
			parts = append(parts, &op.kids[i])
		}
	}
	if len(parts) > maxComponents {
		c.soapFault("LIMIT_EXCEEDED", "record limit reached. cannot submit more than 10 records in this operation")
		return
	}
	var out strings.Builder
	for _, p := range parts {
		if op.name == "updateMetadata" {
			out.WriteString(s.updateMetadata(p))
			continue
		}
		f := s.org.customField(trim(p.text))
		if op.childText("type") != "CustomField" || f == nil {
			out.WriteString(`<records xsi:nil="true"/>`)
			continue
		}
		out.WriteString(s.fieldMetadata(f))
	}
	inner := out.String()
	if op.name == "readMetadata" {
		inner = "<result>" + inner + "</result>"
	}
	c.soapAnswer(metadataSpace, op.name, inner)
}

func (s *Server) fieldMetadata(f *field) string {
	list := f.picklist.Load()
	var out strings.Builder
	out.WriteString(`<records xsi:type="CustomField">` + elements([]pair{{"fullName", f.obj.name + "." + f.name}, {"label", f.label}, {"type", metadataType(f)}}) + "<valueSet>" + elements([]pair{{"restricted", list.restricted}}) + "<valueSetDefinition><sorted>false</sorted>")
	for _, v := range list.values {
		out.WriteString("<value>" + elements([]pair{{"fullName", v.value}, {"default", v.dflt}, {"isActive", v.active}, {"label", v.label}}) + "</value>")
	}
	out.WriteString("</valueSetDefinition></valueSet></records>")
	return out.String()
}

func metadataType(f *field) string {
	if f.kind == kindMulti {
		return "MultiselectPicklist"
	}
	return "Picklist"
}

func (s *Server) updateMetadata(p *element) string {
	name := p.childText("fullName")
	fail := func(code, message string) string {
		return "<result><errors>" + elements([]pair{{"message", message}, {"statusCode", code}}) + "</errors>" + elements([]pair{{"fullName", name}, {"success", false}}) + "</result>"
	}
	f := s.org.customField(name)
	if p.typ != "CustomField" || f == nil {
		return fail("INVALID_CROSS_REFERENCE_KEY", "In field: fullName - no CustomField named "+name+" found")
	}
	definition := p.child("valueSet").child("valueSetDefinition")
	switch {
	case p.childText("type") == "":
		return fail("FIELD_INTEGRITY_EXCEPTION", "Must specify a field type")
	case p.childText("label") == "":
		return fail("REQUIRED_FIELD_MISSING", "Required field is missing: label")
	case definition == nil:
		return fail("FIELD_INTEGRITY_EXCEPTION", "Required field is missing: valueSet")
	}
	var values []picklistValue
	for i := range definition.kids {
		v := &definition.kids[i]
		if v.name != "value" {
			continue
		}
		pv := picklistValue{value: v.childText("fullName"), label: v.childText("label"), active: v.childText("isActive") != "false", dflt: v.childText("default") == "true"}
		if pv.label == "" {
			pv.label = pv.value
		}
		values = append(values, pv)
	}
	if err := s.org.replaceValues(f, values, p.child("valueSet").childText("restricted") == "true"); err != nil {
		return fail("FIELD_INTEGRITY_EXCEPTION", err.Error())
	}
	return "<result>" + elements([]pair{{"fullName", name}, {"success", true}}) + "</result>"
}

// customFieldID is the Id that Tooling knows a field by.
func (o *Org) customFieldID(f *field) string {
	for i, obj := range o.objects {
		if obj == f.obj {
			return makeID("00N", firstSequence+uint64(i)<<12+uint64(f.idx))
		}
	}
	return ""
}

// tooling serves what of the Tooling API concerns picklists: the query for a
// CustomField, reading one and replacing its Metadata.
func (s *Server) tooling(c *call, rest []string) {
	switch {
	case len(rest) == 1 && rest[0] == "query" && c.r.Method == http.MethodGet:
		s.toolingQuery(c)
	case len(rest) == 3 && rest[0] == "sobjects" && rest[1] == "CustomField":
		f := s.toolingField(rest[2])
		switch {
		case f == nil:
			c.notFound()
		case c.r.Method == http.MethodGet:
			c.json(http.StatusOK, s.toolingRecord(c, f, true))
		case c.r.Method == http.MethodPatch:
			s.toolingPatch(c, f)
		default:
			c.methodNotAllowed("GET,PATCH")
		}
	default:
		c.notFound()
	}
}

func (s *Server) toolingField(raw string) *field {
	id, _ := canonicalID(raw)
	for _, obj := range s.org.objects {
		for _, f := range obj.fields {
			if f.custom && s.org.customFieldID(f) == id {
				return f
			}
		}
	}
	return nil
}

func (s *Server) toolingRecord(c *call, f *field, whole bool) map[string]any {
	id := s.org.customFieldID(f)
	m := map[string]any{
		"attributes": map[string]string{"type": "CustomField", "url": "/services/data/v" + c.version + "/tooling/sobjects/CustomField/" + id},
		"Id":         id, "DeveloperName": strings.TrimSuffix(f.name, "__c"), "TableEnumOrId": f.obj.name,
	}
	if !whole {
		return m
	}
	list := f.picklist.Load()
	values := []map[string]any{}
	for _, v := range list.values {
		values = append(values, map[string]any{"valueName": v.value, "label": v.label, "default": v.dflt, "isActive": v.active})
	}
	meta := map[string]any{"label": f.label, "type": metadataType(f), "required": !f.nillable, "externalId": f.externalID}
	if f.kind == kindPicklist || f.kind == kindMulti {
		meta["valueSet"] = map[string]any{"restricted": list.restricted, "valueSetName": nil, "valueSetDefinition": map[string]any{"sorted": false, "value": values}}
	}
	m["FullName"], m["Metadata"] = f.obj.name+"."+f.name, meta
	return m
}

// toolingQuery answers SELECT ... FROM CustomField with equalities on
// TableEnumOrId and DeveloperName.
func (s *Server) toolingQuery(c *call) {
	text := c.r.URL.Query().Get("q")
	q, err := parseSOQL(text)
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(text))
		return
	}
	if !strings.EqualFold(q.from, "CustomField") {
		c.fail(http.StatusBadRequest, "INVALID_TYPE", "sObject type '"+q.from+"' is not supported.")
		return
	}
	whole := false
	for _, it := range q.items {
		whole = whole || strings.EqualFold(it.path, "Metadata") || strings.EqualFold(it.path, "FullName")
	}
	out := []map[string]any{}
	for _, obj := range s.org.objects {
		for _, f := range obj.fields {
			if f.custom && toolingMatch(q.where, f) {
				out = append(out, s.toolingRecord(c, f, whole))
			}
		}
	}
	if whole && len(out) > 1 {
		c.fail(http.StatusBadRequest, "MALFORMED_QUERY", "When retrieving results with Metadata or FullName fields, the query qualifications must specify no more than one row for retrieval.")
		return
	}
	c.json(http.StatusOK, map[string]any{"size": len(out), "totalSize": len(out), "done": true, "queryLocator": nil, "entityTypeName": "CustomField", "records": out})
}

func toolingMatch(c *condition, f *field) bool {
	if c == nil {
		return true
	}
	if c.op == "AND" {
		for _, part := range c.parts {
			if !toolingMatch(part, f) {
				return false
			}
		}
		return true
	}
	if c.op != "=" || len(c.vals) != 1 {
		return false
	}
	switch strings.ToLower(c.left.path) {
	case "tableenumorid", "entitydefinition.qualifiedapiname", "entitydefinitionid":
		return strings.EqualFold(c.vals[0].text, f.obj.name)
	case "developername":
		return strings.EqualFold(c.vals[0].text, strings.TrimSuffix(f.name, "__c"))
	}
	return false
}

func (s *Server) toolingPatch(c *call, f *field) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	meta := doc.get("Metadata")
	list := meta.get("valueSet").get("valueSetDefinition").get("value")
	if f.kind != kindPicklist && f.kind != kindMulti {
		c.fail(http.StatusBadRequest, "INVALID_TYPE", "only picklists can be changed")
		return
	}
	for _, need := range []string{"label", "type", "valueSet"} {
		if meta.get(need) == nil || list == nil {
			c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", "Required field is missing: "+need)
			return
		}
	}
	var values []picklistValue
	for i := range list.items {
		v := &list.items[i]
		pv := picklistValue{value: v.str("valueName"), label: v.str("label"), active: v.get("isActive") == nil || v.get("isActive").text != "false", dflt: v.isTrue("default")}
		if pv.label == "" {
			pv.label = pv.value
		}
		values = append(values, pv)
	}
	if err := s.org.replaceValues(f, values, meta.get("valueSet").isTrue("restricted")); err != nil {
		c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", err.Error())
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}
