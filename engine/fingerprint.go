package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"coho/models"
)

// ConfigHash returns a fingerprint of a sync's parsed config, 16 hexadecimal
// digits: the same in every process, whatever file and line the sync stands in,
// and another one where anything that its config says differs. Its model counts
// as part of it; sources and destinations, which hold the secrets, do not.
func ConfigHash(s *models.Sync) string {
	c := *s
	c.Pos = ""
	c.Fields = append([]models.Field(nil), s.Fields...)
	for i := range c.Fields {
		c.Fields[i].Pos = ""
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "" // a sync is texts, numbers and lists of them
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
