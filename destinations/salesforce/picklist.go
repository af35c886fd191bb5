package salesforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// What a picklist sync maps, beside the value itself, which is its match.
const (
	partLabel   = "label"
	partDefault = "default"
	partOrder   = "order"
)

const (
	// maxListValues is how many values a list has at most, inactive ones included
	// (Salesforce Help, "Custom Picklist Limitations").
	maxListValues = 1000
	maxValueRunes = 255
)

// picklist is the target of a picklist sync: a custom field's list of values or a
// global value set. The whole list goes in one call.
type picklist struct {
	client   *api.Client
	log      *slog.Logger
	sync     *models.Sync
	name     string // for people: Account.Tier__c
	set      *api.ValueSet
	multi    bool           // values of a record are joined by ;
	parts    []*field       // as sync.Fields
	value    *field         // what a value's own text must be
	fields   map[string]int // by part: its index in sync.Fields
	warnings []string
	pause    time.Duration // before the list is sent again, at first
	calls    *atomic.Int64
}

var _ destinations.Target = (*picklist)(nil)
var _ destinations.Mirror = (*picklist)(nil)

// isGlobal reports whether the sync is of a global value set.
func isGlobal(s *models.Sync) bool { return strings.EqualFold(s.Object, api.GlobalValueSet) }

// openPicklist checks a picklist sync and reads the list as it is.
func (d *Destination) openPicklist(ctx context.Context, s *models.Sync, columns []models.Column) (destinations.Target, error) {
	p := &picklist{client: d.client, sync: s, pause: d.options.RetryPause, calls: new(atomic.Int64), fields: map[string]int{}}
	ctx = api.CountCalls(ctx, p.calls)
	c := &checker{client: d.client, sync: s, columns: columns}
	component, name, err := p.find(ctx, c)
	if err != nil {
		return nil, budget(d.client, err)
	}
	p.checkParts(c)
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	p.name = name
	p.log = d.options.Logger.With("sync", s.Name, "picklist", name)
	if err := p.readSet(ctx, component); err != nil {
		return nil, budget(d.client, p.denied(err))
	}
	if err := p.checkSet(ctx, c, component); err != nil {
		return nil, budget(d.client, err)
	}
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	p.warnings = c.warnings
	return p, nil
}

// readSet reads the list. A global value set's name has a suffix from API version
// 57.0 on, which people leave out.
func (p *picklist) readSet(ctx context.Context, component string) (err error) {
	names := []string{p.name}
	if bare, has := strings.CutSuffix(p.name, suffixSet); component == api.GlobalValueSet && has {
		names = append(names, bare)
	} else if component == api.GlobalValueSet {
		names = append(names, bare+suffixSet)
	}
	for _, name := range names {
		if p.set, err = p.client.ReadValueSet(ctx, component, name); err != nil || p.set != nil {
			return err
		}
	}
	return nil
}

const suffixSet = "__gvs"

// find finds the component that has the list.
func (p *picklist) find(ctx context.Context, c *checker) (component, name string, err error) {
	s := p.sync
	if isGlobal(s) {
		return api.GlobalValueSet, s.Picklist, nil
	}
	object, err := describe(ctx, c.client, s.Object)
	if err != nil {
		return "", "", err
	}
	if object == nil {
		return "", "", c.missingObject(ctx, "", s.Picklist, s.Object)
	}
	var names []string
	for i := range object.Fields {
		if f := &object.Fields[i]; f.Custom && isPicklist(f) {
			names = append(names, f.Name)
		}
	}
	f, ok := object.Field(s.Picklist)
	switch {
	case !ok:
		c.problem("", s.Picklist, "%s has no field %s that this user may see%s", object.Name, s.Picklist, meant(s.Picklist, names))
		return "", "", nil
	case !isPicklist(f):
		c.problem("", f.Name, "field %s is of type %s and no picklist", f.Name, f.Type)
		return "", "", nil
	case !f.Custom:
		c.problem("", f.Name, "field %s is a standard one, whose values are not synced; custom fields and global value sets are", f.Name)
		return "", "", nil
	}
	p.multi = strings.EqualFold(f.Type, "multipicklist")
	if slices.ContainsFunc(object.RecordTypes, func(r api.RecordType) bool { return r.Active && !r.Master }) {
		c.warn("%s has record types: a new value can be picked in none of them before somebody adds it there", object.Name)
	}
	return api.CustomField, object.Name + "." + f.Name, nil
}

