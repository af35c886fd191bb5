package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// maxFileBytes bounds what is read of a config, a query or a secret.
const maxFileBytes = 16 << 20

// loader reads the files of a config and collects what is wrong with them.
type loader struct {
	env      func(string) (string, bool)
	files    []string
	roots    []*node
	seen     map[string]bool // files read, by their absolute path
	inputs   Inputs
	problems Problems

	// incomplete is set when a file could not be read: a name that seems
	// undefined may be defined there.
	incomplete bool
}

func (l *loader) fail(pos position, format string, args ...any) {
	l.problems = append(l.problems, Problem{
		File: pos.file, Line: pos.line, Column: pos.column,
		Message: strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "),
	})
}

// load reads the main file and, recursively, what it includes.
func (l *loader) load(path string) {
	data, err := l.readFile(path)
	if err != nil {
		message := "cannot read the config: " + reason(err)
		if errors.Is(err, fs.ErrNotExist) {
			message = "no such config file; `coho init` writes one to begin with, --config names another"
		}
		l.problems = append(l.problems, Problem{File: path, Message: message})
		return
	}
	l.add(path, data)
}

func (l *loader) add(path string, data []byte) {
	l.seen[absolute(path)] = true
	l.files = append(l.files, path)
	root := l.parse(path, data)
	if root == nil {
		l.incomplete = true
		return
	}
	l.roots = append(l.roots, root)
	include := root.get("include")
	if include == nil {
		return
	}
	root.entries = slices.DeleteFunc(root.entries, func(e *entry) bool { return e == include })
	if include.value.kind != arrayKind {
		l.fail(include.value.pos, "include: want an array of file patterns, not %s", kindNames[include.value.kind])
		return
	}
	for _, item := range include.value.items {
		if item.kind != stringKind {
			l.fail(item.pos, "include: want a file pattern in quotes, not %s", kindNames[item.kind])
			continue
		}
		if item.broken {
			l.incomplete = true
			continue
		}
		l.include(path, item)
	}
}

func (l *loader) include(from string, item *node) {
	pattern := item.text
	if !filepath.IsAbs(pattern) {
		// What is special in a pattern is not so in the folder's own name.
		plain := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)
		pattern = filepath.Join(plain.Replace(filepath.Dir(from)), pattern)
	}
	l.inputs.addPattern(pattern)
	found, err := filepath.Glob(pattern)
	if err != nil {
		l.incomplete = true
		l.fail(item.pos, "include: %s is not a file pattern", item.shown())
		return
	}
	// A pattern may match nothing yet; a plain name is expected to be there.
	if len(found) == 0 && !strings.ContainsAny(item.text, "*?[") {
		l.incomplete = true
		l.fail(item.pos, "include: no file %s", item.shown())
		return
	}
	for _, path := range found {
		if l.seen[absolute(path)] {
			continue
		}
		data, err := l.readFile(path)
		if err != nil {
			l.incomplete = true
			l.fail(item.pos, "include: cannot read %s: %s", filepath.Base(path), reason(err))
			continue
		}
		l.add(path, data)
	}
}

// merged joins the files' tables into one: the named tables of a section come
// from any file, all else from one file only.
func (l *loader) merged() *node {
	if len(l.roots) == 0 {
		return nil
	}
	all := &node{kind: tableKind, pos: l.roots[0].pos}
	for _, root := range l.roots {
		for _, e := range root.entries {
			have := all.get(e.name)
			switch {
			case have == nil:
				section := *e.value
				section.entries = slices.Clone(section.entries)
				all.entries = append(all.entries, &entry{e.name, e.pos, &section})
			case slices.Contains(namedSections, e.name) && have.value.kind == tableKind && e.value.kind == tableKind:
				for _, named := range e.value.entries {
					if first := have.value.get(named.name); first != nil {
						l.fail(named.pos, "%s.%s is already defined at %s", e.name, named.name, first.pos)
						continue
					}
					have.value.entries = append(have.value.entries, named)
				}
			default:
				l.fail(e.pos, "%s is already defined at %s", e.name, have.pos)
			}
		}
	}
	return all
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// interpolate replaces ${VAR}, ${VAR:-default}, ${file:PATH} and $$. A dollar
// before anything else stands for itself. It reports what is wrong at pos and
// then returns true.
func (l *loader) interpolate(s string, pos position) (out string, broken bool) {
	if !strings.Contains(s, "$") {
		return s, false
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), broken
		}
		b.WriteString(s[:i])
		rest := s[i+1:]
		switch rest[0] {
		case '$':
			b.WriteByte('$')
			s = rest[1:]
		case '{':
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				l.fail(pos, "${ without its closing brace (write $$ for a dollar)")
				return "", true
			}
			text, ok := l.lookUp(rest[1:end], pos)
			broken = broken || !ok
			b.WriteString(text)
			s = rest[end+1:]
		default:
			b.WriteByte('$')
			s = rest
		}
	}
}

func (l *loader) lookUp(reference string, pos position) (string, bool) {
	if path, ok := strings.CutPrefix(reference, "file:"); ok {
		data, err := l.readFile(relativeTo(pos.file, path))
		if err != nil {
			l.fail(pos, "${file:%s}: %s", path, reason(err))
			return "", false
		}
		text := strings.TrimSuffix(string(data), "\n")
		return strings.TrimSuffix(text, "\r"), true
	}
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variable.MatchString(name) {
		l.fail(pos, "${%s} is not ${VARIABLE}, ${VARIABLE:-default} or ${file:PATH} (write $$ for a dollar)", name)
		return "", false
	}
	text, set := l.env(name)
	switch {
	case hasFallback && text == "":
		return fallback, true
	case !set:
		l.fail(pos, "the environment variable %s is not set", name)
		return "", false
	}
	return text, true
}

// relativeTo joins a relative path with the folder of the file that names it.
func relativeTo(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// readFile reads a file that the config depends on.
func (l *loader) readFile(path string) ([]byte, error) {
	l.inputs.add(path)
	return readFile(path)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	return data, nil
}

// reason is an error of the file system without the path, which the message
// around it names.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
