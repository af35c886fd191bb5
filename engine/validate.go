package engine

import (
	"context"
	"errors"

	"coho/models"
)

// Checked is what a check of one sync against its warehouse and org found.
type Checked struct {
	Sync     string   `json:"sync"`
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings"`
	// DBTModel is the unique id of the sync's model in its dbt project, and
	// Description what that says of it; "" where there is none.
	DBTModel    string `json:"dbt_model,omitempty"`
	Description string `json:"description,omitempty"`
	// BytesBilled is what a read of the model would bill, where the source
	// bills by what a query reads.
	BytesBilled int64 `json:"bytes_billed,omitempty"`
	// Data is how the model's rows fit; nil where they were not read.
	Data *Data `json:"data,omitempty"`
	// Err is set where the check could not be made, because the warehouse or
	// the org did not answer.
	Err error `json:"-"`
}

// Validate checks syncs against the live warehouse and org: every column,
// field, type, permission and external id, all mistakes at once. With data it also
// reads each model that has none of them, and says how its rows fit.
func (e *Engine) Validate(ctx context.Context, names []string, data bool) ([]Checked, error) {
	syncs := make([]*models.Sync, len(names))
	for i, n := range names {
		s, err := e.Sync(n)
		if err != nil {
			return nil, err
		}
		syncs[i] = s
	}
	out := make([]Checked, len(names))
	for i, s := range syncs {
		out[i] = Checked{Sync: s.Name, Problems: []string{}, Warnings: []string{}, DBTModel: s.Model.DBTModel, Description: s.Model.Description}
		out[i].Warnings = append(out[i].Warnings, e.LookupWarnings(s.Name)...)
		p, err := e.prepare(ctx, s)
		var invalid *InvalidSyncError
		switch {
		case errors.As(err, &invalid):
			for _, pr := range invalid.Problems {
				out[i].Problems = append(out[i].Problems, pr.String())
			}
		case err != nil:
			out[i].Err = err
			out[i].Problems = append(out[i].Problems, err.Error())
		default:
			out[i].Warnings = append(out[i].Warnings, e.neverWarnings(s, lookupsOf(p.target))...)
			out[i].Warnings = append(out[i].Warnings, p.target.Warnings()...)
			out[i].BytesBilled, err = e.bytesBilled(ctx, s)
			if err == nil && data {
				out[i].Data, err = e.checkData(ctx, p)
			}
			if err != nil {
				out[i].Err = err
				out[i].Problems = append(out[i].Problems, err.Error())
			}
		}
	}
	return out, nil
}
