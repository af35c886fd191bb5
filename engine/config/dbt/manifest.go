package dbt

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Manifest is the part of a manifest.json that says where models live.
type Manifest struct {
	path     string
	nodes    map[string]*node // models, seeds and snapshots, by unique id
	disabled map[string]*node
	tests    []*node // enabled tests of uniqueness and of nulls
}

// Model is one dbt model, seed or snapshot, ready to be read.
type Model struct {
	UniqueID    string // "model.shop.dim_accounts"
	Relation    string // the relation's name, quoted as the warehouse wants it; "" of an ephemeral model
	SQL         string // the compiled SQL of an ephemeral model, else ""
	Description string
	PrimaryKey  []string // from constraints or unique tests; nil where nothing says

	// KeyProblem says why PrimaryKey is nil.
	KeyProblem string
}

// node is what is kept of a manifest's node.
type node struct {
	UniqueID     string  `json:"unique_id"`
	ResourceType string  `json:"resource_type"`
	PackageName  string  `json:"package_name"`
	Name         string  `json:"name"`
	Version      *number `json:"version"`
	Latest       *number `json:"latest_version"`
	RelationName string  `json:"relation_name"`
	Description  string  `json:"description"`
	CompiledCode string  `json:"compiled_code"`
	CompiledSQL  string  `json:"compiled_sql"` // dbt before 1.3
	Config       struct {
		Enabled      *bool  `json:"enabled"`
		Materialized string `json:"materialized"`
		Where        string `json:"where"`
	} `json:"config"`
	Constraints []constraint `json:"constraints"`
	Columns     map[string]struct {
		Name        string       `json:"name"`
		Constraints []constraint `json:"constraints"`
	} `json:"columns"`
	DependsOn struct {
		Nodes []string `json:"nodes"`
	} `json:"depends_on"`

	// Of tests.
	AttachedNode string `json:"attached_node"`
	ColumnName   string `json:"column_name"`
	TestMetadata *struct {
		Name      string         `json:"name"`
		Namespace string         `json:"namespace"`
		Kwargs    map[string]any `json:"kwargs"`
	} `json:"test_metadata"`
}

type constraint struct {
	Type    string   `json:"type"`
	Columns []string `json:"columns"`
}

// number is a version, which YAML writes as a number or as text.
type number string

// UnmarshalJSON takes both.
func (n *number) UnmarshalJSON(data []byte) error {
	*n = number(strings.Trim(string(data), `"`))
	return nil
}

// ReadManifest reads a manifest.json. Its size is not bounded by memory: the
// nodes are read one at a time, and of each only what is needed is kept.
func ReadManifest(path string) (*Manifest, error) {
	m := &Manifest{path: path, nodes: map[string]*node{}, disabled: map[string]*node{}}
	known := false
	err := readObject(path, func(key string, dec *json.Decoder) error {
		switch key {
		case "nodes":
			known = true
			return eachMember(dec, func(id string) error {
				n := &node{}
				if err := dec.Decode(n); err != nil {
					return err
				}
				m.keep(id, n)
				return nil
			})
		case "disabled":
			return eachMember(dec, func(id string) error {
				var versions []*node
				if err := dec.Decode(&versions); err != nil {
					return err
				}
				for _, n := range versions {
					if n != nil && isRelation(n.ResourceType) {
						n.UniqueID = id
						m.disabled[id] = n
					}
				}
				return nil
			})
		}
		return skip(dec)
	})
	if err != nil {
		return nil, fmt.Errorf("read the dbt manifest %s: %w", path, err)
	}
	if !known {
		return nil, fmt.Errorf("read the dbt manifest %s: it has no nodes; is it a manifest.json?", path)
	}
	return m, nil
}

func isRelation(resourceType string) bool {
	return resourceType == "model" || resourceType == "seed" || resourceType == "snapshot"
}

func (m *Manifest) keep(id string, n *node) {
	n.UniqueID = id
	if n.CompiledCode == "" {
		n.CompiledCode = n.CompiledSQL
	}
	n.CompiledSQL = ""
	if n.Config.Materialized != "ephemeral" {
		n.CompiledCode = "" // a warehouse full of SQL, of which none is read
	}
	switch {
	case isRelation(n.ResourceType):
		if n.Config.Enabled != nil && !*n.Config.Enabled {
			m.disabled[id] = n
			return
		}
		m.nodes[id] = n
	case n.ResourceType == "test" && n.TestMetadata != nil:
		switch n.TestMetadata.Name {
		case "unique", "not_null", "unique_combination_of_columns":
			m.tests = append(m.tests, n)
		}
	}
}

