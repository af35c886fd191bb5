package emulator

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// versions lists the API versions; it needs no login.
func (s *Server) versions(c *call) {
	type version struct {
		Label   string `json:"label"`
		URL     string `json:"url"`
		Version string `json:"version"`
	}
	seasons := [...]string{"Winter", "Spring", "Summer"}
	var all []version
	for n := oldestVersion; n <= newestVersion; n++ {
		back := newestVersion - n // version 67 is Summer '26, and there are three a year
		v := fmt.Sprintf("%d.0", n)
		all = append(all, version{fmt.Sprintf("%s '%02d", seasons[2-back%3], 26-back/3), "/services/data/v" + v, v})
	}
	c.json(http.StatusOK, all)
}

func (s *Server) resources(c *call) {
	base := "/services/data/v" + c.version + "/"
	out := map[string]string{"identity": s.url + "/id/" + s.org.id + "/" + s.org.person(integrationUser)}
	for _, r := range []string{"composite", "jobs", "limits", "query", "queryAll", "recent", "sobjects", "tooling"} {
		out[r] = base + r
	}
	c.json(http.StatusOK, out)
}

// limits serves /limits and /limits/recordCount.
func (s *Server) limits(c *call, rest []string) {
	if len(rest) == 1 && rest[0] == "recordCount" {
		s.recordCount(c)
		return
	}
	if len(rest) > 0 && rest[0] != "" {
		c.notFound()
		return
	}
	entry := func(maximum, used int) map[string]int {
		return map[string]int{"Max": maximum, "Remaining": max(0, maximum-used)}
	}
	batches := s.jobs.batchesUsed()
	c.json(http.StatusOK, map[string]any{
		"DailyApiRequests":                  entry(s.opts.DailyAPICalls, int(s.daily.Load())),
		"DailyBulkApiBatches":               entry(s.file.Limits.DailyBulkBatches, batches),
		"DailyBulkApiRequests":              entry(s.file.Limits.DailyBulkBatches, batches),
		"DailyBulkV2QueryJobs":              entry(10000, s.jobs.queriesUsed()),
		"DailyBulkV2QueryFileStorageMB":     entry(976562, 0),
		"DailyAsyncApexExecutions":          entry(250000, 0),
		"DataStorageMB":                     entry(5120, s.org.storageMB()),
		"FileStorageMB":                     entry(5120, 0),
		"HourlyPublishedPlatformEvents":     entry(s.org.hourlyEvents, s.org.publishedThisHour()),
		"DailyDeliveredPlatformEvents":      entry(10000, 0),
		"DailyDurableStreamingApiEvents":    entry(10000, 0),
		"DailyStreamingApiEvents":           entry(10000, 0),
		"ConcurrentAsyncGetReportInstances": entry(200, 0),
		"HourlyODataCallout":                entry(1000, 0),
		"MassEmail":                         entry(10, 0),
		"SingleEmail":                       entry(15, 0),
	})
}

// storageMB is the room that records take at 2 KB each, deleted ones included.
func (o *Org) storageMB() int {
	o.mu.RLock()
	defer o.mu.RUnlock()
	n := 0
	for _, obj := range o.objects {
		n += len(obj.records)
	}
	return n / 512
}

func (s *Server) recordCount(c *call) {
	type count struct {
		Count int    `json:"count"`
		Name  string `json:"name"`
	}
	out := []count{}
	for _, name := range strings.Split(c.r.URL.Query().Get("sObjects"), ",") {
		if obj := s.org.object(trim(name)); obj != nil {
			if n := s.org.Count(obj.name); n > 0 {
				out = append(out, count{n, obj.name})
			}
		}
	}
	c.json(http.StatusOK, map[string]any{"sObjects": out})
}

// fresh answers 304 when the client's copy is from after the last change of the
// schema.
func (s *Server) fresh(c *call) bool {
	changed := s.org.schemaTime()
	c.w.Header().Set("Last-Modified", changed.Format(http.TimeFormat))
	c.w.Header().Set("ETag", fmt.Sprintf("\"%x\"", changed.Unix()))
	since, err := http.ParseTime(c.r.Header.Get("If-Modified-Since"))
	if err != nil || changed.Truncate(time.Second).After(since) {
		return false
	}
	c.w.WriteHeader(http.StatusNotModified)
	return true
}

func (s *Server) describeGlobal(c *call) {
	if s.fresh(c) {
		return
	}
	all := []map[string]any{}
	for _, obj := range s.org.objects {
		all = append(all, s.describeBasic(c, obj))
	}
	c.json(http.StatusOK, map[string]any{"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": all})
}

func (s *Server) describeBasic(c *call, obj *object) map[string]any {
	base := "/services/data/v" + c.version + "/sobjects/" + obj.name
	return map[string]any{
		"activateable": false, "associateEntityType": nil, "associateParentEntity": nil, "createable": obj.createable, "custom": obj.custom,
		"customSetting": false, "deepCloneable": false, "deletable": obj.deletable, "deprecatedAndHidden": false, "feedEnabled": !obj.event,
		"hasSubtypes": false, "isInterface": false, "isSubtype": false, "keyPrefix": obj.prefix, "label": obj.label, "labelPlural": obj.labelPlural,
		"layoutable": !obj.event, "mergeable": obj.mergeable, "mruEnabled": !obj.event, "name": obj.name, "queryable": obj.queryable,
		"replicateable": !obj.event, "retrieveable": !obj.event, "searchable": obj.queryable, "triggerable": true, "undeletable": obj.deletable,
		"updateable": obj.updateable,
		"urls": map[string]string{
			"sobject": base, "describe": base + "/describe", "rowTemplate": base + "/{ID}", "layouts": base + "/describe/layouts",
			"compactLayouts": base + "/describe/compactLayouts", "approvalLayouts": base + "/describe/approvalLayouts", "quickActions": base + "/quickActions",
		},
	}
}

