package planner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

type crm struct {
	*plannertest.Table
	rows, g int
	frame   []byte
}

func (s *crm) Next() bool {
	if s.g >= s.rows {
		return false
	}
	s.g++
	g := s.g
	s.frame = s.frame[:0]
	base := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []string{
		fmt.Sprintf("ACC-%010d", g), fmt.Sprint(g), fmt.Sprint("Account number ", g), fmt.Sprint("+49 30 ", g*7919%10000000),
		fmt.Sprintf("https://www.example%d.com/about-the-company", g%5000), fmt.Sprintf("%d.%02d", g*104729%100000000/100, g*104729%100), fmt.Sprint(g * 31 % 5000), fmt.Sprint(g%3 == 0),
		time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, g%3650).Format(time.DateOnly), base.Add(time.Duration(g) * time.Second).Format("2006-01-02T15:04:05.000Z"),
	} {
		s.frame = models.AppendCell(s.frame, []byte(c))
	}
	return true
}
func (s *crm) Row() []byte { return s.frame }

func TestZZ(t *testing.T) {
	rows := 1_000_000
	fmt.Sscan(os.Getenv("ROWS"), &rows)
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	store, err := snapshot.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	s := &crm{Table: plannertest.NewTable("key", "id", "name", "phone", "web", "arr", "emp", "act", "since", "upd"), rows: rows}
	spec := s.Spec(models.ModeUpsert, "key", "id", "name", "phone", "web", "arr", "emp", "act", "since", "upd")
	spec.MatchIsKey = true
	if f := os.Getenv("BPROF"); f != "" {
		p, _ := os.Create(f)
		pprof.StartCPUProfile(p)
	}
	began := time.Now()
	plan, err := planner.Build(context.Background(), spec, s, store, filepath.Join(dir, "plan"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pprof.StopCPUProfile()
	fmt.Println("build", time.Since(began))
	if os.Getenv("BPROF") != "" {
		return
	}
	began = time.Now()
	if f := os.Getenv("PROF"); f != "" {
		p, _ := os.Create(f)
		pprof.StartCPUProfile(p)
	}
	b := &testing.B{}
	settleAll(b, store, plan, true)
	fmt.Println("settle", time.Since(began))
	store.Close()
	fmt.Println("close", time.Since(began))
	pprof.StopCPUProfile()
	var n int64
	filepath.Walk(state, func(name string, fi os.FileInfo, err error) error { n += fi.Size(); return nil })
	fmt.Println("bytes", n, float64(n)/float64(rows))
	db, err := pebble.Open(state, &pebble.Options{ReadOnly: true, FormatMajorVersion: pebble.FormatWALSyncChunks})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(db.Metrics().String())
	db.Close()
	if os.Getenv("CHANGED") == "" {
		return
	}
}
