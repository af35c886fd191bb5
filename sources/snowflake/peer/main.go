// Command peer serves github.com/nnnkkk7/snowflake-emulator, a Snowflake that
// other people wrote, on a port of the loopback interface: the emulator's own
// command listens on all of them. It holds no data of its own and must never
// be part of what is shipped.
package main

import (
	"database/sql"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/nnnkkk7/snowflake-emulator/pkg/connection"
	"github.com/nnnkkk7/snowflake-emulator/pkg/metadata"
	"github.com/nnnkkk7/snowflake-emulator/pkg/query"
	"github.com/nnnkkk7/snowflake-emulator/pkg/session"
	"github.com/nnnkkk7/snowflake-emulator/server/handlers"
)

func main() {
	port := flag.String("port", "", "port of the loopback interface to listen on")
	flag.Parse()
	if err := serve(net.JoinHostPort("127.0.0.1", *port)); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// serve answers the driver's requests until the process is killed.
func serve(address string) error {
	db, err := sql.Open("duckdb", ":memory:")
	if err != nil {
		return fmt.Errorf("open a database: %w", err)
	}
	defer db.Close() // in memory: nothing can be lost
	connections := connection.NewManager(db)
	names, err := metadata.NewRepository(connections)
	if err != nil {
		return fmt.Errorf("make the catalog: %w", err)
	}
	sessions := session.NewManager(time.Hour)
	s := handlers.NewSessionHandler(sessions, names)
	q := handlers.NewQueryHandler(query.NewExecutor(connections, names), sessions)
	mux := http.NewServeMux()
	for path, handler := range map[string]http.HandlerFunc{
		"/session/v1/login-request": s.Login, "/session/token-request": s.TokenRequest, "/session/heartbeat": s.Heartbeat, "/session": s.CloseSession,
		"/queries/v1/query-request": q.ExecuteQuery, "/queries/v1/abort-request": q.AbortQuery,
	} {
		mux.HandleFunc("POST "+path, handler)
	}
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}
