package salesforce

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// slotState is where a row of a job was found.
type slotState uint8

const (
	slotUnknown slotState = iota // in none of the result files
	slotAccepted
	slotCreated
	slotRefused
	slotUnprocessed
)

// slot is what a job's results say of one row. Sixteen bytes: a job may have
// half a million.
type slot struct {
	state slotState
	// data is an accepted record's Id, in 15 characters, or where a refused
	// row's error is in the errors file: offset and length.
	data [15]byte
}

// answers is what a job's results say, by the position of a row in the job. In
// memory is a block of them; those of a Bulk API 1.0 batch are one block.
type answers struct {
	t      *Target
	rows   int64
	block  []slot
	from   int64    // the position of block's first slot
	errors *os.File // nil until there is one
	size   int64

	// Of a Bulk API 2.0 job.
	aborted bool // somebody ended it while it was worked on
	said    tape // the results as they came: a hash of the key, and the slot
	found   tape // those of rows of the job: the position, and the slot
}

const (
	slotBytes  = 16
	blockSlots = 32 << 10

	// joinRows is about how many keys are in memory while results are joined
	// with the rows they are of.
	joinRows = 64 << 10
)

// newAnswers makes room for a job's answers.
func newAnswers(t *Target, rows int64) *answers {
	dir := t.options.SpoolDir
	return &answers{t: t, rows: rows, said: tape{dir: dir, each: 8 + slotBytes}, found: tape{dir: dir, each: 4 + slotBytes}}
}

func (s *slot) put(b []byte) {
	b[0] = byte(s.state)
	copy(b[1:slotBytes], s.data[:])
}

func slotOf(b []byte) (s slot) {
	s.state = slotState(b[0])
	copy(s.data[:], b[1:slotBytes])
	return s
}