// NotFoundError says that the manifest has no such model to read.
type NotFoundError struct {
	Name   string
	Reason string   // one sentence
	Known  []string // the names there are, to suggest one
}

// Error implements error.
func (e *NotFoundError) Error() string { return e.Reason }

// Model returns the model of that name: a plain name ("dim_accounts"), with
// its package ("shop.dim_accounts"), with its version ("dim_accounts.v2"), or
// its unique id. Without a version, the latest one. The error of a name that is
// missing, disabled or ambiguous is a *NotFoundError.
func (m *Manifest) Model(name string) (*Model, error) {
	n, err := m.find(name)
	if err != nil {
		return nil, err
	}
	out := &Model{UniqueID: n.UniqueID, Description: strings.TrimSpace(n.Description)}
	switch {
	case n.Config.Materialized == "ephemeral":
		if out.SQL = strings.TrimSpace(n.CompiledCode); out.SQL == "" {
			return nil, &NotFoundError{Name: name, Reason: fmt.Sprintf("the dbt model %q is ephemeral and the manifest has no compiled SQL of it: run dbt compile", name)}
		}
	case n.RelationName == "":
		return nil, &NotFoundError{Name: name, Reason: fmt.Sprintf("the manifest names no relation for the dbt model %q: run dbt compile", name)}
	default:
		out.Relation = n.RelationName
	}
	out.PrimaryKey, out.KeyProblem = m.primaryKey(n)
	return out, nil
}

// names are the ways to call a node, the shortest first.
func (n *node) names() []string {
	short, long := n.Name, n.PackageName+"."+n.Name
	if n.Version == nil {
		return []string{short, long, n.UniqueID}
	}
	v := ".v" + string(*n.Version)
	names := []string{short + v, long + v, n.UniqueID}
	if n.Latest != nil && *n.Latest == *n.Version {
		names = append(names, short, long)
	}
	return names
}

func (m *Manifest) find(name string) (*node, error) {
	var found []*node
	for _, n := range m.nodes {
		if slices.Contains(n.names(), name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		for _, n := range m.disabled {
			if slices.Contains(n.names(), name) || n.Name == name {
				return nil, &NotFoundError{Name: name, Reason: fmt.Sprintf("the dbt model %q is disabled in the dbt project", name)}
			}
		}
		e := &NotFoundError{Name: name, Reason: fmt.Sprintf("the dbt project has no model %q", name)}
		for _, n := range m.nodes {
			e.Known = append(e.Known, n.Name)
			if strings.Contains(name, ".") {
				e.Known = append(e.Known, n.names()...)
			}
		}
		slices.Sort(e.Known)
		e.Known = slices.Compact(e.Known)
		return nil, e
	}
	ids := make([]string, len(found))
	for i, n := range found {
		ids[i] = n.UniqueID
	}
	slices.Sort(ids)
	return nil, &NotFoundError{Name: name, Reason: fmt.Sprintf("the dbt project has several models %q: write one of %s", name, strings.Join(ids, ", "))}
}

// readObject calls each with every key of the JSON object in a file; each reads
// or skips the key's value.
func readObject(path string, each func(key string, dec *json.Decoder) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return withoutPath(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	if err := eachMember(dec, func(key string) error { return each(key, dec) }); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("it ends too early; was dbt interrupted?")
		case errors.As(err, &syntax):
			return fmt.Errorf("it is not valid JSON: %w", err)
		case errors.As(err, &kind):
			return fmt.Errorf("it is no such file of dbt: %w", err)
		}
		return err
	}
	return nil
}

// withoutPath is an error of the file system without the path, which the
// message around it names.
func withoutPath(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// eachMember calls each with every key of the object that follows, null
// counting as an empty one.
func eachMember(dec *json.Decoder, each func(key string) error) error {
	token, err := dec.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('{') {
		return fmt.Errorf("it is no such file of dbt: %v instead of an object", token)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if err := each(key.(string)); err != nil { // a key is a string
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// skip reads over a value of any size.
func skip(dec *json.Decoder) error {
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
