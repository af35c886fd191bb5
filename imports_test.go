// Package coho_test checks what no compiler does: who may import whom.
package coho_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pkg is what go list says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Doc          string
	Standard     bool
	Module       *struct{ Path string }
	Imports      []string // of production code
	Deps         []string // all that production code reaches
	TestImports  []string
	XTestImports []string
	GoFiles      []string
}

// load lists the module's packages and all that they reach.
func load(t *testing.T) (own []*pkg, all map[string]*pkg) {
	t.Helper()
	// The go command runs these tests again when a file that they look at has
	// changed; it does not see what go list looks at.
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go"):
			_, err = os.Stat(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Doc,Standard,Module,Imports,Deps,TestImports,XTestImports,GoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all = map[string]*pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
		if p.Module != nil && p.Module.Path == module {
			own = append(own, p)
		}
	}
	return own, all
}

const module = "coho"

// rule says what a set of packages may import directly, in production code.
type rule struct {
	// from is a package, or with /... a package and all below it.
	from string
	// except are packages that from names and the rule is not about.
	except []string
	// own are the module's packages that may be imported: the whole list.
	own []string
	// others are the modules outside the standard library that may be
	// imported, as path prefixes; nil leaves them open.
	others []string
	reason string
}

// The arrows of the project: cmd -> engine -> {planner, sources, destinations}
// -> models. A package that no rule names fails the test: give it its place here.
var rules = []rule{
	{from: "coho/models", own: []string{}, others: []string{"github.com/expr-lang/expr"},
		reason: "models is the vocabulary that all others speak; what it imported, all of them would import"},
	{from: "coho/sources", own: []string{"coho/models"}, others: []string{},
		reason: "the port of a warehouse knows rows, and nothing of destinations or plans"},
	{from: "coho/sources/columnar", own: []string{"coho/models"}, others: []string{"github.com/apache/arrow-go/v18"},
		reason: "frames from columns know no warehouse, so that all of them can share it"},
	{from: "coho/sources/snowflake", own: []string{"coho/models", "coho/sources", "coho/sources/columnar", "coho/sources/snowflake/quiet"},
		reason: "a warehouse knows neither its siblings nor who reads it, so that each can be added, tested and removed alone"},
	{from: "coho/sources/snowflake/quiet", own: []string{}, others: []string{},
		reason: "it must be initialized before the driver, so it imports next to nothing"},
	{from: "coho/sources/...", except: []string{"coho/sources", "coho/sources/columnar", "coho/sources/snowflake", "coho/sources/snowflake/quiet"}, own: []string{"coho/models", "coho/sources", "coho/sources/columnar"},
		reason: "a warehouse knows neither its siblings nor who reads it, so that each can be added, tested and removed alone"},
	{from: "coho/planner", own: []string{"coho/models"}, others: []string{"github.com/zeebo/xxh3"},
		reason: "the planner is rows and a snapshot in, operations out: no store, no network, no engine"},
	{from: "coho/planner/snapshot", own: []string{"coho/models", "coho/planner"},
		reason: "the store keeps what was acknowledged and does not know by whom"},
	{from: "coho/planner/plannertest", own: []string{"coho/models", "coho/planner"},
		reason: "helpers of the planner's tests know the planner only"},
	{from: "coho/destinations", own: []string{"coho/models", "coho/planner"}, others: []string{},
		reason: "the port of an org knows operations, and nothing of sources or the engine"},
	{from: "coho/destinations/salesforce", own: []string{"coho/models", "coho/planner", "coho/destinations", "coho/destinations/salesforce/api"},
		reason: "the writer applies operations; it reads no warehouse and never writes the snapshot"},
	{from: "coho/destinations/salesforce/api", own: []string{"coho/models"},
		reason: "the client is usable alone: of coho it takes the type that hides secrets, nothing else, and above all nothing of the emulator, so that one can catch the other's mistake"},
	{from: "coho/destinations/salesforce/emulator", own: []string{},
		reason: "the emulator shares no type, constant or parser with what is tested against it, so that one can catch the other's mistake"},
	{from: "coho/engine", own: []string{"coho/models", "coho/sources", "coho/planner", "coho/planner/snapshot", "coho/destinations"}, others: []string{"github.com/zeebo/xxh3"},
		reason: "the engine conducts through the ports and never names a concrete source or destination: those are handed to it"},
	{from: "coho/engine/alerts", own: []string{"coho/models", "coho/engine"}, others: []string{"github.com/nicholas-fedor/shoutrrr"},
		reason: "alerts are told of runs; they neither start nor change one"},
	{from: "coho/engine/config/dbt", own: []string{}, others: []string{},
		reason: "dbt's files are read without knowing what coho makes of them"},
	{from: "coho/engine/config", own: []string{"coho/models", "coho/engine/schedule", "coho/engine/config/dbt"},
		reason: "the config is files into settings; connecting to what they name is cmd's"},
	{from: "coho/engine/schedule", own: []string{}, others: []string{"github.com/robfig/cron/v3"},
		reason: "what is due when follows from lines and moments alone"},
	{from: "coho/engine/daemon", own: []string{"coho/engine", "coho/engine/schedule", "coho/models"}, others: []string{},
		reason: "the daemon conducts engines that are handed to it wired; it speaks no protocol and reads no config"},
	{from: "coho/engine/server", own: []string{"coho/models", "coho/planner", "coho/destinations", "coho/engine", "coho/engine/daemon"},
		reason: "the server says over HTTP what the daemon and the engine say; it decides nothing and opens nothing"},
	{from: "coho/cmd/...", own: []string{"coho/..."},
		reason: "cmd wires everything"},
}