// join finds out which row of the job each result is of: a share of the keys at
// a time, whichever their number, so that memory holds only that share.
func (a *answers) join(x *index) error {
	shares := uint64(ceilDiv(max(1, a.rows), joinRows))
	share := func(h uint64) uint64 { return (h >> 32) * shares >> 32 }
	const answered = 1 << 31
	at := make(map[uint64]uint32, min(a.rows, joinRows+joinRows/8))
	for part := range shares {
		clear(at)
		position := uint32(0)
		err := x.keys.scan(func(record []byte) error {
			if h := binary.LittleEndian.Uint64(record); share(h) == part {
				at[h] = position
			}
			position++
			return nil
		})
		if err != nil {
			return fmt.Errorf("read a job's keys: %w", err)
		}
		err = a.said.scan(func(record []byte) error {
			h := binary.LittleEndian.Uint64(record)
			if share(h) != part {
				return nil
			}
			row, ok := at[h]
			s := slotOf(record[8:])
			switch {
			case !ok:
				return a.misfit(&s, "which no row of it has")
			case row&answered != 0:
				return a.misfit(&s, "twice")
			}
			at[h] = row | answered
			b := a.found.room()
			binary.LittleEndian.PutUint32(b, row)
			copy(b[4:], record[8:])
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := errors.Join(a.said.err, a.found.err); err != nil {
		return fmt.Errorf("keep a job's results: %w", err)
	}
	return nil
}

// misfit says what is wrong with a result, of which only the slot is at hand.
func (a *answers) misfit(s *slot, what string) error {
	result := "unprocessed row"
	if s.state == slotAccepted || s.state == slotCreated || s.state == slotRefused {
		said, err := a.answer(s)
		if err != nil {
			return err
		}
		result = "key of record " + said.id
		if said.id == "" {
			result = "key of a refused row"
		}
	}
	return &misfitError{fmt.Sprintf("the job's results hold the %s %s", result, what)}
}

// at gives the slot of a row, which is valid until the next call. Rows are asked
// for in their order.
func (a *answers) at(row int64) (*slot, error) {
	if row < a.from || row >= a.from+int64(len(a.block)) {
		if err := a.load(row); err != nil {
			return nil, fmt.Errorf("read a job's results back: %w", err)
		}
	}
	return &a.block[row-a.from], nil
}

// load reads the block that begins with a row.
func (a *answers) load(row int64) error {
	if a.block == nil {
		a.block = make([]slot, min(a.rows, blockSlots))
	}
	clear(a.block)
	a.from = row
	return a.found.scan(func(record []byte) error {
		if i := int64(binary.LittleEndian.Uint32(record)) - row; i >= 0 && i < int64(len(a.block)) {
			a.block[i] = slotOf(record[4:])
		}
		return nil
	})
}

// readAnswers reads a job's result files. They are in no particular
// order: each row is found by its key. A result that fits no row of the job,
// or a row with two results, is an error, since then nothing that the results
// say can be trusted to be about the row that it seems to be about.
func (r *run) readAnswers(ctx context.Context, j *job, info api.JobInfo) (*answers, error) {
	a := newAnswers(r.t, j.rows)
	if info.State == api.StateAborted {
		a.aborted = true
		var err error
		if info, err = r.settleDown(ctx, info); err != nil {
			return nil, err
		}
	}
	files := []struct {
		state slotState
		read  func(context.Context, string) (*api.CSVResults, error)
		none  bool
	}{
		{slotAccepted, r.t.client.SuccessfulResults, false},
		{slotRefused, r.t.client.FailedResults, info.State == api.StateJobComplete && info.RecordsFailed == 0},
		{slotUnprocessed, r.t.client.UnprocessedRecords, info.State == api.StateJobComplete && info.RecordsProcessed >= j.rows},
	}
	for _, f := range files {
		if f.none {
			continue // the job's own counters say so
		}
		before := a.said.len()
		for try := 1; ; try++ {
			err := r.readFile(ctx, j, info.ID, a, f.state, f.read)
			var misfit *misfitError
			if err == nil {
				break
			}
			if errors.As(err, &misfit) || ctx.Err() != nil || try >= r.maxAttempts() || !passing(err) {
				a.discard()
				return nil, err
			}
			// A download that was cut is read again from its beginning.
			a.said.cut(before)
			if !sleep(ctx, backoff(r.t.options.RetryPause, try)) {
				a.discard()
				return nil, context.Cause(ctx)
			}
		}
	}
	if err := a.join(j.index); err != nil {
		a.discard()
		return nil, fmt.Errorf("bulk job %s: %w", info.ID, err)
	}
	j.index.filter = nil // every key has found its row
	return a, nil
}

// passing reports whether a request's error is one that goes by.
func passing(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Unknown || e.Class == api.Wait || e.Class == api.RetryRow)
}

// misfitError is a result that belongs to no row, or a second one for a row.
type misfitError struct{ text string }

func (e *misfitError) Error() string { return e.text }

// readFile reads one result file.
func (r *run) readFile(ctx context.Context, j *job, id string, a *answers, state slotState, read func(context.Context, string) (*api.CSVResults, error)) error {
	file, err := read(ctx, id)
	if err != nil {
		return fmt.Errorf("read the results of bulk job %s: %w", id, err)
	}
	defer file.Close()
	header := file.Header()
	keyName := j.index.by.Name
	keyAt := slices.IndexFunc(header, func(h string) bool { return strings.EqualFold(h, keyName) })
	idAt := slices.Index(header, "sf__Id")
	if keyAt < 0 && j.index.by.isID() {
		keyAt = idAt
	}
	var s slot
	createdAt := slices.Index(header, "sf__Created")
	errorAt := slices.Index(header, "sf__Error")
	for file.Next() {
		line := file.Row()
		if keyAt < 0 {
			return &misfitError{fmt.Sprintf("results of bulk job %s lack the column %s, so they fit no row", id, keyName)}
		}
		h := j.index.hash(line[keyAt])
		known := j.index.mayHold(h)
		if !known && j.index.by.isID() && idAt >= 0 {
			h = j.index.hash(line[idAt])
			known = j.index.mayHold(h)
		}
		if !known {
			return &misfitError{fmt.Sprintf("results of bulk job %s hold %s %s, which no row of it has", id, keyName, show(line[keyAt]))}
		}
		s = slot{state: state}
		switch state {
		case slotAccepted:
			if createdAt >= 0 && strings.EqualFold(line[createdAt], "true") {
				s.state = slotCreated
			}
			if idAt >= 0 {
				copy(s.data[:], line[idAt])
			}
		case slotRefused:
			refused := refusedRow{}
			if idAt >= 0 {
				refused.ID = line[idAt]
			}
			if errorAt >= 0 {
				refused.Error = line[errorAt]
			}
			if err := a.keep(&s, refused); err != nil {
				return err
			}
		}
		record := a.said.room()
		binary.LittleEndian.PutUint64(record, h)
		s.put(record[8:])
	}
	if err := file.Err(); err != nil {
		return fmt.Errorf("read the results of bulk job %s: %w", id, err)
	}
	return nil
}

// refusedRow is what the errors file holds of a row.
type refusedRow struct{ ID, Error string }

// keep writes a refused row's error to the errors file: there may be as many
// as rows.
func (a *answers) keep(s *slot, row refusedRow) error {
	if a.errors == nil {
		f, err := newSpool(a.t.options.SpoolDir, "coho-errors-*")
		if err != nil {
			return fmt.Errorf("keep a job's errors: %w", err)
		}
		a.errors = f
	}
	if len(row.Error) > 4*maxMessage {
		// The fields stand at the end.
		row.Error = strings.ToValidUTF8(row.Error[:2*maxMessage]+"..."+row.Error[len(row.Error)-2*maxMessage:], "")
	}
	text, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("keep a job's errors: %w", err)
	}
	if _, err := a.errors.Write(text); err != nil {
		return fmt.Errorf("keep a job's errors: %w", err)
	}
	binary.BigEndian.PutUint64(s.data[:8], uint64(a.size))
	binary.BigEndian.PutUint32(s.data[8:12], uint32(len(text)))
	a.size += int64(len(text))
	return nil
}

// answer gives what the org said of an accepted or refused row.
func (a *answers) answer(s *slot) (answer, error) {
	if s.state != slotRefused {
		return answer{ok: true, id: strings.TrimRight(string(s.data[:]), "\x00"), created: s.state == slotCreated}, nil
	}
	text := make([]byte, binary.BigEndian.Uint32(s.data[8:12]))
	if _, err := a.errors.ReadAt(text, int64(binary.BigEndian.Uint64(s.data[:8]))); err != nil {
		return answer{}, fmt.Errorf("read a job's errors back: %w", err)
	}
	var row refusedRow
	if err := json.Unmarshal(text, &row); err != nil {
		return answer{}, fmt.Errorf("read a job's errors back: %w", err)
	}
	return answer{id: row.ID, errors: []api.RowError{api.ParseResultError(row.Error)}}, nil
}

// discard removes the files.
func (a *answers) discard() {
	if err := errors.Join(a.said.discard(), a.found.discard()); err != nil {
		a.t.log.Warn("a job's file of results", "error", err)
	}
	if a.errors == nil {
		return
	}
	if err := dropSpool(a.errors); err != nil {
		a.t.log.Warn("a job's file of errors", "error", err)
	}
	a.errors = nil
}

// settleJob reads a job's operations again, in order, and settles those that
// have an outcome. pending, where given, are the operations without an outcome
// before: a crash may have come between. The batch stays open.
func (r *run) settleJob(ctx context.Context, j *job, batch destinations.Batch, a *answers, pending *planner.SettledSet) (left leftovers, err error) {
	ops, err := r.plan.Read(j.seqs)
	if err != nil {
		return left, fmt.Errorf("read a job's operations: %w", err)
	}
	defer ops.Close()
	var s settled
	var stop error
	var lost []*row
	var omit map[int]planner.Seqs // by column
	flush := func() error {
		if s.len() == 0 {
			return nil
		}
		s.collect()
		err := r.settle(ctx, batch.Number, s.ops, s.outcomes, false)
		s.reset()
		return err
	}
	ask := func() error {
		found, err := r.landed(ctx, j.c, lost)
		if err != nil {
			return err
		}
		for _, x := range lost {
			if id := found[x]; id != "" {
				s.add(x.op, destinations.Outcome{Result: destinations.Created, ID: id, Attempts: x.attempts})
			} else {
				left.unknown = left.unknown.Append(x.op.Seq)
			}
		}
		lost = nil
		return nil
	}
	var at int64
	for ; ops.Next(); at++ {
		op := ops.Operation()
		if at >= j.rows {
			return left, &misfitError{fmt.Sprintf("batch %d holds more operations than its job's %d rows", batch.Number, j.rows)}
		}
		if pending != nil && !pending.Has(op.Seq) {
			continue
		}
		slot, err := a.at(at)
		if err != nil {
			return left, err
		}
		if slot.state == slotUnprocessed && a.aborted && j.c == callCreate {
			slot.state = slotUnknown // an insert is looked for before it is sent again
		}
		switch slot.state {
		case slotUnprocessed:
			left.unprocessed = left.unprocessed.Append(op.Seq)
			continue
		case slotUnknown:
			if j.c != callCreate {
				left.unknown = left.unknown.Append(op.Seq) // sending it again does no harm
				continue
			}
			x := r.rowOf(j, op)
			lost = append(lost, x.keep())
			if len(lost) >= prepareRows {
				if err := ask(); err != nil {
					return left, err
				}
			}
			continue
		}
		said, err := a.answer(slot)
		if err != nil {
			return left, err
		}
		x := r.rowOf(j, op)
		o, v := r.judge(ctx, &x, said)
		j.crowded = j.crowded || crowded(o.Code, o.Message)
		switch v {
		case settledRow:
			s.addCopy(op, o)
		case retryRow:
			left.retry = left.retry.Append(op.Seq)
		case rematchRow:
			left.rematch = left.rematch.Append(op.Seq)
		case relookRow:
			left.relook = left.relook.Append(op.Seq)
		case omitRow:
			left.omit = left.omit.Append(op.Seq)
			for _, i := range x.omit {
				if omit == nil {
					omit = map[int]planner.Seqs{}
				}
				omit[i] = omit[i].Append(op.Seq)
			}
		case completeRow:
			left.complete = left.complete.Append(op.Seq)
		case stopRun:
			stop = r.stopError(o)
		}
		if s.full() {
			if err := flush(); err != nil {
				return left, err
			}
		}
	}
	if err := ops.Err(); err != nil {
		return left, fmt.Errorf("read a job's operations: %w", err)
	}
	if len(lost) > 0 {
		if err := ask(); err != nil {
			return left, err
		}
	}
	if err := flush(); err != nil {
		return left, err
	}
	for i, seqs := range omit {
		if err := r.markOmitted(ctx, i, seqs); err != nil {
			return left, err
		}
	}
	if stop != nil {
		return left, errors.Join(stop, r.settle(ctx, batch.Number, nil, nil, true))
	}
	return left, nil
}

// rowOf is a row of the job as it was sent.
func (r *run) rowOf(j *job, op *planner.Operation) row {
	r.mu.Lock()
	complete := j.complete || r.complete.Has(op.Seq)
	r.mu.Unlock()
	x := newRow(op, j.c, complete)
	r.follow(&x)
	x.attempts, x.relooked = j.attempts, j.relooked
	x.part = r.t.compares(j.c) && (j.part == nil || j.part.Has(op.Seq))
	r.mu.Lock()
	x.omit = r.omits(op.Seq)
	r.mu.Unlock()
	return x
}
