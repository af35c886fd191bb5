package emulator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// childDir names, in the environment of this test's second process, the
// directory of the org that it is to serve until it is killed.
const childDir = "EMULATOR_TEST_DIR"

func serveUntilKilled(dir string) int {
	s, err := emulator.Start(context.Background(), emulator.Options{Dir: dir})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(s.Credentials())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// TestAcknowledgedRecordsSurviveKill: what a client was told is written is there
// after the process was killed, and nothing is there twice.
func TestAcknowledgedRecordsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	told := map[string]string{} // key -> Id
	for round := range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var k emulator.Credentials
		if err := json.Unmarshal(line, &k); err != nil {
			t.Fatal(err)
		}
		for batch := range 20 {
			if batch == 10+round {
				// The kill falls into the requests that follow.
				go func() { _ = child.Process.Kill() }() // fails only when it is dead already
			}
			var body strings.Builder
			keys := make([]string, 50)
			for i := range keys {
				keys[i] = fmt.Sprintf("%d-%d-%d", round, batch, i)
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `{"attributes":{"type":"Account"},"Name":"n","Warehouse_Key__c":"%s"}`, keys[i])
			}
			req, err := http.NewRequestWithContext(t.Context(), "PATCH", k.URL+v66+"/composite/sobjects/Account/Warehouse_Key__c", strings.NewReader(`{"records":[`+body.String()+`]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+k.AccessToken)
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				break
			}
			var rs []result
			err = json.NewDecoder(resp.Body).Decode(&rs)
			_ = resp.Body.Close()
			if err != nil {
				break
			}
			for i, r := range rs {
				told[keys[i]] = r.ID
			}
		}
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed, which Wait reports as an error
	}
	if len(told) < 1000 {
		t.Fatalf("only %d records were acknowledged before the kills", len(told))
	}
	c := start(t, emulator.Options{Dir: dir})
	for key, id := range told {
		rows := c.s.Org().Find("Account", "Warehouse_Key__c", key)
		if len(rows) != 1 || rows[0]["Id"] != id {
			t.Fatalf("%s was acknowledged as %s and is %v", key, id, rows)
		}
	}
	seen := map[any]bool{}
	for _, r := range c.s.Org().Records("Account") {
		if seen[r["Warehouse_Key__c"]] {
			t.Fatalf("%v is there twice", r["Warehouse_Key__c"])
		}
		seen[r["Warehouse_Key__c"]] = true
	}
}
