package salesforce

import (
	"context"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// codeDuplicates is the refusal by a duplicate rule. Of the APIs that write, only
// calls for a single record say what the rule found; the others are asked for it
// afterwards, by findDuplicates of the SOAP API, which writes nothing.
const codeDuplicates = "DUPLICATES_DETECTED"

// maxCompared is for how many refused rows of a run the org is asked what its
// duplicate rules found: 20 calls.
const maxCompared = 20 * api.MaxFindDuplicates

const foundPrefix = "; found "

// foundText names records that a duplicate rule found, as the end of a message.
func foundText(ids []string) string {
	for i, id := range ids {
		if full, ok := canonicalID(id); ok {
			ids[i] = full
		}
	}
	return foundPrefix + strings.Join(ids, ", ")
}

// nameDuplicates adds to the outcomes of rows that a duplicate rule refused which
// records it found. Where the org does not say, they stay as they are: that is
// worth no run.
func (r *run) nameDuplicates(ctx context.Context, ops []*planner.Operation, outcomes []destinations.Outcome) {
	var at []int
	for i := range outcomes {
		o := &outcomes[i]
		if o.Result == destinations.Failed && o.Code == codeDuplicates && !strings.Contains(o.Message, foundPrefix) {
			at = append(at, i)
		}
	}
	for chunk := range slices.Chunk(at, api.MaxFindDuplicates) {
		if ctx.Err() != nil || r.compared.Add(int64(len(chunk))) > maxCompared {
			return
		}
		records := make([][]api.FieldValue, len(chunk))
		for i, n := range chunk {
			records[i] = r.t.fieldValues(ops[n])
		}
		found, err := r.t.client.FindDuplicates(ctx, r.t.object.Name, records)
		if err != nil {
			r.t.log.WarnContext(ctx, "the org does not say which records its duplicate rules found", "error", err)
			r.compared.Store(maxCompared) // it will not the next time either
			return
		}
		for i, n := range chunk {
			own := ops[n].ID
			ids := slices.DeleteFunc(found[i], func(id string) bool {
				full, _ := canonicalID(id)
				return own != "" && full == own
			})
			if len(ids) > 0 {
				outcomes[n].Message = cut(outcomes[n].Message + foundText(ids))
			}
		}
	}
}

// fieldValues is the record as an operation would have it, as SOAP takes it. What
// is null or refers by another field than an Id is left out.
func (t *Target) fieldValues(op *planner.Operation) []api.FieldValue {
	var out []api.FieldValue
	if t.match != nil && op.Match != "" {
		out = append(out, api.FieldValue{Name: t.match.Name, Value: op.Match})
	}
	for i := range op.Assignments {
		a := &op.Assignments[i]
		col := t.columns[a.Field]
		if a.Cell.Null || col.parent != nil || col.merge || t.match != nil && col.Name == t.match.Name {
			continue
		}
		out = append(out, api.FieldValue{Name: col.Name, Value: a.Cell.Text})
	}
	return out
}
