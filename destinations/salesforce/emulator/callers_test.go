package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// TestCallersAreGone: what a caller sent before it hung up has been done once
// Callers' function returns, and it does not return before.
func TestCallersAreGone(t *testing.T) {
	c := start(t, emulator.Options{})
	c.want(200, "GET", v66+"/limits", "") // leaves a connection open that came before
	gone := c.s.Callers()
	arrived, release := make(chan string), make(chan struct{})
	c.s.OnCall(func(kind string) {
		arrived <- kind
		<-release
	})
	const n = 3
	for i := range n {
		conn, err := net.Dial("tcp", c.s.URL()[len("http://"):])
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"Name":"a%d"}`, i)
		_, err = fmt.Fprintf(conn, "POST %s/sobjects/Account HTTP/1.1\r\nHost: org\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", v66, c.token, len(body), body)
		if err = errors.Join(err, conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	<-arrived
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := gone(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the callers are gone while a call is held: %v", err)
	}
	for range n - 1 {
		<-arrived
	}
	c.s.OnCall(nil)
	close(release)
	if err := gone(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.s.Org().Count("Account"); got != n {
		t.Errorf("%d records were made, want %d", got, n)
	}
}
