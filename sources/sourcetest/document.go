package sourcetest

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"coho/models"
	"coho/sources"
)

// Example is a value of a type, as the documentation shows it.
type Example struct {
	Type  string // the warehouse's own name
	Shown string // how a query writes the value, or what the driver hands out
	Kind  models.Kind
	Value models.Value
	Err   error // in place of Value
}

// ReadExample reads the value of an expression. One that cannot be decoded is an
// example too.
func ReadExample(tb testing.TB, s sources.Source, expr string) Example {
	tb.Helper()
	rows, err := s.Read(tb.Context(), models.Model{SQL: "SELECT " + expr + " AS v"})
	if err != nil {
		tb.Fatalf("%s: %v", expr, err)
	}
	defer closeRows(tb, rows)
	if !rows.Next() {
		tb.Fatalf("%s: no row: %v", expr, rows.Err())
	}
	cells := make([][]byte, 1)
	if err := models.SplitFrame(rows.Row(), cells); err != nil {
		tb.Fatal(err)
	}
	column := rows.Schema().Columns()[0]
	e := Example{Type: column.Type, Shown: expr, Kind: column.Kind}
	e.Value, e.Err = rows.Schema().Decode(0, cells[0])
	return e
}

// Document holds a section of the documentation to the examples: a table of a
// source's types. With rewrite it is written instead.
func Document(tb testing.TB, file, section string, examples []Example, rewrite bool) {
	tb.Helper()
	var b strings.Builder
	b.WriteString("| type | example | kind | as text |\n| --- | --- | --- | --- |\n")
	for _, e := range examples {
		value := "the row's error: " + Plain(fmt.Sprint(e.Err))
		if e.Err == nil {
			value = Code(e.Value.Text())
		}
		kind := e.Kind.String()
		if k := e.Value.Kind(); e.Err == nil && k != e.Kind {
			kind += ", here " + k.String()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", Code(e.Type), Code(e.Shown), kind, value)
	}
	Section(tb, file, section, b.String(), rewrite)
}

// shown cuts what is long.
const shown = 60

// Code is a text as a cell of a Markdown table shows it, in a code span.
func Code(s string) string {
	if s == "" {
		return "(empty)"
	}
	if r := []rune(s); len(r) > shown {
		s = string(r[:shown]) + "…"
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return '␀' + r // the pictures of the control characters
		}
		return r
	}, s)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if s[0] == '`' || s[len(s)-1] == '`' || s[0] == ' ' || s[len(s)-1] == ' ' {
		s = " " + s + " "
	}
	return fence + strings.ReplaceAll(s, "|", `\|`) + fence
}

// Plain is a sentence as a cell of a Markdown table shows it.
func Plain(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "\n", " ").Replace(s)
}

// Section compares what a file has between the lines "<!-- generated: NAME -->"
// and "<!-- end: NAME -->" with what it should have. With rewrite it is written
// instead; several processes may do so at once.
func Section(tb testing.TB, file, name, text string, rewrite bool) {
	tb.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil { // gives the lock back
			tb.Error(err)
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	before, rest, ok := strings.Cut(string(have), begin)
	was, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		tb.Fatalf("%s has no section %q", file, name)
	}
	if was == text {
		return
	}
	if rewrite {
		if err := os.WriteFile(file, []byte(before+begin+text+end+after), 0o644); err != nil {
			tb.Fatal(err)
		}
		return
	}
	got, want := strings.Split(text, "\n"), strings.Split(was, "\n")
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			tb.Errorf("%s, %s, line %d of the section is\n%s\nand it should be\n%s\n(go test -rewrite writes it)", file, name, i+1, w, g)
			return
		}
	}
}
