package planner

import (
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Values says how many different values a field has among the operations that
// send it: exactly up to some thousands, within about two hundredths past that.
type Values struct {
	Distinct int64
	Bytes    int64 // of one value, on average
}

const (
	// exactValues is up to how many values are told apart one by one.
	exactValues = 8192

	// sketchBits makes a sketch of 4,096 registers, whose standard error is 1.6%.
	sketchBits = 12
)

// valueCount counts different values in memory that does not grow with them: their
// hashes while they are few, and a HyperLogLog sketch (Flajolet and others, 2007)
// from then on.
type valueCount struct {
	hashes    map[uint64]struct{} // nil once there are too many
	registers []uint8             // nil until then
	sends     int64
	bytes     int64
}

func newValueCount() *valueCount { return &valueCount{hashes: map[uint64]struct{}{}} }

func (d *valueCount) add(text string) {
	d.sends++
	d.bytes += int64(len(text))
	d.addHash(xxh3.HashString(text))
}

func (d *valueCount) addHash(h uint64) {
	if d.registers != nil {
		d.register(h)
		return
	}
	d.hashes[h] = struct{}{}
	if len(d.hashes) > exactValues {
		d.sketch()
	}
}

// sketch goes over from hashes to registers.
func (d *valueCount) sketch() {
	d.registers = make([]uint8, 1<<sketchBits)
	for h := range d.hashes {
		d.register(h)
	}
	d.hashes = nil
}

func (d *valueCount) register(h uint64) {
	at := h >> (64 - sketchBits)
	rank := uint8(bits.LeadingZeros64(h<<sketchBits|1<<(sketchBits-1)) + 1)
	d.registers[at] = max(d.registers[at], rank)
}

// merge adds what another counted.
func (d *valueCount) merge(o *valueCount) {
	d.sends += o.sends
	d.bytes += o.bytes
	if o.registers == nil {
		for h := range o.hashes {
			d.addHash(h)
		}
		return
	}
	if d.registers == nil {
		d.sketch()
	}
	for i, rank := range o.registers {
		d.registers[i] = max(d.registers[i], rank)
	}
}

func (d *valueCount) values() Values {
	v := Values{Distinct: int64(len(d.hashes))}
	if d.sends > 0 {
		v.Bytes = (d.bytes + d.sends - 1) / d.sends
	}
	if d.registers == nil {
		return v
	}
	const m = 1 << sketchBits
	sum, empty := 0.0, 0
	for _, rank := range d.registers {
		sum += math.Ldexp(1, -int(rank))
		if rank == 0 {
			empty++
		}
	}
	n := 0.7213 / (1 + 1.079/m) * m * m / sum
	if n <= 2.5*m && empty > 0 {
		n = m * math.Log(float64(m)/float64(empty))
	}
	v.Distinct = min(int64(math.Round(n)), d.sends)
	return v
}