func isPicklist(f *api.Field) bool {
	return strings.EqualFold(f.Type, "picklist") || strings.EqualFold(f.Type, "multipicklist")
}

// denied says what to do where the Metadata API is closed to the user.
func (p *picklist) denied(err error) error {
	var e *api.Error
	if errors.As(err, &e) && (e.Code == "INSUFFICIENT_ACCESS" || e.Code == "API_DISABLED_FOR_ORG" || e.Status == forbidden) {
		return fmt.Errorf("%w; give the integration user the permission Modify Metadata Through Metadata API Functions", err)
	}
	return err
}

// checkSet checks what was read.
func (p *picklist) checkSet(ctx context.Context, c *checker, component string) error {
	switch {
	case p.set != nil && p.set.Shared != "":
		c.problem("", p.sync.Picklist, "field %s has the values of global value set %s, which other fields may have too: sync that one (object = %q, field = %q)", p.name, p.set.Shared, api.GlobalValueSet, p.set.Shared)
	case p.set == nil && component == api.GlobalValueSet:
		names, err := p.client.GlobalValueSets(ctx)
		if err != nil {
			return p.denied(err)
		}
		c.problem("", p.name, "the org has no global value set %s that this user may see%s", p.name, meant(p.name, names))
	case p.set == nil:
		c.problem("", p.sync.Picklist, "the Metadata API does not show field %s to this user", p.name)
	case !p.set.Listed():
		c.problem("", p.sync.Picklist, "the Metadata API shows no list of values of %s", p.name)
	}
	return nil
}

// checkParts checks what is mapped.
func (p *picklist) checkParts(c *checker) {
	p.value = newField(&api.Field{Name: "value", Type: "string", Length: maxValueRunes})
	types := map[string]*api.Field{
		partLabel:   {Name: partLabel, Type: "string", Length: maxValueRunes},
		partDefault: {Name: partDefault, Type: "boolean"},
		partOrder:   {Name: partOrder, Type: "int", Digits: 4},
	}
	if col, ok := c.column(p.sync.Pos, "value", p.sync.Match.Column); ok && col.Kind != models.Text && col.Kind != models.Int {
		c.problem("", "value", "column %s (%s) cannot be a picklist's API name: it takes text or a whole number", col.Name, typeName(col))
	}
	for i := range p.sync.Fields {
		m := &p.sync.Fields[i]
		f := types[m.Name]
		if f == nil {
			c.problem(m.Pos, m.Name, "a picklist sync maps value, label, default and order, and not %s", m.Name)
			p.parts = append(p.parts, p.value)
			continue
		}
		col := &column{field: newField(f)}
		c.checkSource(m, col)
		p.parts = append(p.parts, col.field)
		p.fields[m.Name] = i
	}
}

// Fields names the parts that are mapped.
func (p *picklist) Fields() []planner.Field {
	out := make([]planner.Field, len(p.parts))
	for i, f := range p.parts {
		out[i] = planner.Field{Name: f.Name}
	}
	return out
}

