package emulator

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Bulk API 1.0 jobs (Bulk API 2.0 and Bulk API Developer Guide, "Bulk API").

const (
	classicClosed       = "Closed"
	classicQueued       = "Queued"
	classicCompleted    = "Completed"
	classicNotProcessed = "NotProcessed"

	maxClassicBytes = 10_000_000
)

// classicJob is a Bulk 1.0 job; its mutex guards what follows it.
type classicJob struct {
	id, operationName, contentType, rule string
	number                               float64
	obj                                  *object
	op                                   operation
	key                                  *field
	serial                               bool
	query                                bool // operation query or queryAll
	created                              time.Time

	mu      sync.Mutex
	state   string
	changed time.Time
	batches []*classicBatch
}

// classicBatch is guarded by its job's mutex, but for its rows.
type classicBatch struct {
	id       string
	job      *classicJob
	text     string
	load     load
	records  []node // of JSON and XML
	state    string
	message  string
	created  time.Time
	changed  time.Time
	took     time.Duration
	retries  int      // how often it went back to the queue
	answer   [][]byte // of a query: its pieces, in the job's format
	resultID string
}

func (j *classicJob) open() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state == stateOpen
}

func (j *classicJob) listed(s *Server) map[string]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	mode := "Parallel"
	if j.serial {
		mode = "Serial"
	}
	return map[string]any{
		"id": j.id, "operation": j.operationName, "object": j.obj.name, "createdById": s.org.person(integrationUser), "createdDate": stamp(j.created),
		"systemModstamp": stamp(j.changed), "state": j.state, "concurrencyMode": mode, "contentType": j.contentType, "apiVersion": j.number, "jobType": "Classic",
	}
}

// findClassic returns a job that has not expired: after seven days they go,
// whatever their state (Bulk API Developer Guide, "Bulk API Limits").
func (js *jobs) findClassic(id string) *classicJob {
	now := js.s.org.Clock()
	js.mu.Lock()
	defer js.mu.Unlock()
	j := js.classic[id]
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Sub(j.changed) > doneLife {
		delete(js.classic, id)
		return nil
	}
	return j
}

