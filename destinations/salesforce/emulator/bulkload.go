package emulator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Processing of the rows of Bulk jobs, 2.0 and 1.0 alike.

const (
	bulkBatch    = 10_000 // rows of an internal batch
	bulkChunk    = 200    // rows of a transaction
	maxCSVHeader = 32_000
	maxCell      = 131_072
	nullCell     = "#N/A"
)

// column says what a column of a load is written to.
type column struct {
	header string
	f      *field
	target *object // of a reference by external id
	key    *field
	exact  bool // the header has the field's own case: it is in the result files
	at     int  // its place in the file
}

// structural is a fault of a whole load: no row is evaluated.
type structural struct{ message string }

func (e *structural) Error() string { return e.message }

func invalidBatch(format string, args ...any) error {
	return &structural{"InvalidBatch : " + fmt.Sprintf(format, args...)}
}

// unparsable words an error of the CSV reader as an org does.
func unparsable(err error) error {
	text := err.Error()
	return invalidBatch("Failed to parse CSV. %s", strings.ToUpper(text[:1])+text[1:])
}

// columns reads a header row.
func (o *Org) columns(obj *object, op operation, header []string) ([]column, error) {
	cols := make([]column, 0, len(header))
	seen := map[string]bool{}
	total := 0
	for i, h := range header {
		total += len(h) + 1
		if total > maxCSVHeader {
			return nil, invalidBatch("Header is longer than %d characters", maxCSVHeader)
		}
		col, err := o.column(obj, h)
		if err != nil {
			return nil, err
		}
		if seen[strings.ToLower(h)] {
			return nil, invalidBatch("Duplicate field name found : %s", h)
		}
		if (op == opDelete || op == opHardDelete) && col.f.from != fromID {
			return nil, invalidBatch("Field name not found : %s", h)
		}
		seen[strings.ToLower(h)] = true
		col.at = i
		cols = append(cols, col)
	}
	// In the order of the fields, so that a row's changes come out sorted.
	for i := 1; i < len(cols); i++ {
		for j := i; j > 0 && cols[j].f.idx < cols[j-1].f.idx; j-- {
			cols[j], cols[j-1] = cols[j-1], cols[j]
		}
	}
	return cols, nil
}

// column reads one header: Field, Relationship.Field or, where the relationship
// has several targets, Type:Relationship.Field (Bulk API Developer Guide,
// "Relationship Fields in a Header Row").
func (o *Org) column(obj *object, h string) (column, error) {
	path, keyName, dotted := strings.Cut(h, ".")
	if !dotted {
		f := obj.visible(h)
		if f == nil {
			return column{}, invalidBatch("Field name not found : %s", h)
		}
		return column{header: h, f: f, exact: h == f.name}, nil
	}
	typeName, rel, typed := strings.Cut(path, ":")
	if !typed {
		rel = path
	}
	f := obj.relation(rel)
	if f == nil || f.hidden {
		if typed {
			return column{}, invalidBatch("Unable to find relationship: %s", rel)
		}
		return column{}, invalidBatch("Field name not found : %s", h)
	}
	if typed && !f.polymorphic() {
		return column{}, invalidBatch("type is not needed for non polymorphic foreign key references: %s", rel)
	}
	if !typed && f.polymorphic() {
		return column{}, invalidBatch("type is needed for polymorphic foreign key references: %s", rel)
	}
	target := o.object(f.referenceTo[0])
	if typed {
		if target = o.object(typeName); target == nil || !f.refersTo(target.name) {
			return column{}, invalidBatch("Unable to find object: %s", typeName)
		}
	}
	key := target.visible(keyName)
	if key == nil || !key.idLookup {
		return column{}, invalidBatch("Field name not found : %s", h)
	}
	exact := keyName == key.name && rel == f.relationship && (!typed || typeName == target.name)
	return column{header: h, f: f, target: target, key: key, exact: exact}, nil
}

// fill turns a row's cells into a rowWrite. An empty cell is left alone, "#N/A"
// clears.
func (w *rowWrite) fill(cols []column, cells []string, op operation, keyField *field) {
	for i := range cols {
		col := &cols[i]
		cell := cells[col.at]
		if cell == "" {
			continue
		}
		f := col.f
		isKey := op == opUpsert && f == keyField && col.key == nil
		if f.from == fromID && col.key == nil && (isKey || op == opUpdate || op == opDelete || op == opHardDelete) {
			if cell != nullCell {
				if isKey {
					w.key = trim(cell)
				} else {
					w.id = trim(cell)
				}
			}
			continue
		}
		if cell == nullCell {
			if !isKey {
				w.changes = append(w.changes, change{f: f, null: true})
			}
			continue
		}
		if len(cell) > maxCell {
			w.fail("STRING_TOO_LONG", fmt.Sprintf("%s: data value too large (max length=%d)", f.label, maxCell), f.name)
			continue
		}
		if col.key != nil {
			w.addReference(f, col.target, col.key, cell)
			continue
		}
		val, p := f.parse(cell)
		switch {
		case p != nil && p.cast:
			w.fail("INVALID_FIELD", fmt.Sprintf("Failed to deserialize field at col %d. Due to, '%s' is not a valid value for the type %s", col.at, cell, f.xsd), f.name)
		case p != nil:
			w.errs = append(w.errs, p.err)
		default:
			if isKey {
				if w.key = val; val == "" {
					continue
				}
			}
			w.changes = append(w.changes, change{f: f, val: val, null: val == ""})
		}
	}
}

// Outcomes of a row.
const (
	rowUnprocessed = uint8(iota)
	rowCreated
	rowUpdated
	rowFailed

	rowLost = uint8(0x80) // set beside the outcome: the row is in no result file
)

