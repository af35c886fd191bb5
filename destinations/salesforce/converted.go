package salesforce

import (
	"context"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

const (
	objectLead = "Lead"

	// codeConverted is the refusal of a write to a lead that has been converted,
	// which is for good.
	codeConverted = "CANNOT_UPDATE_CONVERTED_LEAD"

	becamePrefix = "; it became "
)

// nameConverted adds to the outcomes of rows whose lead has been converted what it
// became, as its Converted...Id fields say. Where the org does not tell, they stay as
// they are.
func (r *run) nameConverted(ctx context.Context, ops []*planner.Operation, outcomes []destinations.Outcome) {
	if r.t.object.Name != objectLead {
		return
	}
	at := map[string][]int{} // by Id, and by the folded match value where no Id is known
	var ids, matches []string
	for i := range outcomes {
		o := &outcomes[i]
		if o.Result != destinations.Failed || o.Code != codeConverted || strings.Contains(o.Message, becamePrefix) {
			continue
		}
		id, match := o.ID, ops[i].Match
		switch {
		case id != "":
			at[id] = append(at[id], i)
			ids = append(ids, api.QuoteSOQL(id))
		case match != "" && r.t.match != nil:
			folded := r.t.match.fold(match)
			at[folded] = append(at[folded], i)
			matches = append(matches, r.t.match.literal(match, api.QuoteSOQL))
		}
	}
	const columns, filter = "ConvertedContactId, ConvertedAccountId, ConvertedOpportunityId", ") AND IsConverted = true"
	soql := api.InLiterals("SELECT Id, "+columns+" FROM Lead WHERE Id IN (", filter, distinctTexts(ids), 0)
	if len(matches) > 0 {
		by := r.t.match.Name
		soql = append(soql, api.InLiterals("SELECT Id, "+by+", "+columns+" FROM Lead WHERE "+by+" IN (", filter, distinctTexts(matches), 0)...)
	}
	if len(at) == 0 {
		return
	}
	for _, q := range soql {
		if err := r.askConverted(ctx, q, at, outcomes); err != nil {
			r.t.log.WarnContext(ctx, "the org does not say what converted leads became", "error", err)
			return
		}
	}
}

// askConverted makes one of the queries.
func (r *run) askConverted(ctx context.Context, soql string, at map[string][]int, outcomes []destinations.Outcome) error {
	result, err := r.t.client.Query(ctx, soql)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		record := result.Record()
		var became []string
		for _, object := range []string{"Contact", "Account", "Opportunity"} {
			if id, null := record.Get("Converted" + object + "Id"); !null && id != "" {
				if full, ok := canonicalID(id); ok {
					id = full
				}
				became = append(became, strings.ToLower(object)+" "+id)
			}
		}
		keys := make([]string, 0, 2)
		if id, _ := record.Get("Id"); id != "" {
			if full, ok := canonicalID(id); ok {
				id = full
			}
			keys = append(keys, id)
		}
		if r.t.match != nil && !r.t.match.isID() {
			if value, null := record.Get(r.t.match.Name); !null && value != "" {
				keys = append(keys, r.t.match.fold(value))
			}
		}
		for _, key := range keys {
			for _, i := range at[key] {
				if len(became) > 0 && !strings.Contains(outcomes[i].Message, becamePrefix) {
					outcomes[i].Message = cut(outcomes[i].Message + becamePrefix + strings.Join(became, ", "))
				}
			}
		}
	}
	return result.Err()
}

// skipConverted passes over rows whose lead has been converted, and over those that
// the org takes for duplicates of what it has, where the sync asks for that.
func (r *run) skipConverted(outcomes []destinations.Outcome) {
	if !r.t.sync.Write.SkipConverted {
		return
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.Result == destinations.Failed && (o.Code == codeConverted || o.Code == codeDuplicates) {
			o.Result, o.Message = destinations.Skipped, cut("passed over: "+o.Message)
		}
	}
}

// distinctTexts is texts in order, each once.
func distinctTexts(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}
