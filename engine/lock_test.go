package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// holderVar makes the test binary hold the state directory that it names until
// its standard input ends.
const holderVar = "COHO_ENGINE_TEST_HOLDER"

func hold(dir string) int {
	e, err := New(Options{StateDir: dir})
	if err == nil {
		err = e.Lock("coho run accounts")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return 1
	}
	if err := e.Close(); err != nil {
		return 1
	}
	return 0
}

// holder starts a process that holds a state directory. end lets it go in
// peace, or kills it.
func holder(t *testing.T, dir string) (pid int, end func(kill bool)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVar+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func(kill bool) {
		if ended {
			return
		}
		ended = true
		if kill {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // says that it was killed
			return
		}
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { end(true) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return cmd.Process.Pid, end
}

func TestLockTwiceInOneEngine(t *testing.T) {
	w := newWorld(t, "accounts")
	e := w.engine()
	for range 2 {
		if err := e.Lock("coho run"); err != nil {
			t.Fatal(err)
		}
	}
	other := w.engine()
	var locked *LockedError
	if err := other.Lock("coho run"); !errors.As(err, &locked) || locked.Dir != w.dir || !strings.Contains(locked.Holder, "coho run") {
		t.Errorf("a second engine: %v", err)
	}
	if run, err := other.Run(t.Context(), "accounts", RunOptions{}); run != nil || !errors.As(err, &locked) {
		t.Errorf("a run of a second engine: %v, %v", run, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.Lock("coho run"); err != nil {
		t.Errorf("after the first one's end: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestLockHeldByAnotherProcess(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run("killed="+strconv.FormatBool(kill), func(t *testing.T) {
			w := newWorld(t, "accounts")
			pid, end := holder(t, w.dir)
			_, err := w.run("accounts", RunOptions{})
			var locked *LockedError
			want := fmt.Sprintf("process %d (coho run accounts)", pid)
			if !errors.As(err, &locked) || locked.Holder != want || !strings.Contains(err.Error(), want) {
				t.Fatalf("%v, want the holder %q", err, want)
			}
			// Who only reads the history needs no lock.
			w.with(func(e *Engine) {
				if _, err := e.History().List("", 0); err != nil {
					t.Error(err)
				}
			})
			end(kill)
			w.must("accounts")
		})
	}
}

func TestLockOfANewerVersion(t *testing.T) {
	w := newWorld(t, "accounts")
	w.must("accounts")
	path := filepath.Join(w.dir, "VERSION")
	if b, err := os.ReadFile(path); err != nil || string(b) != stateVersion+"\n" {
		t.Fatalf("VERSION is %q, %v", b, err)
	}
	if err := os.WriteFile(path, []byte("coho-state-9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := w.run("accounts", RunOptions{})
	var version *StateVersionError
	if run != nil || !errors.As(err, &version) || version.Version != "coho-state-9" || !strings.Contains(err.Error(), "coho-state-9") {
		t.Fatalf("%v, %v", run, err)
	}
	// Nothing is held, nothing written.
	if err := os.WriteFile(path, []byte(stateVersion+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("accounts")
}

func TestLockFailsTwiceAlike(t *testing.T) {
	w := newWorld(t, "accounts")
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "runs"), []byte("no folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.with(func(e *Engine) {
		for range 2 {
			if err := e.Lock("coho run"); err == nil {
				t.Error("a history that cannot be read was passed over")
			}
		}
	})
}

func TestOneSyncNeverRunsTwiceAtOnce(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme")
	w.with(func(e *Engine) {
		var inner error
		w.org.reach = func(point string) error {
			if point == "begun" {
				_, inner = e.Run(t.Context(), "accounts", RunOptions{})
			}
			return nil
		}
		if _, err := e.Run(t.Context(), "accounts", RunOptions{}); err != nil {
			t.Fatal(err)
		}
		var locked *LockedError
		if !errors.As(inner, &locked) || locked.Sync != "accounts" {
			t.Errorf("the second run at once: %v", inner)
		}
		w.org.reach = nil
		if _, err := e.Run(t.Context(), "accounts", RunOptions{}); err != nil {
			t.Errorf("after the first one's end: %v", err)
		}
	})
}
