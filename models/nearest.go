package models

import "strings"

// Nearest returns the name of known that a person who typed name most likely
// meant, or "" where none is close: the same letters in another case, else
// the smallest number of typing mistakes, or a name that holds it. Ties go to the earlier name.
func Nearest(name string, known []string) string {
	best, bestCost := "", 0
	folded := strings.ToLower(name)
	for _, k := range known {
		cost := 2 * typos(folded, strings.ToLower(k))
		if k != name {
			cost++ // an equal name beats one that differs in case
		}
		if len(folded) > 3 && strings.Contains(strings.ToLower(k), folded) {
			cost = min(cost, 4) // batch_size for rest_batch_size
		}
		if best == "" || cost < bestCost {
			best, bestCost = k, cost
		}
	}
	limit := max(2, len(folded)*2/5)
	if best == "" || bestCost > 2*limit+1 {
		return ""
	}
	return best
}

// typos counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func typos(a, b string) int {
	before := make([]int, len(b)+1)
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 0
			if a[i-1] != b[j-1] {
				differ = 1
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
