package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"coho/engine"
	"coho/models"
)

// access is who may call a route over TCP. On the socket in the state directory
// everything is allowed: the file's mode says who may connect.
type access int

const (
	// byToken asks for the token, always: without one in the config nobody
	// gets in over TCP. A browser sends none by itself, so no page that a user
	// has open can call the API, whatever name it makes resolve to this machine.
	byToken access = iota
	// byPlace is open where the server listens on loopback only, as scrapers on
	// the machine expect, and else asks for the token. Open, it answers to
	// names of this machine only, so that no page can read it by making its own
	// name resolve to it.
	byPlace
	// open is open to all: probes come without credentials and learn nothing.
	open
)

// local marks the contexts of connections on the socket.
type local struct{}

// connContext notes where a connection came in.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if c.LocalAddr().Network() == "unix" {
		return context.WithValue(ctx, local{}, true)
	}
	return ctx
}

// allow reports why a request may not go on, nil where it may.
func (s *Server) allow(r *http.Request, a access) *Problem {
	if r.Context().Value(local{}) != nil || a == open {
		return nil
	}
	if a == byPlace && s.loopback {
		if !localHost(r.Host) {
			return problem(http.StatusForbidden, CodeHost, "the server listens on this machine only and was asked by another name; use 127.0.0.1 or localhost")
		}
		return nil
	}
	if s.token == "" {
		return problem(http.StatusForbidden, CodeNoToken, "the API over TCP needs a token: set token in the config's [server] section")
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || !equal(strings.TrimSpace(given), s.token) {
		return problem(http.StatusUnauthorized, CodeUnauthorized, "the token of the config's [server] section is needed, as `Authorization: Bearer TOKEN`")
	}
	return nil
}

// equal compares in a time that says nothing of where or how long the two are.
func equal(given string, want models.Secret) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// localHost reports whether a Host header names this machine in a way that no
// other's name server can: by address, or as localhost.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// CheckAddr checks an address that the daemon is to listen on: beyond loopback it
// needs a token. A name counts as loopback only as localhost.
func CheckAddr(addr string, token models.Secret) (loopback bool, err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, &engine.UsageError{Message: fmt.Sprintf("[server] addr %q is not an address with a port: %v", addr, err)}
	}
	ip, perr := netip.ParseAddr(host)
	loopback = strings.EqualFold(host, "localhost") || perr == nil && ip.Unmap().IsLoopback()
	if !loopback && token == "" {
		return false, &engine.UsageError{Message: fmt.Sprintf("[server] addr %s is reachable from other machines and the config has no token; set token, or listen on 127.0.0.1", addr)}
	}
	return loopback, nil
}
