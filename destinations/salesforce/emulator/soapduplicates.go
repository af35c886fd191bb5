package emulator

import (
	"strconv"
	"strings"
)

// maxCompared is how many records findDuplicates takes (SOAP API Developer Guide,
// "findDuplicates()").
const maxCompared = 50

// soapFindDuplicates answers what the duplicate rules of an object find for
// records that need not be there, and writes nothing.
func (s *Server) soapFindDuplicates(c *call, op *element) {
	if len(op.kids) == 0 || len(op.kids) > maxCompared {
		c.soapFault("EXCEEDED_ID_LIMIT", "findDuplicates takes 1 to 50 records")
		return
	}
	var out strings.Builder
	for i := range op.kids {
		r := &op.kids[i]
		name := r.childText("type")
		obj := s.org.object(name)
		if obj == nil {
			c.soapFault("INVALID_TYPE", unsupportedType(name).message)
			return
		}
		clean := s.soapRecord(obj, r)
		w := rowWrite{}
		if e := s.readRecord("", obj, &clean, &w, false); e != nil {
			c.soapFault(e.code, e.message)
			return
		}
		b := &dml{obj: obj, op: opInsert}
		sortChanges(w.changes)
		s.org.mu.RLock()
		s.org.checkDuplicates(b, &w, w.changes, nil)
		s.org.mu.RUnlock()
		out.WriteString("<result>")
		if d := w.found; d != nil {
			out.WriteString("<duplicateResults><allowSave>" + strconv.FormatBool(!d.rule.block) + "</allowSave><duplicateRule>" + escapeXML(d.rule.name) + "</duplicateRule><duplicateRuleEntityType>" + obj.name +
				"</duplicateRuleEntityType><errorMessage>Use one of these records?</errorMessage><matchResults><entityType>" + obj.name + "</entityType><matchEngine>ExactMatchEngine</matchEngine>")
			for _, id := range d.ids {
				out.WriteString(`<matchRecords><matchConfidence>100.0</matchConfidence><record><type>` + obj.name + `</type><Id>` + id + `</Id></record></matchRecords>`)
			}
			out.WriteString("<rule>" + escapeXML(d.rule.name) + "</rule><size>" + strconv.Itoa(len(d.ids)) + "</size><success>true</success></matchResults></duplicateResults>")
		}
		out.WriteString("<success>true</success></result>")
	}
	c.soapAnswer(partnerSpace, "findDuplicates", out.String())
}
