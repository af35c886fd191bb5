package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SocketName is the daemon's socket in the state directory. Who may write the
// state directory may speak to the daemon: the commands go this way and need no
// token.
const SocketName = "daemon.sock"

// making begins the name of the folder in which the socket is made.
const making = ".socket-"

// listenSocket listens on the state directory's socket. The caller holds the
// directory's lock, so a socket that is there already was left by a process that
// is dead; it is replaced.
//
// The socket is made in a folder that nobody else can enter and moved to its
// place once only its owner may use it, so there is no moment in which others
// could connect.
func listenSocket(stateDir string) (_ net.Listener, err error) {
	left, err := os.ReadDir(stateDir)
	if err != nil {
		return nil, fmt.Errorf("make the daemon's socket: %w", err)
	}
	for _, e := range left { // of a daemon killed while it did what follows
		if strings.HasPrefix(e.Name(), making) {
			if err := os.RemoveAll(filepath.Join(stateDir, e.Name())); err != nil {
				return nil, fmt.Errorf("make the daemon's socket: %w", err)
			}
		}
	}
	dir, err := os.MkdirTemp(stateDir, making)
	if err != nil {
		return nil, fmt.Errorf("make the daemon's socket: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil && err == nil {
			err = fmt.Errorf("make the daemon's socket: %w", rerr)
		}
	}()
	var l *net.UnixListener
	err = nearby(dir, func(short string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(short, SocketName)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on the daemon's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it goes by another name from here on
	path := filepath.Join(dir, SocketName)
	if err := errors.Join(os.Chmod(path, 0o600), os.Rename(path, filepath.Join(stateDir, SocketName))); err != nil {
		return nil, errors.Join(fmt.Errorf("make the daemon's socket: %w", err), l.Close())
	}
	return l, nil
}

// removeSocket takes the socket away when the daemon ends.
func removeSocket(stateDir string) error {
	if err := os.Remove(filepath.Join(stateDir, SocketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the daemon's socket: %w", err)
	}
	return nil
}

// dialSocket connects to the daemon that holds a state directory. It returns
// [ErrNoDaemon] where none does.
func dialSocket(ctx context.Context, stateDir string) (net.Conn, error) {
	var conn net.Conn
	err := nearby(stateDir, func(short string) (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(short, SocketName))
		return err
	})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		// Refused: the socket of a daemon that was killed.
		return nil, ErrNoDaemon
	}
	return nil, fmt.Errorf("connect to the daemon: %w", err)
}

// longest is how long the name of a socket may be everywhere: 104 bytes on
// macOS, 108 on Linux, the last of them zero.
const longest = 103

// nearby calls f with a name of dir that is short enough for a socket in it:
// where dir's own is too long, that of a symbolic link which is gone afterwards.
func nearby(dir string, f func(short string) error) (err error) {
	if len(filepath.Join(dir, SocketName)) <= longest {
		return f(dir)
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "coho-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	short := filepath.Join(temp, "s")
	if err := os.Symlink(full, short); err != nil {
		return err
	}
	return f(short)
}
