package emulator

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
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

// replaced is a list with its new values, followed by those that are missing
// from them, made inactive.
func replaced(old, values []picklistValue) ([]picklistValue, error) {
	seen := map[string]bool{}
	for _, v := range values {
		if v.value == "" || utf8.RuneCountInString(v.value) > 255 {
			return nil, fmt.Errorf("a picklist value has 1 to 255 characters")
		}
		if seen[strings.ToLower(v.value)] {
			return nil, fmt.Errorf("duplicate value: %s", v.value)
		}
		seen[strings.ToLower(v.value)] = true
	}
	for _, v := range old {
		if !seen[strings.ToLower(v.value)] {
			v.active, v.dflt = false, false
			values = append(values, v)
		}
	}
	if len(values) > maxPicklistCount {
		return nil, fmt.Errorf("a picklist has at most %d values", maxPicklistCount)
	}
	return values, nil
}

// schemaChanged makes describe new to those who have read it; callers hold mu.
func (o *Org) schemaChanged() { o.schema = time.Now().UTC() }

// replaceValues sets a field's values; those that are missing become inactive.
func (o *Org) replaceValues(f *field, values []picklistValue, restricted bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	list, err := replaced(f.picklist.Load().values, values)
	if err != nil {
		return err
	}
	f.picklist.Store(newPicklist(list, restricted))
	o.schemaChanged()
	return o.keepList(f.obj.name+"."+f.name, list, restricted)
}

// metadataCalls are the calls of the metadata WSDL that are served, by name.
var metadataCalls = map[string]func(*Server, *call, *element){
	"readMetadata":   (*Server).metadata,
	"updateMetadata": (*Server).metadata,
	"upsertMetadata": (*Server).metadata,
	"listMetadata":   (*Server).listMetadata,
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
		if op.name == "readMetadata" {
			out.WriteString(s.readMetadata(op.childText("type"), trim(p.text)))
			continue
		}
		name := p.childText("fullName")
		var e *rowError
		switch p.typ {
		case "CustomField":
			e = s.updateField(p)
		case "GlobalValueSet":
			e = s.updateValueSet(p)
		default:
			e = &rowError{"INVALID_TYPE", "Unknown type name '" + p.typ + "'", nil}
		}
		out.WriteString("<result>")
		if op.name == "upsertMetadata" {
			out.WriteString("<created>false</created>")
		}
		if e != nil {
			out.WriteString(errorXML(e.code, e.message, e.fields))
		}
		out.WriteString(elements([]pair{{"fullName", name}, {"success", e == nil}}) + "</result>")
	}
	inner := out.String()
	if op.name == "readMetadata" {
		inner = "<result>" + inner + "</result>"
	}
	c.soapAnswer(metadataSpace, op.name, inner)
}

func (s *Server) readMetadata(typ, name string) string {
	switch typ {
	case "CustomField":
		if f := s.org.customField(name); f != nil {
			return s.fieldMetadata(f)
		}
	case "GlobalValueSet":
		if v := s.org.valueSet(name); v != nil {
			return s.valueSetXML(v)
		}
	}
	return `<records xsi:nil="true"/>`
}

// listMetadata names the custom picklists and global value sets there are.
func (s *Server) listMetadata(c *call, op *element) {
	var out strings.Builder
	add := func(typ, folder, name, id string) {
		out.WriteString("<result>" + elements([]pair{{"fileName", folder}, {"fullName", name}, {"id", id}, {"manageableState", "unmanaged"}, {"type", typ}}) + "</result>")
	}
	for i := range op.kids {
		switch op.kids[i].childText("type") {
		case "CustomField":
			for _, obj := range s.org.objects {
				for _, f := range obj.fields {
					if f.custom {
						add("CustomField", "objects/"+obj.name+".object", obj.name+"."+f.name, s.org.customFieldID(f))
					}
				}
			}
		case "GlobalValueSet":
			for _, v := range s.org.sets {
				add("GlobalValueSet", "globalValueSets/"+v.name+".globalValueSet", v.name, valueSetID(v))
			}
		}
	}
	c.soapAnswer(metadataSpace, op.name, out.String())
}

