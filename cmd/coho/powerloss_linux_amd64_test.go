package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// What a power cut leaves of a file is known up to its last sync. To know where
// that was, coho runs under a tracer, a process of this test binary, that sees
// each of its system calls: where it wrote, what it had synced, and when to die.

// traceVar makes the test binary a tracer: "state directory|n|file", where coho
// dies at its n-th write, sync, rename or removal below the directory, and the
// file gets what was not synced then.
const traceVar = "COHO_TEST_TRACE"

// extent is how much of a file was written, and how much of that synced.
type extent struct{ Written, Synced int64 }

// traced is what a tracer tells.
type traced struct {
	Died  bool // else coho ended by itself
	Code  int
	Steps int
	Files map[uint64]*extent // by inode
}

func init() {
	spec := os.Getenv(traceVar)
	if spec == "" {
		return
	}
	parts := strings.Split(spec, "|")
	n, err := strconv.Atoi(parts[1])
	if err == nil {
		err = trace(parts[0], n, parts[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(99)
	}
	os.Exit(0)
}

// tracer follows one process.
type tracer struct {
	dir    string
	dieAt  int
	out    traced
	pid    int
	inside map[int]*syscall.PtraceRegs // threads in a system call that matters: their registers as it began
	entry  map[int]int64               // and how much the file held then
	busy   map[int]bool                // threads in any system call
}

func trace(dir string, n int, out string) error {
	runtime.LockOSThread()
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, traceVar+"=") {
			env = append(env, v)
		}
	}
	p, err := os.StartProcess(os.Args[0], os.Args, &os.ProcAttr{Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return err
	}
	t := &tracer{dir: dir, dieAt: n, pid: p.Pid, out: traced{Files: map[uint64]*extent{}},
		inside: map[int]*syscall.PtraceRegs{}, entry: map[int]int64{}, busy: map[int]bool{}}
	if err := t.follow(); err != nil {
		return errors.Join(err, p.Kill())
	}
	text, err := json.Marshal(&t.out)
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o600)
}

const (
	traceSysGood  = 0x1
	traceExitKill = 0x100000
)

func (t *tracer) follow() error {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &status, syscall.WALL, nil); err != nil {
		return fmt.Errorf("wait for the process: %w", err)
	}
	if err := syscall.PtraceSetOptions(t.pid, traceSysGood|traceExitKill|syscall.PTRACE_O_TRACECLONE|syscall.PTRACE_O_TRACEFORK|syscall.PTRACE_O_TRACEVFORK|syscall.PTRACE_O_TRACEEXEC); err != nil {
		return fmt.Errorf("set the trace's options: %w", err)
	}
	if err := syscall.PtraceSyscall(t.pid, 0); err != nil {
		return fmt.Errorf("begin the trace: %w", err)
	}
	for {
		tid, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for a thread: %w", err)
		}
		if status.Exited() || status.Signaled() {
			if tid == t.pid {
				t.out.Code = status.ExitStatus()
				return nil
			}
			continue
		}
		signal := 0
		switch sig := status.StopSignal(); {
		case sig == syscall.SIGTRAP|0x80:
			if t.step(tid) {
				t.out.Died = true
				if err := syscall.Kill(t.pid, syscall.SIGKILL); err != nil {
					return fmt.Errorf("kill the process: %w", err)
				}
				continue
			}
		case sig == syscall.SIGTRAP, sig == syscall.SIGSTOP: // events, and threads that begin
		default:
			signal = int(sig)
		}
		// A thread may have died meanwhile.
		if err := syscall.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// step looks at a thread that enters or leaves a system call. It returns whether
// the process is to die here.
func (t *tracer) step(tid int) bool {
	if t.busy[tid] {
		t.busy[tid] = false
		if regs := t.inside[tid]; regs != nil {
			delete(t.inside, tid)
			t.leave(tid, regs)
		}
		return false
	}
	t.busy[tid] = true
	regs := &syscall.PtraceRegs{}
	if syscall.PtraceGetRegs(tid, regs) != nil {
		return false
	}
	switch regs.Orig_rax {
	case syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_WRITEV, syscall.SYS_FSYNC, syscall.SYS_FDATASYNC, syscall.SYS_FTRUNCATE:
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, regs.Rdi))
		if err != nil || !strings.HasPrefix(name, t.dir) {
			return false
		}
		if e := t.extent(tid, regs); e != nil {
			t.entry[tid] = e.Written
		}
		t.inside[tid] = regs
	case syscall.SYS_RENAME, syscall.SYS_RENAMEAT, syscall.SYS_UNLINK, syscall.SYS_UNLINKAT:
	default:
		return false
	}
	t.out.Steps++
	return t.out.Steps == t.dieAt
}

// extent is that of the file that a call is about; nil for a directory.
func (t *tracer) extent(tid int, regs *syscall.PtraceRegs) *extent {
	var st syscall.Stat_t
	if syscall.Stat(fmt.Sprintf("/proc/%d/fd/%d", tid, regs.Rdi), &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil
	}
	e := t.out.Files[st.Ino]
	if e == nil {
		e = &extent{}
		t.out.Files[st.Ino] = e
	}
	return e
}

