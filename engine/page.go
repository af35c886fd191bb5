package engine

import (
	"errors"
	"io/fs"
)

// Page returns up to max runs (0: all) that are older than the run with the id
// before ("": from the newest), newest first, of one sync or, where sync is
// empty, of all. more says that there are older ones. A run that retention has
// removed may still be named by before.
func (h *History) Page(sync, before string, max int) (runs []*Run, more bool, err error) {
	ids, err := h.ids()
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		if before != "" && id >= before {
			continue // ids sort by the time of their run
		}
		if sync != "" && h.syncOf(id) != sync {
			continue
		}
		r, err := h.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by retention since the listing
		}
		if err != nil {
			return nil, false, err
		}
		if max > 0 && len(runs) == max {
			return runs, true, nil
		}
		runs = append(runs, r)
	}
	return runs, false, nil
}

// PageSequences is Page for runs of sequences: of one, or of all.
func (h *History) PageSequences(name, before string, max int) (runs []*SequenceRun, more bool, err error) {
	ids, err := recordIDs(h.sequences)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		if before != "" && id >= before {
			continue
		}
		s, err := h.readSequence(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if name != "" && s.Sequence != name {
			continue
		}
		if max > 0 && len(runs) == max {
			return runs, true, nil
		}
		runs = append(runs, s)
	}
	return runs, false, nil
}