func (s *Server) fieldMetadata(f *field) string {
	list := f.picklist.Load()
	var out strings.Builder
	out.WriteString(`<records xsi:type="CustomField">` + elements([]pair{{"fullName", f.obj.name + "." + f.name}, {"label", f.label}, {"type", metadataType(f)}}) + "<valueSet>" + elements([]pair{{"restricted", list.restricted}}))
	if f.valueSet != "" {
		return out.String() + elements([]pair{{"valueSetName", f.valueSet}}) + "</valueSet></records>"
	}
	out.WriteString("<valueSetDefinition><sorted>false</sorted>")
	for _, v := range list.values {
		out.WriteString("<value>" + customValueXML(v) + "</value>")
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

// updateField replaces a field's values by Metadata SOAP.
func (s *Server) updateField(p *element) *rowError {
	name := p.childText("fullName")
	f := s.org.customField(name)
	set := p.child("valueSet")
	definition := set.child("valueSetDefinition")
	switch {
	case f == nil:
		return &rowError{"INVALID_CROSS_REFERENCE_KEY", "In field: fullName - no CustomField named " + name + " found", nil}
	case p.childText("type") == "":
		return &rowError{"FIELD_INTEGRITY_EXCEPTION", "Must specify a field type", nil}
	case p.childText("label") == "":
		return &rowError{"REQUIRED_FIELD_MISSING", "Required field is missing: label", []string{"label"}}
	case f.valueSet != "" && definition == nil && strings.EqualFold(set.childText("valueSetName"), f.valueSet):
		return nil // the values are the set's, and it stays
	case f.valueSet != "":
		return &rowError{"FIELD_INTEGRITY_EXCEPTION", "Cannot change the values of a picklist that uses the global value set " + f.valueSet, nil}
	case definition == nil:
		return &rowError{"FIELD_INTEGRITY_EXCEPTION", "Required field is missing: valueSet", nil}
	}
	if err := s.org.replaceValues(f, customValues(definition, "value"), set.childText("restricted") == "true"); err != nil {
		return &rowError{"FIELD_INTEGRITY_EXCEPTION", err.Error(), nil}
	}
	return nil
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

// tooling serves what of the Tooling API concerns picklists: the query for
// CustomField and GlobalValueSet, reading one and replacing its Metadata.
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
	case len(rest) == 3 && rest[0] == "sobjects" && rest[1] == "GlobalValueSet":
		v := s.toolingSet(rest[2])
		switch {
		case v == nil:
			c.notFound()
		case c.r.Method == http.MethodGet:
			c.json(http.StatusOK, s.toolingSetRecord(c, v, true))
		case c.r.Method == http.MethodPatch:
			s.toolingSetPatch(c, v)
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
	meta := map[string]any{"label": f.label, "type": metadataType(f), "required": !f.nillable, "externalId": f.externalID}
	switch {
	case f.kind != kindPicklist && f.kind != kindMulti:
	case f.valueSet != "":
		meta["valueSet"] = map[string]any{"restricted": list.restricted, "valueSetName": f.valueSet, "valueSetDefinition": nil}
	default:
		meta["valueSet"] = map[string]any{"restricted": list.restricted, "valueSetName": nil, "valueSetDefinition": map[string]any{"sorted": false, "value": jsonValues(list.values)}}
	}
	m["FullName"], m["Metadata"] = f.obj.name+"."+f.name, meta
	return m
}

// toolingQuery answers SELECT ... FROM CustomField or GlobalValueSet with
// equalities in its WHERE.
func (s *Server) toolingQuery(c *call) {
	text := c.r.URL.Query().Get("q")
	q, err := parseSOQL(text)
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(text))
		return
	}
	if c.r.URL.Query().Get("columns") == "true" {
		columns := []columnMetadata{}
		for _, it := range q.items {
			columns = append(columns, plainColumn(it.path))
		}
		c.json(http.StatusOK, map[string]any{"columnMetadata": columns, "entityName": q.from})
		return
	}
	whole := false
	for _, it := range q.items {
		whole = whole || strings.EqualFold(it.path, "Metadata") || strings.EqualFold(it.path, "FullName")
	}
	out := []map[string]any{}
	name := "CustomField"
	switch strings.ToLower(q.from) {
	case "customfield":
		for _, obj := range s.org.objects {
			for _, f := range obj.fields {
				if f.custom && toolingMatch(q.where, map[string]string{"tableenumorid": f.obj.name, "entitydefinition.qualifiedapiname": f.obj.name, "entitydefinitionid": f.obj.name, "developername": strings.TrimSuffix(f.name, "__c")}) {
					out = append(out, s.toolingRecord(c, f, whole))
				}
			}
		}
	case "globalvalueset":
		name = "GlobalValueSet"
		for _, v := range s.org.sets {
			if toolingMatch(q.where, map[string]string{"developername": v.name, "masterlabel": v.label, "id": valueSetID(v)}) {
				out = append(out, s.toolingSetRecord(c, v, whole))
			}
		}
	default:
		c.fail(http.StatusBadRequest, "INVALID_TYPE", "sObject type '"+q.from+"' is not supported.")
		return
	}
	if whole && len(out) > 1 {
		c.fail(http.StatusBadRequest, "MALFORMED_QUERY", "When retrieving results with Metadata or FullName fields, the query qualifications must specify no more than one row for retrieval.")
		return
	}
	c.json(http.StatusOK, map[string]any{"size": len(out), "totalSize": len(out), "done": true, "queryLocator": nil, "entityTypeName": name, "records": out})
}

// toolingMatch checks equalities, joined by AND, against values by name.
func toolingMatch(c *condition, of map[string]string) bool {
	if c == nil {
		return true
	}
	if c.op == "AND" {
		for _, part := range c.parts {
			if !toolingMatch(part, of) {
				return false
			}
		}
		return true
	}
	if c.op != "=" || len(c.vals) != 1 {
		return false
	}
	v, ok := of[strings.ToLower(c.left.path)]
	return ok && strings.EqualFold(c.vals[0].text, v)
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
	if f.valueSet != "" {
		c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", "Cannot change the values of a picklist that uses the global value set "+f.valueSet)
		return
	}
	values := picklistValues(list)
	if err := s.org.replaceValues(f, values, meta.get("valueSet").isTrue("restricted")); err != nil {
		c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", err.Error())
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}