func (s *Server) describe(c *call, obj *object) {
	if s.fresh(c) {
		return
	}
	s.org.mu.RLock()
	defer s.org.mu.RUnlock()
	out := s.describeBasic(c, obj)
	fields := []map[string]any{}
	for _, f := range obj.fields {
		if !f.hidden {
			fields = append(fields, describeField(f))
		}
	}
	children := []map[string]any{}
	for _, f := range obj.kids {
		var name any
		if f.childRelation != "" {
			name = f.childRelation
		}
		children = append(children, map[string]any{
			"cascadeDelete": f.cascadeDelete, "childSObject": f.obj.name, "deprecatedAndHidden": false, "field": f.name,
			"junctionIdListNames": []string{}, "junctionReferenceTo": []string{}, "relationshipName": name, "restrictedDelete": f.restrictedDelete,
		})
	}
	out["actionOverrides"], out["childRelationships"], out["compactLayoutable"], out["defaultImplementation"] = []any{}, children, true, nil
	out["extendedBy"], out["extendsInterfaces"], out["implementedBy"], out["implementsInterfaces"] = nil, nil, nil, nil
	out["fields"], out["listviewable"], out["lookupLayoutable"], out["namedLayoutInfos"] = fields, nil, nil, []any{}
	out["networkScopeFieldName"], out["recordTypeInfos"], out["searchLayoutable"] = nil, describeRecordTypes(c, obj), true
	out["sobjectDescribeOption"], out["supportedScopes"] = "FULL", []map[string]string{{"label": "All " + obj.labelPlural, "name": "everything"}, {"label": "My " + obj.labelPlural, "name": "mine"}}
	c.json(http.StatusOK, out)
}

const masterRecordType = "012000000000000AAA"

func describeRecordTypes(c *call, obj *object) []map[string]any {
	base := "/services/data/v" + c.version + "/sobjects/" + obj.name + "/describe/layouts/"
	info := func(id, name, developer string, active, available, dflt, master bool) map[string]any {
		return map[string]any{
			"active": active, "available": available, "defaultRecordTypeMapping": dflt, "developerName": developer,
			"master": master, "name": name, "recordTypeId": id, "urls": map[string]string{"layout": base + id},
		}
	}
	var out []map[string]any
	none := true
	for _, rt := range obj.types {
		out = append(out, info(rt.id, rt.name, rt.developerName, rt.active, !rt.unavailable, rt.dflt, false))
		none = none && !rt.dflt
	}
	return append(out, info(masterRecordType, "Master", "Master", true, true, none, true))
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// describeField renders a field with the keys that an org's describe has (SOAP
// API Developer Guide, "DescribeSObjectResult", "Field").
func describeField(f *field) map[string]any {
	values := []map[string]any{}
	list := f.picklist.Load()
	for _, v := range list.values {
		if v.active {
			values = append(values, map[string]any{"active": true, "defaultValue": v.dflt, "label": v.label, "validFor": nil, "value": v.value})
		}
	}
	filterable := !f.longText && f.kind != kindCompound
	length := 0
	if f.xsd == "xsd:string" || f.xsd == "tns:ID" {
		length = f.length
	}
	var dflt any
	switch {
	case f.kind == kindBool:
		dflt = f.defaultValue == "true"
	case f.defaultValue != "" && f.kind != kindRef:
		dflt = f.defaultValue
	}
	references := f.referenceTo
	if references == nil {
		references = []string{}
	}
	return map[string]any{
		"aggregatable": filterable, "aiPredictionField": false, "autoNumber": f.autoNumber, "byteLength": length * 3,
		"calculated": f.from == fromFormula, "calculatedFormula": nil, "cascadeDelete": f.cascadeDelete, "caseSensitive": f.caseSensitive,
		"compoundFieldName": orNull(f.compound), "controllerName": nil, "createable": f.createable, "custom": f.custom,
		"defaultValue": dflt, "defaultValueFormula": nil, "defaultedOnCreate": f.defaulted, "dependentPicklist": false, "deprecatedAndHidden": false,
		"digits": f.digits, "displayLocationInDecimal": false, "encrypted": false, "externalId": f.externalID, "extraTypeInfo": orNull(f.extraType),
		"filterable": filterable, "filteredLookupInfo": nil, "formulaTreatNullNumberAsZero": false, "groupable": filterable && f.kind != kindDouble && f.kind != kindDatetime,
		"highScaleNumber": false, "htmlFormatted": false, "idLookup": f.idLookup, "inlineHelpText": nil, "label": f.label, "length": length,
		"mask": nil, "maskType": nil, "name": f.name, "nameField": f.nameField, "namePointing": f.polymorphic(), "nillable": f.nillable,
		"permissionable": f.from == fromData && f.nillable, "picklistValues": values, "polymorphicForeignKey": f.polymorphic(), "precision": f.precision,
		"queryByDistance": false, "referenceTargetField": nil, "referenceTo": references, "relationshipName": orNull(f.relationship), "relationshipOrder": nil,
		"restrictedDelete": f.restrictedDelete, "restrictedPicklist": list.restricted, "scale": f.scale, "searchPrefilterable": false, "soapType": f.xsd,
		"sortable": filterable && f.kind != kindMulti, "type": f.typ, "unique": f.unique, "updateable": f.updateable, "writeRequiresMasterRead": false,
	}
}
