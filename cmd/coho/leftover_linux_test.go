package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// TestValidateKilledLeavesNothing: whatever a model's values are written to while
// they are compared has no name, so that a process that is killed leaves none of it.
func TestValidateKilledLeavesNothing(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	temp := t.TempDir()
	w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name' AS name, '1' AS phone FROM range(3000000) t(i)`)
	w.config(strings.Replace(accounts(""), `["k"]`, `["k", "name"]`, 1))
	cmd := w.child("validate")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// The kernel alone knows of the files: their links say that they are deleted.
	for written := false; !written; {
		select {
		case <-ended:
			t.Fatalf("it ended before it wrote anything: %s", out.String())
		case <-time.After(time.Millisecond):
		}
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			to, _ := os.Readlink(l) // it may be closed by now
			written = written || strings.Contains(to, "coho-validate-") && strings.HasSuffix(to, "(deleted)")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	left, err := filepath.Glob(filepath.Join(temp, "coho-validate-*"))
	if err != nil || len(left) > 1 { // it may die between the making of a file and the end of its name
		t.Fatalf("%v, %v", left, err)
	}
	for _, name := range left {
		if st, err := os.Stat(name); err != nil || st.Size() > 0 {
			t.Errorf("%s has %d bytes, %v", name, st.Size(), err)
		}
	}
}