func matches(pattern, p string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	return p == base || tree && strings.HasPrefix(p, base+"/")
}

func ruleOf(p string) *rule {
	for i := range rules {
		if matches(rules[i].from, p) && !slices.Contains(rules[i].except, p) {
			return &rules[i]
		}
	}
	return nil
}

func ownPath(p string) bool { return p == module || strings.HasPrefix(p, module+"/") }

// testOnly reports whether a package is for tests only, by its name.
func testOnly(p string) bool { return strings.HasSuffix(p, "test") }

func TestImportArrows(t *testing.T) {
	own, all := load(t)
	used := map[string]bool{}
	for _, p := range own {
		if len(p.GoFiles) == 0 {
			continue // this one
		}
		r := ruleOf(p.ImportPath)
		if r == nil {
			t.Errorf("%s has no place in the picture of who imports whom; give it one in imports_test.go", p.ImportPath)
			continue
		}
		used[r.from] = true
		for _, i := range p.Imports {
			switch {
			case ownPath(i):
				if !slices.ContainsFunc(r.own, func(may string) bool { return matches(may, i) }) {
					t.Errorf("%s imports %s: %s", p.ImportPath, i, r.reason)
				}
			case r.others != nil && all[i] != nil && !all[i].Standard && i != "C":
				if !slices.ContainsFunc(r.others, func(may string) bool { return i == may || strings.HasPrefix(i, may+"/") }) {
					t.Errorf("%s imports %s: %s", p.ImportPath, i, r.reason)
				}
			}
		}
	}
	for i := range rules {
		if !used[rules[i].from] {
			t.Errorf("the rule of %s is about no package", rules[i].from)
		}
	}
}

// bans are packages that few may import, directly or not.
var bans = []struct {
	what   string // as in rule.from
	direct bool   // only direct imports count
	may    []string
	reason string
}{
	{"github.com/cockroachdb/pebble/...", true, []string{"coho/planner/snapshot"},
		"one package knows how the snapshot is stored, so that it can be stored otherwise"},
	{"github.com/cockroachdb/pebble/...", false, []string{"coho/planner/snapshot", "coho/engine", "coho/engine/alerts", "coho/engine/daemon", "coho/engine/server", "coho/cmd/coho"},
		"a planner, a source or a destination that reaches the store could write it past the engine"},
	{"coho/planner/snapshot", true, []string{"coho/engine"},
		"only the engine writes the snapshot, when the destination has acknowledged"},
	{"coho/destinations/salesforce/emulator", false, []string{"coho/cmd/coho"},
		"the emulator is a product of its own: only cmd starts it, and tests"},
	{"coho/engine/...", false, []string{"coho/cmd/coho"},
		"nothing below the engine knows who conducts it"},
	{"github.com/duckdb/...", false, []string{"coho/sources/duckdb", "coho/cmd/coho"},
		"a warehouse's driver stays with its source"},
	{"github.com/jackc/pgx/...", false, []string{"coho/sources/postgres", "coho/sources/postgres/postgrestest", "coho/cmd/coho"},
		"a warehouse's driver stays with its source"},
	{"net/http", true, []string{"coho/destinations/salesforce/api", "coho/destinations/salesforce/emulator", "coho/engine/server", "coho/sources/bigquery", "coho/sources/bigquery/bigquerytest", "coho/sources/snowflake/snowflaketest"},
		"the org is spoken to in one place, where calls are counted, limited and logged; the daemon is spoken to in another; BigQuery's client leaves its connections to its user"},
	{"go.opentelemetry.io/...", true, []string{"coho/engine/server"},
		"the engine knows of no tracing: traces are made of its records"},
	{"github.com/prometheus/...", true, []string{"coho/engine/server"},
		"the engine knows of no metrics: they are counted from its records"},
	{"github.com/nicholas-fedor/...", false, []string{"coho/engine/alerts", "coho/cmd/coho"},
		"one package speaks to those who are told, and keeps their addresses out of what it says"},
	{"github.com/spf13/cobra", false, []string{"coho/cmd/coho"},
		"flags and views are cmd's"},
	{"testing", true, []string{"coho/sources/sourcetest", "coho/sources/postgres/postgrestest", "coho/sources/bigquery/bigquerytest", "coho/sources/snowflake/snowflaketest"},
		"what is shipped holds no test code"},
	{"go.uber.org/goleak", false, []string{"coho/sources/sourcetest"},
		"what is shipped holds no test code"},
}

