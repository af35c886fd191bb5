package postgrestest_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// awaitServerGone waits until nothing listens on the socket in dir.
func awaitServerGone(t *testing.T, dir string) {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(dir, ".s.PGSQL.*"))
	if err != nil {
		t.Fatal(err)
	}
	var port string
	for _, s := range sockets {
		if ext := filepath.Ext(s); ext != ".lock" {
			port = ext[1:]
		}
	}
	if port == "" {
		return // gone already, socket and all
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := pgconn.Connect(ctx, "host="+dir+" port="+port+" user=postgres dbname=postgres")
		if err != nil {
			if ctx.Err() != nil {
				t.Fatal("the server outlived its tests by 30 s")
			}
			return
		}
		conn.Close(ctx)
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatal("the server outlived its tests by 30 s")
		}
	}
}
