package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/xxh3"
)

const (
	repeatParts  = 256
	repeatMemory = 4 << 20 // bytes of values that wait in memory, of all partitions
	repeatShown  = 80      // bytes of a value that are kept to show it
	repeatMost   = 5       // how many values are shown
)

// repeats finds values that come more than once, in memory that does not grow with
// them: they are spread by hash over files, each of which is then counted by itself.
// A file has no name once it holds anything, so that however the process ends none of
// the model's values stay behind.
type repeats struct {
	dir   string // "" is the system's temporary directory
	files [repeatParts]*os.File
	parts [repeatParts][]byte
	held  int
}

// add takes one value, and the text that shows it to people.
func (r *repeats) add(value, shown []byte) error {
	h := xxh3.Hash128(value)
	p := h.Hi >> 56
	b := r.parts[p]
	was := len(b)
	b = binary.BigEndian.AppendUint64(b, h.Hi)
	b = binary.BigEndian.AppendUint64(b, h.Lo)
	shown = shown[:min(len(shown), repeatShown)]
	b = append(append(b, byte(len(shown))), shown...)
	r.parts[p] = b
	if r.held += len(b) - was; r.held > repeatMemory {
		return r.spill()
	}
	return nil
}

func (r *repeats) spill() error {
	for i, b := range r.parts {
		if len(b) == 0 {
			continue
		}
		if r.files[i] == nil {
			f, err := os.CreateTemp(r.dir, "coho-validate-")
			if err != nil {
				return fmt.Errorf("make room for the model's values: %w", err)
			}
			r.files[i] = f
			if err := os.Remove(f.Name()); err != nil {
				return fmt.Errorf("make room for the model's values: %w", err)
			}
		}
		if _, err := r.files[i].Write(b); err != nil {
			return fmt.Errorf("make room for the model's values: %w", err)
		}
		r.parts[i] = b[:0]
	}
	r.held = 0
	return nil
}

// count says which values came more than once.
func (r *repeats) count() (out Repeated, err error) {
	for i := range r.parts {
		var in io.Reader = bytes.NewReader(r.parts[i])
		if f := r.files[i]; f != nil {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return out, fmt.Errorf("read the model's values: %w", err)
			}
			in = io.MultiReader(bufio.NewReaderSize(f, 64<<10), in)
		}
		if err := countPart(in, &out); err != nil {
			return out, fmt.Errorf("read the model's values: %w", err)
		}
	}
	return out, nil
}

// countPart counts one partition, whose values are together there.
func countPart(in io.Reader, out *Repeated) error {
	seen := map[[16]byte]bool{} // whether it was counted as repeated already
	var head [17]byte
	var text [repeatShown]byte
	for {
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		shown := text[:head[16]]
		if _, err := io.ReadFull(in, shown); err != nil {
			return err
		}
		h := [16]byte(head[:16])
		counted, ok := seen[h]
		switch {
		case !ok:
			seen[h] = false
			continue
		case !counted:
			seen[h] = true
			out.Values++
			out.Rows++ // the first
			if len(out.Examples) < repeatMost {
				out.Examples = append(out.Examples, string(shown))
			}
		}
		out.Rows++
	}
}

// close gives the room back.
func (r *repeats) close() error {
	var errs []error
	for _, f := range r.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
