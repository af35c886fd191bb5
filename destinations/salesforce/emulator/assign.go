package emulator

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Assignment rules of the org file: they give the new leads and cases of the API
// their owner unless the client asks them not to (REST API Developer Guide,
// "Assignment Rule Header").

type assignmentRule struct {
	name    string
	program *vm.Program // nil: every record
	owner   string      // a user's Username or a queue's DeveloperName or Name
}

func buildAssignment(obj *object, file *objectFile) error {
	for _, r := range file.AssignmentRules {
		rule := assignmentRule{name: r.Name, owner: r.Owner}
		if r.Owner == "" || obj.field("OwnerId") == nil {
			return fmt.Errorf("assignment rule %s: there is no owner", r.Name)
		}
		if r.When != "" {
			program, err := compile(r.When)
			if err != nil {
				return fmt.Errorf("assignment rule %s: %w", r.Name, err)
			}
			rule.program = program
		}
		obj.assignment = append(obj.assignment, rule)
	}
	return nil
}

// autoAssigns reads Sforce-Auto-Assign: on unless it says FALSE.
func autoAssigns(r *http.Request) bool {
	return !strings.EqualFold(strings.TrimSpace(r.Header.Get("Sforce-Auto-Assign")), "false")
}

// assign gives a new record the owner of the first rule that fits it.
func (o *Org) assign(obj *object, changes []change) []change {
	env := o.environment(obj, changes, nil)
	for _, rule := range obj.assignment {
		if rule.program != nil {
			if out, err := expr.Run(rule.program, env); err != nil || out != true {
				continue
			}
		}
		owner := o.ownerNamed(rule.owner)
		if owner == "" {
			continue
		}
		f := obj.field("OwnerId")
		for i := range changes {
			if changes[i].f == f {
				changes[i].val, changes[i].null = owner, false
				return changes
			}
		}
		changes = append(changes, change{f: f, val: owner})
		sortChanges(changes)
		return changes
	}
	return changes
}

// ownerNamed finds a user or queue; "" when there is none. Callers hold mu.
func (o *Org) ownerNamed(name string) string {
	for _, at := range [...]struct{ object, field string }{{"User", "Username"}, {"Group", "DeveloperName"}, {"Group", "Name"}} {
		obj := o.object(at.object)
		if obj == nil || obj.field(at.field) == nil {
			continue
		}
		f := obj.field(at.field)
		for _, r := range obj.records {
			if r == nil || r.deleted {
				continue
			}
			if v, _ := r.get(f.idx); strings.EqualFold(v, name) {
				return makeID(obj.prefix, r.sequence())
			}
		}
	}
	return ""
}