// leave notes what a call has done.
func (t *tracer) leave(tid int, began *syscall.PtraceRegs) {
	var regs syscall.PtraceRegs
	if syscall.PtraceGetRegs(tid, &regs) != nil || int64(regs.Rax) < 0 {
		return
	}
	e := t.extent(tid, began)
	if e == nil {
		return
	}
	switch began.Orig_rax {
	case syscall.SYS_PWRITE64:
		e.Written = max(e.Written, int64(began.R10)+int64(regs.Rax))
	case syscall.SYS_WRITE, syscall.SYS_WRITEV:
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, began.Rdi))
		if err != nil {
			return
		}
		var pos int64
		if _, err := fmt.Sscanf(string(info), "pos: %d", &pos); err == nil {
			e.Written = max(e.Written, pos)
		}
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		e.Synced = max(e.Synced, t.entry[tid])
	}
}

// cut is the power failing: of what was written after a file's last sync some
// is there, some is zeros, some is not what was written.
func cut(t *testing.T, dir string, files map[uint64]*extent, rng *rand.Rand) (torn int) {
	t.Helper()
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0 // the power failed before there was a state
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			return err
		}
		e := files[st.Ino]
		if e == nil || e.Written <= e.Synced {
			return nil
		}
		torn++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		from := e.Synced + rng.Int64N(e.Written-e.Synced+1)
		switch kind := rng.IntN(3); {
		case kind == 0 && int64(len(text)) >= from: // the file ends early
			text = text[:from]
		default:
			for i := from; i < min(e.Written, int64(len(text))); i++ {
				text[i] = 0
				if kind == 2 {
					text[i] = byte(rng.Uint32())
				}
			}
		}
		return os.WriteFile(path, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return torn
}

// TestPowerLoss: guarantee 1, as the power fails at any write, sync, rename or
// removal of the state's files: the snapshot, the journal, the plan, the order
// log, the history. All that was not synced is torn; the next run ends with the
// org equal to the model and nothing doubled.
func TestPowerLoss(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("COHO_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ mode, write, match string }{
		"upsert/rest":          {"upsert", "ingestion_api = \"rest\"\nrest_batch_size = 20\n", keyMatch},
		"upsert/bulk":          {"upsert", "ingestion_api = \"bulk\"\nbulk_batch_size = 25\n", keyMatch},
		"insert/rest":          {"insert", "ingestion_api = \"rest\"\nrest_batch_size = 20\n", keyMatch},
		"insert/without a key": {"insert", "bulk_batch_size = 25\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("COHO_SEED=%d", seed)
			rng := rand.New(rand.NewPCG(seed, 3))
			steps, torn, died := 120, 0, 0
			for round := range rounds(4) {
				w := newWorld(t, emulator.Options{Seed: int64(round)})
				w.config(strings.Replace(accounts("[syncs.accounts.write]\n"+c.write), "mode = \"upsert\"\n"+keyMatch, `mode = "`+c.mode+"\"\n"+c.match, 1))
				w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(60) t(i)`)
				want := 60
				if round%2 == 1 { // a run that has a state already
					w.run(exitDone, "accounts")
					w.sql(`INSERT INTO accounts SELECT 'B' || i, 'm' || i, i::VARCHAR FROM range(60) t(i)`)
					want = 120
				}
				r := w.underTrace(1+rng.IntN(steps), "run", "accounts", "--json")
				if !r.Died {
					steps = max(2, r.Steps)
				} else {
					died++
					torn += cut(t, filepath.Join(w.dir, ".coho"), r.Files, rng)
				}
				// A kernel may take a moment to let go of a dead process's locks.
				for deadline := time.Now().Add(10 * time.Second); w.coho("snapshot", "show", "accounts").code == exitLocked && time.Now().Before(deadline); {
				}
				w.run(exitDone, "accounts")
				if got := w.org.Org().Count("Account"); got != want {
					t.Fatalf("dead at step %d: the org has %d accounts, want %d", r.Steps, got, want)
				}
				names := map[string]bool{}
				for _, rec := range w.org.Org().Records("Account") {
					names[field(rec, "Name")] = true
				}
				if len(names) != want {
					t.Fatalf("dead at step %d: %d accounts are different, want %d", r.Steps, len(names), want)
				}
				writes := w.org.Counters().Writes
				w.run(exitDone, "accounts")
				if more := w.org.Counters().Writes - writes; more != 0 {
					t.Fatalf("dead at step %d: a run without changes made %d writes", r.Steps, more)
				}
			}
			t.Logf("died %d times, %d files torn, a run has some %d steps", died, torn, steps)
		})
	}
}

// underTrace runs coho until its n-th step.
func (w *world) underTrace(n int, args ...string) traced {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "trace")
	cmd := w.child(args...)
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s|%d|%s", traceVar, filepath.Join(w.dir, ".coho"), n, out))
	said, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, said)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, said)
	}
	var r traced
	if err := json.Unmarshal(text, &r); err != nil {
		w.t.Fatal(err)
	}
	if !r.Died && r.Code != exitDone {
		w.t.Fatalf("exit code %d\n%s", r.Code, said)
	}
	return r
}
