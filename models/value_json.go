package models

import (
	"encoding/json"
	"fmt"
)

type valueJSON struct {
	Kind Kind    `json:"kind"`
	N    int64   `json:"n,omitempty"`
	S    []byte  `json:"s,omitempty"` // bytes, so that a Bytes value survives
	List []Value `json:"list,omitempty"`
}

// MarshalJSON writes the value with its kind, so that UnmarshalJSON gives back
// the same value. It is the form in which a sync's constants are kept beside a
// plan; people are shown Text.
func (v Value) MarshalJSON() ([]byte, error) {
	return json.Marshal(valueJSON{v.kind, v.n, []byte(v.s), v.list})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Value) UnmarshalJSON(b []byte) error {
	var j valueJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("decode value: %w", err)
	}
	if int(j.Kind) >= len(kindNames) {
		return fmt.Errorf("decode value: unknown kind %d", j.Kind)
	}
	*v = Value{kind: j.Kind, n: j.N, s: string(j.S), list: j.List}
	return nil
}
