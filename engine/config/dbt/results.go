package dbt

import (
	"encoding/json"
	"fmt"
)

// Results is what became of each node in one dbt run.
type Results struct {
	status map[string]string // by unique id
}

// ReadResults reads a run_results.json.
func ReadResults(path string) (*Results, error) {
	r := &Results{status: map[string]string{}}
	known := false
	err := readObject(path, func(key string, dec *json.Decoder) error {
		if key != "results" {
			return skip(dec)
		}
		known = true
		var results []struct {
			UniqueID string `json:"unique_id"`
			Status   string `json:"status"`
		}
		if err := dec.Decode(&results); err != nil {
			return err
		}
		for _, result := range results {
			r.status[result.UniqueID] = result.Status
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the dbt results %s: %w", path, err)
	}
	if !known {
		return nil, fmt.Errorf("read the dbt results %s: it has no results; is it a run_results.json?", path)
	}
	return r, nil
}

// Failed says why a model's rows are not what that dbt run was to make of
// them: it failed or was skipped. An ephemeral model has no result of its own:
// it is as good as what it reads. "" says that nothing is wrong; a model that
// was not part of the run is as it was before.
func (m *Manifest) Failed(r *Results, uniqueID string) string {
	return m.failed(r, uniqueID, map[string]bool{})
}

func (m *Manifest) failed(r *Results, uniqueID string, seen map[string]bool) string {
	switch status := r.status[uniqueID]; status {
	case "skipped":
		return fmt.Sprintf("dbt skipped %s", uniqueID)
	case "error", "fail", "runtime error", "partial success":
		return fmt.Sprintf("%s failed in dbt (%s)", uniqueID, status)
	}
	n := m.nodes[uniqueID]
	if n == nil || n.Config.Materialized != "ephemeral" || seen[uniqueID] {
		return ""
	}
	seen[uniqueID] = true
	for _, parent := range n.DependsOn.Nodes {
		if reason := m.failed(r, parent, seen); reason != "" {
			return reason
		}
	}
	return ""
}
