package emulator

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Validation rules, duplicate rules and formula fields of the org file. Their
// expressions are expr-lang, over the record's fields by API name: text, numbers
// and booleans, nil for null.

type validationRule struct {
	name, message, field string
	program              *vm.Program // true: the record is refused
}

type duplicateRule struct {
	name   string
	fields []*field
	block  bool // else the rule only alerts, and a header lets the row pass
}

type formula struct {
	program *vm.Program
}

func compile(source string) (*vm.Program, error) {
	return expr.Compile(source, expr.Env(map[string]any{}), expr.AllowUndefinedVariables())
}

// environment is what an expression sees of a record as it will be.
func (o *Org) environment(obj *object, changes []change, rec *record) map[string]any {
	env := make(map[string]any, len(obj.fields)+1)
	for _, f := range obj.fields {
		var v string
		var ok bool
		if f.from == fromData {
			v, ok = after(f, changes, rec)
		} else if rec != nil && f.from != fromFormula {
			v, ok = o.value(obj, rec, f)
		}
		env[f.name] = nil
		switch {
		case f.kind == kindBool:
			env[f.name] = v == "true"
		case !ok:
		case f.kind == kindInt || f.kind == kindDouble:
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				env[f.name] = n
			}
		default:
			env[f.name] = v
		}
	}
	env["ISNEW"] = rec == nil
	return env
}

func (o *Org) checkRules(b *dml, w *rowWrite, changes []change, rec *record) {
	env := o.environment(b.obj, changes, rec)
	for _, r := range b.obj.rules {
		out, err := expr.Run(r.program, env)
		if err != nil || out != true {
			continue // an expression that fails on this record does not refuse it
		}
		if r.field != "" {
			w.fail("FIELD_CUSTOM_VALIDATION_EXCEPTION", r.message, r.field)
		} else {
			w.fail("FIELD_CUSTOM_VALIDATION_EXCEPTION", r.message)
		}
	}
}

// eval computes a formula field of a stored record.
func (fm *formula) eval(o *Org, obj *object, r *record) (string, bool) {
	out, err := expr.Run(fm.program, o.environment(obj, nil, r))
	if err != nil || out == nil {
		return "", false
	}
	switch v := out.(type) {
	case string:
		return v, v != ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		return fmt.Sprint(v), true
	}
}

// checkDuplicates looks for another record that agrees in all of a rule's
// fields, without case.
func (o *Org) checkDuplicates(b *dml, w *rowWrite, changes []change, rec *record) {
	for _, rule := range b.obj.dups {
		if !rule.block && b.allowDups {
			continue
		}
		want := make([]string, len(rule.fields))
		complete := true
		for i, f := range rule.fields {
			v, ok := after(f, changes, rec)
			want[i], complete = v, complete && ok
		}
		if !complete {
			continue
		}
		matches := func(r *record) bool {
			if r == nil || r.deleted || r == rec {
				return false
			}
			for i, f := range rule.fields {
				if v, _ := r.get(f.idx); !strings.EqualFold(v, want[i]) {
					return false
				}
			}
			return true
		}
		var found []string
		look := func(r *record) bool {
			if matches(r) {
				found = append(found, makeID(b.obj.prefix, r.sequence()))
			}
			return len(found) < maxFound
		}
		if f := rule.fields[0]; f.index != nil && !f.index.lazy {
			f.index.each(want[0], func(pos uint32) bool { return look(b.obj.records[pos]) })
		} else {
			for _, r := range b.obj.records {
				if !look(r) {
					break
				}
			}
		}
		if len(found) > 0 {
			w.found = &duplicates{rule: rule, ids: found}
			w.fail("DUPLICATES_DETECTED", "Use one of these records?")
			return
		}
	}
}

// maxFound is how many records a duplicate rule names.
const maxFound = 100

// duplicates are the records that a duplicate rule found for a row.
type duplicates struct {
	rule *duplicateRule
	ids  []string
}

// json is what single calls of REST say of them (REST API Developer Guide,
// "Duplicate Rule Header"). The name it goes by there is misspelt by orgs.
func (d *duplicates) json(b *dml) map[string]any {
	records := make([]any, len(d.ids))
	for i, id := range d.ids {
		records[i] = map[string]any{
			"additionalInformation": []any{}, "fieldDiffs": []any{}, "matchConfidence": 100.0,
			"record": map[string]any{"attributes": map[string]any{"type": b.obj.name, "url": "/services/data/v62.0/sobjects/" + b.obj.name + "/" + id}, "Id": id},
		}
	}
	return map[string]any{
		"allowSave": !d.rule.block, "duplicateRule": d.rule.name, "duplicateRuleEntityType": b.obj.name, "errorMessage": "Use one of these records?",
		"matchResults": []any{map[string]any{
			"entityType": b.obj.name, "errors": []any{}, "matchEngine": "ExactMatchEngine", "matchRecords": records, "rule": d.rule.name, "size": len(records), "success": true,
		}},
	}
}
