package salesforce

import (
	"net/url"
	"strings"

	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// What only_sync_different adds to an estimate: the calls that read the org's
// records. Those that write are counted as if every row differed, since what does
// is known only once the records are read.

const atMost = "only_sync_different reads the org's records first and sends only what differs from them: fewer rows and calls, where some do not"

// comparedIn counts the operations of a plan that are compared, and of those the
// ones whose records are read by their Ids.
func (t *Target) comparedIn(s planner.Summary) (all, byID int64) {
	var ifKnown int64
	for k, n := range s.Operations {
		switch c := callOf(planner.Kind(k)); {
		case !t.compares(c):
			continue
		case c == callUpdate && (t.match == nil || t.match.isID()):
			byID += n
		case c == callUpdate || t.match.Unique:
			ifKnown += n
		}
		all += n
	}
	return all, byID + min(ifKnown, s.Known)
}

// compareCalls is what reading the org's records of a plan costs. It supposes that
// those of which the Ids are known are spread evenly among the others.
func (t *Target) compareCalls(r route, s planner.Summary) (calls int64) {
	compared, byID := t.comparedIn(s)
	if compared == 0 {
		return 0
	}
	var all, cells, keys int64
	for _, n := range s.PassOperations {
		all += n
	}
	for _, n := range s.Fields {
		cells += n
	}
	for _, sample := range s.Samples {
		keys += int64(len(strings.Join(sample.Key, "")))
	}
	keys /= max(1, int64(len(s.Samples)))
	groups, plain, frame := t.readShape(s)
	each := func(literal int64) int64 { // to a query, as api.InLiterals has it
		return min(800, max(1, (12_000-frame)/(literal+9)))
	}
	read := func(n int64) (calls int64) {
		ids := (n*byID + compared/2) / compared
		switch {
		case ids == 0:
		case plain:
			calls++
		default:
			calls += groups * ceilDiv(ids, each(18))
		}
		return calls + groups*ceilDiv(n-ids, each(keys))
	}
	weight := 200 + (cells*48+s.Bytes)/max(1, all)
	chunk := max(1, min(comparedRows, ceilDiv(pendingBytes, weight)))
	for _, n := range s.PassOperations {
		n = n * compared / max(1, all)
		lanes := t.lanesOf(r, n)
		for i := range lanes {
			rows := (n + i) / lanes // n dealt out evenly
			calls += rows / chunk * read(chunk)
			if rest := rows % chunk; rest > 0 {
				calls += read(rest)
			}
		}
	}
	return calls
}

// lanesOf is in how many lanes n rows of a pass go.
func (t *Target) lanesOf(r route, n int64) int64 {
	w := &t.sync.Write
	switch bulk := r.bulk && (!r.rest || n >= bulkFrom(r, w)); {
	case !r.lanes || bulk && !r.bulk1:
		return 1
	case bulk:
		most := int64(api.MaxBatchRows)
		if w.BulkBatchSize > 0 {
			most = min(most, int64(w.BulkBatchSize))
		}
		return int64(laneCount(parallelism(w), n, most, laneBatches))
	default:
		return int64(laneCount(parallelism(w), n, restBatch(w), laneCalls))
	}
}

// readShape is how the fields that a plan sends are read: in how many queries a
// record, whether all of them are the record's own, and how long a query is but for
// the values that it names.
func (t *Target) readShape(s planner.Summary) (groups int64, plain bool, frame int64) {
	var wanted fieldSet
	for i, col := range t.columns {
		if s.Fields[col.Name] > 0 && !col.createOnly && !col.virtual() {
			wanted.add(i)
		}
	}
	parts, plain := t.parts(wanted, nil)
	by := t.idField
	if t.match != nil {
		by = t.match
	}
	longest := 0
	for _, columns := range parts {
		longest = max(longest, len(url.QueryEscape(t.selects(by, columns)+")")))
	}
	return int64(len(parts)), plain, int64(longest)
}

// warnDifferent remarks on what only_sync_different does not do in a sync.
func (c *checker) warnDifferent(t *Target) {
	if !c.sync.Write.OnlySyncDifferent {
		return
	}
	switch c.sync.Mode {
	case models.ModeInsert:
		c.warn("only_sync_different has no effect: mode = \"insert\" writes new records only, of which the org holds nothing yet")
		return
	case models.ModeArchive:
		c.warn("only_sync_different has no effect: mode = \"archive\" writes no fields")
		return
	}
	for _, col := range t.columns {
		switch {
		case col == nil || col.createOnly || col.virtual():
		case col.masked():
			c.warn("only_sync_different: field %s is encrypted and the org shows but a mask of it, so it is sent whether it differs or not", col.Name)
		case col.parent != nil && !col.byQuery && !col.readable():
			c.warn("only_sync_different: field %s may refer to several objects, so what it refers to by %s cannot be read, and it is sent whether it differs or not", col.Name, col.parent.Name)
		}
	}
}
