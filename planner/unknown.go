package planner

// Held reports an entry of which nobody can say whether what was sent for its
// row was carried out. It has a record, which counts once somebody has said so.
func (e *Entry) Held() bool { return e.Refused && !e.Acked && e.RefusedCode == CodeUnknown }

// unknown deals with a row that is held, as Spec.OnUnknown says.
func (j *joiner) unknown(rec []byte) error {
	e := &j.entry
	switch {
	case j.spec.Full || j.spec.OnUnknown == "resend":
		return j.plan(rec, e)
	case j.spec.OnUnknown == "accept":
		j.chunk.rows.Unchanged++
		if err := j.hold(rec, matchHeld); err != nil {
			return err
		}
		return j.note(Note{Kind: NoteRefresh, Entry: Entry{KeyHash: e.KeyHash, Fingerprint: Hash(rec[16:32]), Acked: true}})
	}
	if err := j.row(rec); err != nil {
		return err
	}
	key, err := j.key()
	if err != nil {
		return err
	}
	if err := j.keep(rec, e); err != nil {
		return err
	}
	return j.reject(rec, key, CodeUnknown, "the answer to what was sent for the row was lost, and on_unknown holds it")
}
