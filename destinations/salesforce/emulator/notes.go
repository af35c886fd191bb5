package emulator

import (
	"encoding/binary"
	"encoding/json"
	"strings"
)

// What the journal keeps beside records: platform events, and the values of
// picklists that were changed. Each is a name with a JSON text.

const setPrefix = "set " // before the name of a global value set

// keptValue is a picklist's value in the journal.
type keptValue struct {
	Value   string `json:"value"`
	Label   string `json:"label"`
	Active  bool   `json:"active"`
	Default bool   `json:"default"`
}

type keptList struct {
	Values     []keptValue `json:"values"`
	Restricted bool        `json:"restricted"`
}

// appendNote appends an entry of a name and a JSON text.
func appendNote(dst []byte, kind byte, name string, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return dst // events and lists always render
	}
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

func listOf(values []picklistValue, restricted bool) keptList {
	out := keptList{Restricted: restricted}
	for _, v := range values {
		out.Values = append(out.Values, keptValue{v.value, v.label, v.active, v.dflt})
	}
	return out
}

// keepList journals a changed list of values. Callers hold Org.mu.
func (o *Org) keepList(name string, values []picklistValue, restricted bool) error {
	if o.changed == nil {
		o.changed = map[string]keptList{}
	}
	o.changed[name] = listOf(values, restricted)
	if o.log == nil {
		return nil
	}
	if err := o.log.write(appendNote(nil, entryList, name, o.changed[name])); err != nil {
		return err
	}
	return o.log.sync()
}

// appendNotes appends everything that is no record, for a journal that is
// rewritten.
func (o *Org) appendNotes(dst []byte) []byte {
	for name, list := range o.changed {
		dst = appendNote(dst, entryList, name, list)
	}
	for name, events := range o.events {
		for _, e := range events {
			dst = appendNote(dst, entryEvent, name, e)
		}
	}
	return dst
}

// note plays an entry of events or lists.
func (p *player) note(kind byte, r *reader) error {
	name, text := string(r.bytes(r.uvarint())), r.bytes(r.uvarint())
	if r.bad {
		return errEntry
	}
	o := p.org
	if kind == entryEvent {
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		var event map[string]any
		if err := d.Decode(&event); err != nil {
			return errEntry
		}
		o.events[name] = append(o.events[name], event)
		return nil
	}
	var list keptList
	if err := json.Unmarshal(text, &list); err != nil {
		return errEntry
	}
	if o.changed == nil {
		o.changed = map[string]keptList{}
	}
	o.changed[name] = list
	values := make([]picklistValue, 0, len(list.Values))
	for _, v := range list.Values {
		values = append(values, picklistValue{value: v.Value, label: v.Label, active: v.Active, dflt: v.Default})
	}
	if set, ok := strings.CutPrefix(name, setPrefix); ok {
		if v := o.valueSet(set); v != nil {
			v.fill(values)
		}
	} else if f := o.customField(name); f != nil && f.valueSet == "" {
		f.picklist.Store(newPicklist(values, list.Restricted))
	}
	return nil
}