func TestImportBans(t *testing.T) {
	own, _ := load(t)
	for _, b := range bans {
		needed := map[string]bool{}
		for _, p := range own {
			reach := p.Deps
			if b.direct {
				reach = p.Imports
			}
			for _, i := range reach {
				if !matches(b.what, i) || matches(b.what, p.ImportPath) {
					continue
				}
				if slices.Contains(b.may, p.ImportPath) {
					needed[p.ImportPath] = true
					break
				}
				t.Errorf("%s reaches %s: %s", p.ImportPath, i, b.reason)
				break
			}
		}
		for _, m := range b.may {
			if !needed[m] {
				t.Errorf("%s may reach %s and does not: take it off the list", m, b.what)
			}
		}
	}
}

func TestPlannerIsPure(t *testing.T) {
	_, all := load(t)
	p := all["coho/planner"]
	if p == nil {
		t.Fatal("there is no coho/planner")
	}
	for _, banned := range []string{"net", "net/http", "time", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "os/exec"} {
		if slices.Contains(p.Imports, banned) {
			t.Errorf("coho/planner imports %s: the same rows and snapshot must give the same plan, with no network, clock, chance or log", banned)
		}
	}
}

func TestTestPackagesAreForTests(t *testing.T) {
	own, _ := load(t)
	seen := 0
	for _, p := range own {
		if testOnly(p.ImportPath) {
			seen++
			continue
		}
		for _, i := range p.Imports {
			if ownPath(i) && testOnly(i) {
				t.Errorf("%s imports %s in production code: a package whose name ends in test is for tests", p.ImportPath, i)
			}
		}
	}
	if seen == 0 {
		t.Error("no test package was seen")
	}
}

// TestTestImports keeps tests from going round the arrows between siblings and
// between the client and the emulator's insides.
func TestTestImports(t *testing.T) {
	own, _ := load(t)
	for _, p := range own {
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			sibling := func(root string) bool {
				mine, other := strings.TrimPrefix(p.ImportPath, root), strings.TrimPrefix(i, root)
				if mine == p.ImportPath || other == i {
					return false
				}
				mine, _, _ = strings.Cut(mine, "/")
				other, _, _ = strings.Cut(other, "/")
				return mine != other && other != "columnar" && !testOnly(other) // columnar is no source
			}
			if sibling("coho/sources/") {
				t.Errorf("the tests of %s import %s: sources do not know each other", p.ImportPath, i)
			}
			if p.ImportPath == "coho/planner" && strings.HasPrefix(i, "coho/destinations") {
				t.Errorf("the tests of the planner import %s: it knows no destination", i)
			}
		}
	}
}

func TestPackageNamesAndComments(t *testing.T) {
	own, _ := load(t)
	buckets := []string{"util", "utils", "common", "shared", "helper", "helpers", "misc", "types", "pkg", "base", "lib"}
	for _, p := range own {
		if slices.Contains(buckets, p.Name) || slices.Contains(buckets, path.Base(p.ImportPath)) {
			t.Errorf("%s is named for nothing: a helper sits beside its user, a third user earns it a name that says what it is", p.ImportPath)
		}
		if len(p.GoFiles) == 0 {
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s has no comment that begins with %q and says what it is for", p.ImportPath, want)
		}
	}
}

// TestRulesBite makes sure that the rules can fail at all.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"coho/models", "coho/planner", false},
		{"coho/planner", "coho/planner/snapshot", false},
		{"coho/sources/postgres", "coho/sources/duckdb", false},
		{"coho/sources/postgres", "coho/sources", true},
		{"coho/sources/snowflake", "coho/engine", false},
		{"coho/destinations/salesforce/api", "coho/destinations/salesforce/emulator", false},
		{"coho/destinations/salesforce/emulator", "coho/destinations/salesforce/api", false},
		{"coho/engine", "coho/sources/postgres", false},
		{"coho/engine", "coho/planner/snapshot", true},
		{"coho/engine/config", "coho/engine", false},
		{"coho/cmd/coho", "coho/sources/postgres", true},
	} {
		r := ruleOf(c.from)
		if r == nil {
			t.Errorf("%s has no rule", c.from)
			continue
		}
		if got := slices.ContainsFunc(r.own, func(may string) bool { return matches(may, c.to) }); got != c.ok {
			t.Errorf("%s -> %s: allowed %v, want %v", c.from, c.to, got, c.ok)
		}
	}
}
