package emulator

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// publish accepts a platform event: it is enqueued, kept for the control API
// and never a record (Platform Events Developer Guide, "Publish Event Messages
// with Salesforce APIs").
func (o *Org) publish(b *dml, w *rowWrite) {
	if b.op != opInsert {
		w.fail("INVALID_TYPE_FOR_OPERATION", fmt.Sprintf("entity type %s does not support %s", b.obj.name, b.op))
		return
	}
	sortChanges(w.changes)
	if !o.writable(b, w, nil) {
		return
	}
	o.checkRequired(b, w, w.changes, nil)
	if len(w.errs) > 0 {
		return
	}
	minute, used := o.publishing()
	if used >= o.hourlyEvents {
		w.fail("LIMIT_EXCEEDED", "The maximum number of platform events published per hour was exceeded")
		return
	}
	o.published[minute]++
	key := strings.ToLower(b.obj.name)
	n := uint64(len(o.events[key]))
	event := map[string]any{"ReplayId": fmt.Sprint(n + 1), "CreatedDate": formatDatetime(formatInstant(o.now()))}
	var raw [16]byte
	for i := range raw {
		raw[i] = byte(o.rng.Uint32())
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	h := hex.EncodeToString(raw[:])
	w.key = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	event["EventUuid"] = w.key
	for _, c := range w.changes {
		if !c.null {
			event[c.f.name] = native(c.f, strings.Clone(c.val))
		}
	}
	o.events[key] = append(o.events[key], event)
	if o.log != nil {
		b.entries = appendNote(b.entries, entryEvent, key, event)
	}
	// The Id in a result identifies no event "and isn't always unique".
	w.id = makeID(b.obj.prefix, firstSequence)
	b.counts.EventsAccepted++
}

// maxHourlyEvents is how many events an org takes in an hour where its file does
// not say (Platform Events Developer Guide, "Platform Event Allocations").
const maxHourlyEvents = 250_000

// publishing gives the minute that it is, and how many events were published in the
// hour that ends with it; callers hold mu for writing.
func (o *Org) publishing() (minute int64, used int) {
	minute = o.now() / 60
	for m, n := range o.published {
		if m <= minute-60 {
			delete(o.published, m)
			continue
		}
		used += n
	}
	return minute, used
}

func (o *Org) publishedThisHour() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, used := o.publishing()
	return used
}