// load is the rows of one job or batch and what became of each.
type load struct {
	text   string
	delim  byte
	header []string
	cols   []column
	starts []uint32 // where each row begins in text
	state  []uint8
	ids    []uint64 // sequence of the record, 0 when there is none
	mu     sync.Mutex
	errs   map[int]rowFailure
	done   int
	failed int
}

type rowFailure struct {
	text string // CODE:message:fields --
	list []rowError
}

// scan finds the rows of a CSV text.
func scan(text string, delim byte) (header []string, starts []uint32, err error) {
	r := &csvReader{s: text, delim: delim}
	cells, _, ok, err := r.next()
	if err != nil {
		return nil, nil, unparsable(err)
	}
	if !ok {
		return nil, nil, invalidBatch("Records not processed")
	}
	for _, c := range cells {
		header = append(header, trim(c))
	}
	starts = make([]uint32, 0, len(text)/128+1)
	for {
		_, start, ok, err := r.next()
		if err != nil && err != errQuoteSpace {
			return nil, nil, unparsable(err)
		}
		if !ok {
			return header, starts, nil
		}
		starts = append(starts, uint32(start))
	}
}

// prepare reads a load's header and finds its rows.
func (l *load) prepare(o *Org, obj *object, op operation) error {
	header, starts, err := scan(l.text, l.delim)
	if err != nil {
		return err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if l.cols, err = o.columns(obj, op, header); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.header, l.starts = header, starts
	l.state, l.ids, l.errs = make([]uint8, len(starts)), make([]uint64, len(starts)), map[int]rowFailure{}
	return nil
}

// transactions carries what the transactions of one batch share.
type transactions struct {
	s         *Server
	obj       *object
	op        operation
	key       *field
	assign    bool // an assignment rule was named
	selfLimit int
	delay     time.Duration // of one chunk
	stop      func() bool
	requeued  func(bool) // called as the batch goes back to the queue (true) and is taken up again
}

// Lock failures of a batch (Bulk API Developer Guide, "General Guidelines for
// Data Loads"): with more than so many, what is left of it is queued again, so
// often at most.
const (
	maxLockFailures = 100
	maxRequeues     = 10
)

// lockFailure is a batch that failed because its rows were locked too often.
type lockFailure struct{ rows int }

func (e *lockFailure) Error() string {
	return fmt.Sprintf("TooManyLockFailure : Too many lock failure %d Trying again later.", e.rows)
}

// csvRows reads the rows of a CSV load into rowWrites.
func (t *transactions) csvRows(l *load) func(int, *rowWrite) {
	r := &csvReader{s: l.text, delim: l.delim}
	return func(i int, w *rowWrite) {
		r.i = int(l.starts[i])
		cells, _, _, err := r.next()
		switch {
		case err != nil:
			w.fail("INVALID_FIELD", "Failed to parse CSV: "+err.Error())
		case len(cells) != len(l.header):
			w.fail("INVALID_FIELD", fmt.Sprintf("The row has %d columns, the header %d", len(cells), len(l.header)))
		default:
			w.fill(l.cols, cells, t.op, t.key)
		}
	}
}

// run processes rows [from, to) in transactions of 200; read fills in a row.
func (t *transactions) run(ctx context.Context, l *load, from, to int, read func(int, *rowWrite)) error {
	b := &dml{obj: t.obj, op: t.op, keyField: t.key, assign: t.assign, selfLimit: t.selfLimit, delay: t.delay, fault: t.s.faults.rows("bulk " + t.op.String() + " " + t.obj.name)}
	rows := make([]rowWrite, bulkChunk)
	locked, queues := 0, 0
	for ; from < to; from += bulkChunk {
		if ctx.Err() != nil || t.stop() {
			return nil
		}
		n := min(bulkChunk, to-from)
		for i := range n {
			w := &rows[i]
			*w = rowWrite{changes: w.changes[:0], refs: w.refs[:0]}
			read(from+i, w)
		}
		b.rows = rows[:n]
		if err := t.s.transact(ctx, b); err != nil {
			return err
		}
		l.settle(from, b)
		if locked += b.unlocked; locked <= maxLockFailures || from+bulkChunk >= to {
			continue
		}
		if queues++; queues > maxRequeues {
			return &lockFailure{locked}
		}
		locked = 0
		t.requeued(true)
		pause(ctx, t.s.opts.LockWait/10)
		t.requeued(false)
	}
	return nil
}

// settle records what became of a transaction's rows.
func (l *load) settle(from int, b *dml) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.rows {
		w := &b.rows[i]
		l.done++
		if w.rec != nil {
			l.ids[from+i] = w.rec.sequence()
		} else if b.obj.event {
			l.ids[from+i], _ = idSequence(w.id)
		}
		switch {
		case len(w.errs) > 0:
			l.failed++
			l.state[from+i] = rowFailed
			l.errs[from+i] = rowFailure{errorCell(w.errs[0]), w.errs}
			w.errs = nil
		case b.op == opUpdate || b.op == opUpsert && !w.created:
			l.state[from+i] = rowUpdated
		case b.op == opInsert || b.op == opUpsert:
			l.state[from+i] = rowCreated
		default:
			l.state[from+i] = rowUpdated
		}
	}
}

// errorCell renders an error as the result files do: CODE:message:fields --.
func errorCell(e rowError) string {
	if len(e.fields) == 0 {
		return e.code + ":" + e.message + ":--"
	}
	return e.code + ":" + e.message + ":" + strings.Join(e.fields, ",") + " --"
}
