package salesforce

import (
	"context"
	"fmt"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// made is a plan of upserts that is made as it is read, and a journal that
// counts outcomes.
type made struct{ rows, settled int }

func (p *made) Passes() int                                               { return 1 }
func (p *made) Operations(int) (destinations.Operations, error)           { return &making{to: p.rows}, nil }
func (p *made) Update(context.Context, destinations.Batch) error          { return nil }
func (p *made) Open() ([]destinations.Batch, error)                       { return nil, nil }
func (p *made) Begin(context.Context, destinations.Batch) (uint64, error) { return 1, nil }

func (p *made) Read(seqs planner.Seqs) (destinations.Operations, error) {
	return &making{at: int(seqs[0].From), to: int(seqs[len(seqs)-1].To)}, nil
}

func (p *made) Settle(_ context.Context, _ uint64, ops []*planner.Operation, _ []destinations.Outcome, _ bool) error {
	p.settled += len(ops)
	return nil
}

type making struct {
	at, to int
	op     planner.Operation
	fields [2]planner.Assignment
}

func (m *making) Next() bool {
	if m.at == m.to {
		return false
	}
	key := fmt.Sprintf("K%07d", m.at)
	m.fields = [2]planner.Assignment{set(fName, key), set(fPhone, key)}
	m.op = planner.Operation{Seq: int64(m.at), Kind: planner.Upsert, Key: []string{key}, Match: key, Assignments: m.fields[:]}
	m.at++
	return true
}
func (m *making) Operation() *planner.Operation { return &m.op }
func (m *making) Err() error                    { return nil }
func (m *making) Close() error                  { return nil }

// BenchmarkApply upserts records over HTTP, the emulator's part included.
func BenchmarkApply(b *testing.B) {
	for _, ingestion := range []string{"rest", "bulk"} {
		for _, rows := range []int{2_000, 100_000} {
			b.Run(fmt.Sprintf("api=%s/rows=%d", ingestion, rows), func(b *testing.B) {
				org, err := emulator.Start(b.Context(), emulator.Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer org.Close()
				who := org.Credentials()
				client, err := api.New(api.Config{Domain: org.URL(), Auth: api.AuthClientCredentials, ClientID: who.ClientID, ClientSecret: models.Secret(who.ClientSecret)})
				if err != nil {
					b.Fatal(err)
				}
				dest := New(client, Options{SpoolDir: b.TempDir()})
				defer dest.Close()
				target, err := dest.Open(b.Context(), accountSync(models.ModeUpsert, ingestion), accountColumns)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					p := &made{rows: rows}
					if err := target.Apply(b.Context(), destinations.Application{Plan: p, Journal: p}); err != nil || p.settled != rows {
						b.Fatalf("%d settled: %v", p.settled, err)
					}
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