// Convert turns a value into a part's text.
func (p *picklist) Convert(i int, v models.Value) (models.Cell, error) {
	f := p.value
	if i != destinations.MatchField {
		if i < 0 || i >= len(p.parts) {
			return models.Cell{}, fmt.Errorf("the sync has no field %d", i)
		}
		f = p.parts[i]
	}
	cell, err := f.convert(v)
	if err != nil {
		return cell, err
	}
	cell.Text = trim(cell.Text)
	switch {
	case cell.Null && f.Name == partDefault:
		return models.Cell{Text: "false"}, nil
	case cell.Null || cell.Text == "":
		return cell, fmt.Errorf("a value of a picklist has a %s, and this one is empty", f.Name)
	case f.Name == partOrder:
		if n, err := strconv.Atoi(cell.Text); err != nil || n < 1 || n > maxListValues {
			return cell, fmt.Errorf("order %s is not within 1 to %d", cell.Text, maxListValues)
		}
	case f.Name == partDefault:
	case utf8.RuneCountInString(cell.Text) > maxValueRunes:
		return cell, fmt.Errorf("%s %s has more than %d characters", f.Name, show(cell.Text), maxValueRunes)
	case strings.ContainsFunc(cell.Text, unicode.IsControl):
		return cell, fmt.Errorf("%s %s holds a control character", f.Name, show(cell.Text))
	case f == p.value && p.multi && strings.Contains(cell.Text, ";"):
		return cell, fmt.Errorf("value %s holds a semicolon, which separates the values of a multi-select picklist", show(cell.Text))
	}
	return cell, nil
}

// DescribeField implements destinations.Describer. Convert refuses an empty part, so
// that none is counted as a null.
func (p *picklist) DescribeField(i int) destinations.FieldNote {
	f := p.value
	if i != destinations.MatchField {
		f = p.parts[i]
	}
	note := destinations.FieldNote{Name: f.Name, Type: f.Type}
	if f.class == classText {
		note.Length = maxValueRunes
		note.Type = fmt.Sprintf("%s(%d)", f.Type, maxValueRunes)
	}
	return note
}

// NormalizeMatch trims a value. API names that differ in case are told apart, so
// that a list with both is refused by name rather than taken for a repeated row.
func (p *picklist) NormalizeMatch(match string) string { return trim(match) }

// Warnings are remarks on the sync.
func (p *picklist) Warnings() []string { return p.warnings }

// Estimate is one call where there is anything to do.
func (p *picklist) Estimate(s planner.Summary) destinations.Estimate {
	e := destinations.Estimate{Choice: "Metadata API: the whole list in one call"}
	for _, n := range s.Operations {
		if n > 0 {
			e.APICalls = 1
		}
	}
	return e
}

// Usage counts the calls made.
func (p *picklist) Usage() destinations.Usage {
	return destinations.Usage{Calls: p.calls.Load(), Remaining: p.client.Usage().Remaining}
}

// Mirror shows the active values as a snapshot. One that is inactive is no row of
// it: as a row of the model it is new, and becomes active again.
func (p *picklist) Mirror(_ context.Context, hash func(key []string) planner.Hash) (planner.Snapshot, error) {
	var rows []planner.MemoryRow
	for _, v := range p.set.Values {
		if !v.Active {
			continue
		}
		key := []string{v.Name}
		record := planner.Record{Key: key, Match: v.Name}
		for _, name := range []string{partDefault, partLabel, partOrder} { // as they sort
			if _, ok := p.fields[name]; !ok {
				continue
			}
			text := v.Label
			switch name {
			case partDefault:
				text = strconv.FormatBool(v.Default)
			case partOrder:
				text = strconv.Itoa(len(rows) + 1)
			}
			record.Fields = append(record.Fields, planner.RecordField{Name: name, Cell: models.Cell{Text: text}})
		}
		rows = append(rows, planner.MemoryRow{KeyHash: hash(key), Record: record})
	}
	return planner.NewMemory(rows), nil
}

// CheckPlan refuses a plan whose list the org would not take, or that leaves out
// rows that are not understood.
func (p *picklist) CheckPlan(plan destinations.Plan, rejected int64) error {
	if rejected > 0 {
		return fmt.Errorf("%s: nothing was sent, since %d rows of the model are no values; the list goes as a whole", p.name, rejected)
	}
	_, ops, err := p.read(plan)
	if err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := p.next(ops); err != nil {
		return fmt.Errorf("%s: nothing was sent: %w", p.name, err)
	}
	return nil
}

