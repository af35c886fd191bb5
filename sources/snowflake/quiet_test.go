package snowflake

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The driver unpacks a library to disk in its init, unless it is told before not to.
func TestDriverIsQuietBeforeItBegins(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	quiet := strings.Index(string(out), "init coho/sources/snowflake/quiet ")
	driver := strings.Index(string(out), "init github.com/snowflakedb/gosnowflake ")
	if quiet < 0 || driver < quiet {
		t.Errorf("the driver begins before it is told to be quiet:\n%s", out)
	}
	if os.Getenv("SF_DISABLE_MINICORE") == "" {
		t.Error("the driver is not told to leave its library out")
	}
}
