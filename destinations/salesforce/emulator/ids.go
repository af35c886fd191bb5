package emulator

// Record Ids: 15 base-62 characters (3 of key prefix, 3 of instance, 9 of
// sequence) followed by 3 of checksum that make them safe where case is lost.
// Documented in the SOAP API Developer Guide, "ID Field Type".

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const checksumAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

// instanceCode stands in every Id after the key prefix.
const instanceCode = "5f0"

var base62Digit = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(base62) {
		t[base62[i]] = int8(i)
	}
	return t
}()

// appendID appends the 18-character Id of sequence number n.
func appendID(dst []byte, prefix string, n uint64) []byte {
	start := len(dst)
	dst = append(dst, prefix...)
	dst = append(dst, instanceCode...)
	var seq [9]byte
	for i := len(seq) - 1; i >= 0; i-- {
		seq[i] = base62[n%62]
		n /= 62
	}
	dst = append(dst, seq[:]...)
	return appendChecksum(dst, dst[start:start+15])
}

// makeID is appendID as a string.
func makeID(prefix string, n uint64) string {
	var buf [18]byte
	return string(appendID(buf[:0], prefix, n))
}

func appendChecksum[T string | []byte](dst []byte, id15 T) []byte {
	for g := 0; g < 15; g += 5 {
		bits := 0
		for i := range 5 {
			if c := id15[g+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		dst = append(dst, checksumAlphabet[bits])
	}
	return dst
}

// canonicalID turns a 15- or 18-character Id into its 18-character form; false
// for a wrong length, a character outside base 62 or a wrong checksum.
func canonicalID(id string) (string, bool) {
	if len(id) != 15 && len(id) != 18 {
		return "", false
	}
	for i := range 15 {
		if base62Digit[id[i]] < 0 {
			return "", false
		}
	}
	var sum [3]byte
	appendChecksum(sum[:0], id[:15])
	if len(id) == 18 {
		return id, id[15] == sum[0] && id[16] == sum[1] && id[17] == sum[2]
	}
	return id + string(sum[:]), true
}

// idSequence gives the sequence number within an Id in canonical form.
func idSequence(id string) (uint64, bool) {
	if len(id) < 15 || id[3:6] != instanceCode {
		return 0, false
	}
	var n uint64
	for i := 6; i < 15; i++ {
		n = n*62 + uint64(base62Digit[id[i]])
	}
	return n, true
}