// processBatch runs one batch. Serial jobs run one batch at a time, whatever job
// it is of.
func (js *jobs) processBatch(ctx context.Context, b *classicBatch) {
	j := b.job
	if j.serial {
		js.serial.Lock()
		defer js.serial.Unlock()
	}
	j.mu.Lock()
	if j.state == stateAborted {
		b.state = classicNotProcessed
		j.mu.Unlock()
		return
	}
	b.state = stateRunning
	j.mu.Unlock()
	js.gate(ctx)
	begin := time.Now()
	message := js.batchRows(ctx, b)
	if err := js.s.org.log.sync(); err != nil {
		message = "InternalServerError : " + err.Error()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	b.took, b.changed = time.Since(begin), js.s.org.Clock()
	if b.state == classicNotProcessed {
		return
	}
	b.state, b.message = classicCompleted, message
	if message != "" {
		b.state = stateFailed
	}
}

func (js *jobs) batchRows(ctx context.Context, b *classicBatch) string {
	s, j := js.s, b.job
	if j.query {
		return js.batchQuery(b)
	}
	t := transactions{s: s, obj: j.obj, op: j.op, key: j.key, assign: j.rule != "", stop: b.stopped, requeued: b.requeued}
	s.org.mu.RLock()
	t.selfLimit = max(len(j.obj.records), 1)
	s.org.mu.RUnlock()
	read := t.nodeRows(b)
	if j.contentType == "CSV" {
		if err := b.load.prepare(s.org, j.obj, j.op); err != nil {
			return err.Error()
		}
		read = t.csvRows(&b.load)
	} else {
		n := len(b.records)
		b.load.state, b.load.ids, b.load.errs = make([]uint8, n), make([]uint64, n), map[int]rowFailure{}
	}
	n := len(b.load.state)
	if n == 0 || n > bulkBatch {
		return "InvalidBatch : Records not processed"
	}
	end := n
	fault, failing := s.faults.job("bulk " + j.operationName + " " + j.obj.name)
	switch {
	case failing && fault.AbortJob:
		if b.abort(fault.FailJobAfter > 0) {
			return ""
		}
	case failing:
		end = min(n, fault.FailJobAfter)
	}
	t.delay = s.opts.ProcessingDelay / time.Duration((n+bulkChunk-1)/bulkChunk)
	err := t.run(ctx, &b.load, 0, end, read)
	if locked, ok := errors.AsType[*lockFailure](err); ok {
		return locked.Error()
	}
	if err != nil {
		s.log.ErrorContext(ctx, "a Bulk batch could not be kept", "error", err)
		return "InternalServerError : the records could not be kept"
	}
	if failing && !fault.AbortJob {
		return fault.FailJob
	}
	return ""
}

// abort ends a batch's job as somebody else may. A batch that is worked on
// comes to its end; those that wait their turn are not processed. It returns
// whether this one is among those.
func (b *classicBatch) abort(working bool) bool {
	b.job.mu.Lock()
	defer b.job.mu.Unlock()
	b.job.state = stateAborted
	for _, other := range b.job.batches {
		if other.state == classicQueued || other == b && !working {
			other.state = classicNotProcessed
		}
	}
	return !working
}

// requeued shows that a batch waits for its next turn, or has it.
func (b *classicBatch) requeued(out bool) {
	b.job.mu.Lock()
	defer b.job.mu.Unlock()
	switch {
	case out:
		b.state = classicQueued
		b.retries++
	case b.state == classicQueued:
		b.state = stateRunning
	}
}

// stopped says whether the job was aborted while the batch waited for its turn.
func (b *classicBatch) stopped() bool {
	b.job.mu.Lock()
	defer b.job.mu.Unlock()
	return b.state == classicNotProcessed
}

// nodeRows reads the records of a JSON or XML batch. What would fail a REST
// request fails the row.
func (t *transactions) nodeRows(b *classicBatch) func(int, *rowWrite) {
	return func(i int, w *rowWrite) {
		n := &b.records[i]
		byID := t.op == opUpdate || t.op == opDelete || t.op == opHardDelete || t.op == opUpsert && t.key.from == fromID
		if e := t.s.readRecord(b.text, t.obj, n, w, byID); e != nil {
			w.fail(e.code, e.message, e.fields...)
			return
		}
		if byID {
			id := recordID(n)
			if id == "null" {
				id = ""
			}
			if t.op == opUpsert {
				w.key = id
			} else {
				w.id = id
			}
			return
		}
		if t.op != opUpsert {
			return
		}
		for k := range w.changes {
			if w.changes[k].f == t.key {
				w.key = w.changes[k].val
			}
		}
	}
}

// batchQuery runs the query that is the text of a batch.
func (js *jobs) batchQuery(b *classicBatch) string {
	s, o, j := js.s, js.s.org, b.job
	q, bad := parseSOQL(b.text)
	o.mu.RLock()
	defer o.mu.RUnlock()
	var p *plan
	if bad == nil {
		p, bad = o.plan(q, j.operationName == "queryAll")
	}
	if bad == nil {
		bad = unfitForBulk(q, p)
	}
	if bad == nil && p.obj != j.obj {
		bad = malformed(-1, "the query is not of the job's object, %s", j.obj.name)
	}
	if bad != nil {
		return "InvalidBatch : Failed to process query: " + bad.code + ": " + bad.render(b.text)
	}
	rows := o.match(p)
	var out [][]byte
	switch j.contentType {
	case "CSV":
		out = append(out, bulkHeader(p, ',', "\n"))
		for _, r := range rows {
			out = append(out, o.bulkLine(p, r, ',', "\n"))
		}
	case "JSON":
		for i, r := range rows {
			piece := []byte("[")
			if i > 0 {
				piece = []byte(",")
			}
			out = append(out, s.appendTree(piece, formatVersion(j.number), p, p.obj, r, p.tree))
		}
		if len(rows) == 0 {
			out = append(out, []byte("["))
		}
		out = append(out, []byte("]"))
	default:
		out = append(out, []byte(`<?xml version="1.0" encoding="UTF-8"?><queryResult xmlns="`+asyncNamespace+`" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`))
		for _, r := range rows {
			out = append(out, o.xmlLine(p, r))
		}
		out = append(out, []byte("</queryResult>"))
	}
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	b.load.done, b.answer = len(rows), out
	return ""
}

// xmlLine renders a record of a query as XML; fields of parents are named by
// their path.
func (o *Org) xmlLine(p *plan, r *record) []byte {
	out := []byte(`<records xsi:type="sObject"><type>` + p.obj.name + `</type>`)
	for _, ref := range p.columns {
		name := columnName(ref)
		v, f, ok := o.follow(p.obj, r, ref)
		if !ok {
			out = append(out, "<"+name+` xsi:nil="true"/>`...)
			continue
		}
		out = append(out, "<"+name+">"+escapeXML(plainText(f, v))+"</"+name+">"...)
	}
	return append(out, "</records>"...)
}