// read collects a plan's operations. Past what a list can hold there is no need to
// read on: some of them are too many.
func (p *picklist) read(plan destinations.Plan) (seqs planner.Seqs, ops []*planner.Operation, err error) {
	for pass := range plan.Passes() {
		in, err := plan.Operations(pass)
		if err != nil {
			return nil, nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		for in.Next() && len(ops) <= 2*maxListValues {
			ops = append(ops, in.Operation().Clone())
		}
		if err := errors.Join(in.Err(), in.Close()); err != nil {
			return nil, nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
	}
	slices.SortFunc(ops, func(a, b *planner.Operation) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, op := range ops {
		seqs = seqs.Append(op.Seq)
	}
	return seqs, ops, nil
}

// next is the list as the operations make it. The error says why the org would not
// take it.
func (p *picklist) next(ops []*planner.Operation) ([]api.ListValue, error) {
	list := slices.Clone(p.set.Values)
	at := make(map[string]int, len(list)) // by the lower-case name
	for i, v := range list {
		at[strings.ToLower(v.Name)] = i
	}
	wanted := make(map[int]bool) // values that the model has
	order := make(map[int]int)
	slices.SortFunc(ops, func(a, b *planner.Operation) int { return strings.Compare(a.Match, b.Match) })
	for _, op := range ops {
		i, ok := at[strings.ToLower(op.Match)]
		if op.Kind == planner.Archive {
			if ok && list[i].Name == op.Match {
				list[i].Active, list[i].Default = false, false
			}
			continue
		}
		if ok && list[i].Name != op.Match {
			return nil, fmt.Errorf("API name %s differs only in case from %s, which the list has already; an API name cannot be changed", show(op.Match), show(list[i].Name))
		}
		if !ok {
			i = len(list)
			at[strings.ToLower(op.Match)] = i
			list = append(list, api.ListValue{Name: op.Match, Label: op.Match})
		}
		wanted[i] = true
		v := &list[i]
		v.Active = true
		for _, a := range op.Assignments {
			switch p.parts[a.Field].Name {
			case partLabel:
				v.Label = a.Cell.Text
			case partDefault:
				v.Default = a.Cell.Text == "true"
			case partOrder:
				order[i], _ = strconv.Atoi(a.Cell.Text) // Convert has checked it
			}
		}
	}
	if len(list) > maxListValues {
		return nil, fmt.Errorf("the list would have %d values, inactive ones included, of at most %d", len(list), maxListValues)
	}
	if err := checkList(list); err != nil {
		return nil, err
	}
	return p.ordered(list, order)
}

// checkList checks that labels are unique among the active values, and that at most
// one is the default. API names are, by how the list was made.
func checkList(list []api.ListValue) error {
	labels := map[string]string{}
	dflt := ""
	for _, v := range list {
		if !v.Active {
			continue
		}
		if other, ok := labels[v.Label]; ok {
			return fmt.Errorf("the active values %s and %s have the same label %s", show(other), show(v.Name), show(v.Label))
		}
		labels[v.Label] = v.Name
		if !v.Default {
			continue
		}
		if dflt != "" {
			return fmt.Errorf("%s and %s are both the default value", show(dflt), show(v.Name))
		}
		dflt = v.Name
	}
	return nil
}

// ordered puts the active values in the model's order, where that is mapped, and
// the inactive ones after them. order is what operations say, by the place in the
// list; the others keep the place that they have.
func (p *picklist) ordered(list []api.ListValue, order map[int]int) ([]api.ListValue, error) {
	if _, ok := p.fields[partOrder]; !ok {
		return list, nil
	}
	rank := 0
	for i, v := range p.set.Values {
		if !v.Active {
			continue
		}
		rank++
		if _, ok := order[i]; !ok && list[i].Active {
			order[i] = rank
		}
	}
	out := make([]api.ListValue, len(order))
	taken := make([]bool, len(order))
	for i, n := range order {
		if n > len(order) || taken[n-1] {
			return nil, fmt.Errorf("order must number the %d values from 1 to %d, each number once (row_number() does); %s has %d", len(order), len(order), show(list[i].Name), n)
		}
		out[n-1], taken[n-1] = list[i], true
	}
	for _, v := range list {
		if !v.Active {
			out = append(out, v)
		}
	}
	return out, nil
}

// sorted is whether the org is to show the values by label.
func (p *picklist) sorted() bool {
	_, mapped := p.fields[partOrder]
	return p.set.Sorted && !mapped
}

// codeListRefused is the code of values that were refused with their list, before
// it was sent.
const codeListRefused = "PICKLIST_REFUSED"

// Apply replaces the list by what the plan makes of it. That may be repeated: a
// batch that an earlier run left open is closed, and its operations go again.
func (p *picklist) Apply(ctx context.Context, a destinations.Application) error {
	return budget(p.client, p.apply(api.CountCalls(ctx, p.calls), a))
}

func (p *picklist) apply(ctx context.Context, a destinations.Application) error {
	open, err := a.Journal.Open()
	if err != nil {
		return fmt.Errorf("list open batches: %w", err)
	}
	for _, b := range open {
		if err := a.Journal.Settle(ctx, b.Number, nil, nil, true); err != nil {
			return fmt.Errorf("close a batch: %w", err)
		}
	}
	seqs, ops, err := p.read(a.Plan)
	if err != nil || len(ops) == 0 {
		return err
	}
	select {
	case <-a.Stop:
		return destinations.ErrStopped
	default:
	}
	batch, err := a.Journal.Begin(ctx, destinations.Batch{API: "metadata", Step: "replace", Seqs: seqs})
	if err != nil {
		return fmt.Errorf("record a batch before sending it: %w", err)
	}
	was := p.set.Values
	list, err := p.next(slices.Clone(ops))
	var failure *destinations.Outcome
	switch {
	case err != nil:
		failure = &destinations.Outcome{Result: destinations.Failed, Code: codeListRefused, Message: err.Error(), Attempts: 1}
	case slices.EqualFunc(list, was, func(a, b api.ListValue) bool {
		return a.Name == b.Name && a.Label == b.Label && a.Active == b.Active && a.Default == b.Default
	}) && p.sorted() == p.set.Sorted:
		// A full run of a list that is as it should be.
	default:
		if failure, err = p.replace(ctx, list); err != nil {
			return err // the batch stays open, and the next run compares anew
		}
	}
	before := make(map[string]bool, len(was))
	for _, v := range was {
		before[v.Name] = true
	}
	outcomes := make([]destinations.Outcome, len(ops))
	for i, op := range ops {
		switch {
		case failure != nil:
			outcomes[i] = *failure
		case op.Kind == planner.Archive:
			outcomes[i] = destinations.Outcome{Result: destinations.Deactivated, Attempts: 1}
		case before[op.Match]:
			outcomes[i] = destinations.Outcome{Result: destinations.Updated, Attempts: 1}
		default:
			outcomes[i] = destinations.Outcome{Result: destinations.Created, Attempts: 1}
		}
	}
	if err := a.Journal.Settle(context.WithoutCancel(ctx), batch, ops, outcomes, true); err != nil {
		return fmt.Errorf("record outcomes: %w", err)
	}
	return nil
}

// replace makes the call. failure is the outcome of every value where the org
// refused the list.
func (p *picklist) replace(ctx context.Context, list []api.ListValue) (failure *destinations.Outcome, err error) {
	var e *api.Error
	for try := 1; ; try++ {
		err = p.client.ReplaceValues(ctx, p.set, list, p.sorted())
		// Such as another change of the org's setup under way.
		if !errors.As(err, &e) || e.Class != api.RetryRow && e.Class != api.Wait || try == defaultMaxAttempts {
			break
		}
		if !sleep(ctx, backoff(p.pause, try)) {
			return nil, context.Cause(ctx)
		}
	}
	if err == nil {
		return nil, nil
	}
	if errors.As(err, &e) && !e.Unknown && e.Class == api.RowFault {
		return &destinations.Outcome{Result: destinations.Failed, Code: e.Code, Message: cut(e.Message), Fields: e.Fields, Attempts: 1}, nil
	}
	return nil, p.denied(err)
}
