package engine

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// usage is the count of a destination in dir with a clock that stands at *now.
func usage(t *testing.T, dir string, now *time.Time) *Usage {
	t.Helper()
	u, err := OpenUsage(dir, "crm", func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func call(t *testing.T, u *Usage, n int) {
	t.Helper()
	for range n {
		if err := u.Add(); err != nil {
			t.Fatal(err)
		}
	}
}

func used(t *testing.T, u *Usage, want int64) {
	t.Helper()
	if got := u.Used(); got != want {
		t.Errorf("%d calls used, want %d", got, want)
	}
}

func TestUsageCountsADay(t *testing.T) {
	dir, now := t.TempDir(), start
	u := usage(t, dir, &now)
	used(t, u, 0)
	call(t, u, 5)
	now = now.Add(10 * time.Hour)
	call(t, u, 7)
	used(t, u, 12)
	now = start.Add(23*time.Hour + 59*time.Minute)
	used(t, u, 12)
	now = start.Add(24 * time.Hour)
	used(t, u, 7)
	now = start.Add(34 * time.Hour)
	used(t, u, 0)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUsageOutlivesTheProcess(t *testing.T) {
	dir, now := t.TempDir(), start
	u := usage(t, dir, &now)
	call(t, u, saveEvery+3)
	// A process that is killed forgets what it has not written out.
	used(t, usage(t, dir, &now), saveEvery)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	used(t, usage(t, dir, &now), saveEvery+3)
	// Days later, old hours leave the file.
	now = now.Add(72 * time.Hour)
	u = usage(t, dir, &now)
	call(t, u, 1)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "usage", "crm.json"))
	if err != nil || len(b) > len(`{"1234567":1}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestUsageOfTwoProcesses(t *testing.T) {
	dir, now := t.TempDir(), start
	a, b := usage(t, dir, &now), usage(t, dir, &now)
	call(t, a, 30)
	call(t, b, 4)
	for _, u := range []*Usage{a, b, a} {
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
	used(t, usage(t, dir, &now), 34)
	used(t, b, 34)
	used(t, a, 30) // until it writes again
	call(t, a, saveEvery)
	used(t, a, 34+saveEvery)
}

func TestUsageDamaged(t *testing.T) {
	for _, text := range []string{"", "{", `{"x":1}`, `[1]`, "\x00\x00"} {
		dir, now := t.TempDir(), start
		if err := os.MkdirAll(filepath.Join(dir, "usage"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "usage", "crm.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u := usage(t, dir, &now)
		used(t, u, 0)
		call(t, u, 2)
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		used(t, usage(t, dir, &now), 2)
	}
}

func TestUsageFromManyGoroutines(t *testing.T) {
	dir, now := t.TempDir(), start
	u := usage(t, dir, &now)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				if err := u.Add(); err != nil {
					t.Error(err)
				}
				u.Used()
			}
		})
	}
	wg.Wait()
	used(t, u, 200)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	used(t, usage(t, dir, &now), 200)
}

// TestUsageOfOthers: what was counted here is left out, also once it is in the
// file, and an earlier process's is not.
func TestUsageOfOthers(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	count := func(n int) *Usage {
		u, err := OpenUsage(dir, "crm", now)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := u.Add(); err != nil {
				t.Fatal(err)
			}
		}
		return u
	}
	if err := count(3).Close(); err != nil {
		t.Fatal(err)
	}
	u := count(saveEvery + 5)
	if got := u.Others(); got != 3 {
		t.Errorf("others made %d calls, want 3", got)
	}
	if got := u.Used(); got != saveEvery+8 {
		t.Errorf("%d calls in all, want %d", got, saveEvery+8)
	}
}
