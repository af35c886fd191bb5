package dbt_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coho/engine/config/dbt"
)

func read(t *testing.T) *dbt.Manifest {
	t.Helper()
	m, err := dbt.ReadManifest(filepath.Join("testdata", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestModel(t *testing.T) {
	m := read(t)
	for _, c := range []struct {
		name, test  string
		id          string
		relation    string
		sql         string
		description string
		key         []string
		problem     string // part of it
	}{
		{test: "a unique test, one with a where passed over", name: "dim_accounts", id: "model.shop.dim_accounts",
			relation: `"warehouse"."analytics"."dim_accounts"`, description: "One row per account.", key: []string{"account_key"}},
		{test: "with its package", name: "shop.dim_accounts", id: "model.shop.dim_accounts",
			relation: `"warehouse"."analytics"."dim_accounts"`, description: "One row per account.", key: []string{"account_key"}},
		{test: "a constraint of the model", name: "dim_contacts", id: "model.shop.dim_contacts", relation: `"warehouse"."analytics"."contacts"`, key: []string{"tenant", "id"}},
		{test: "a constraint of a column", name: "dim_products", id: "model.shop.dim_products", relation: `"warehouse"."analytics"."products"`, key: []string{"sku"}},
		{test: "unique and not null before unique", name: "fct_orders", id: "model.shop.fct_orders", relation: `"warehouse"."analytics"."fct_orders"`, key: []string{"Order Id"}},
		{test: "a combination of columns", name: "fct_lines", id: "model.shop.fct_lines", relation: `"w"."a"."fct_lines"`, key: []string{"order_id", "line"}},
		{test: "two columns that would do", name: "two_keys", id: "model.shop.two_keys", relation: `"w"."a"."two_keys"`, problem: "(a, b)"},
		{test: "a disabled test tells nothing", name: "no_key", id: "model.shop.no_key", relation: `"w"."a"."no_key"`, problem: "neither a primary key constraint nor a unique test"},
		{test: "an ephemeral model", name: "int_names", id: "model.shop.int_names", sql: `select account_key, name from "warehouse"."raw"."accounts"`, problem: "neither"},
		{test: "the latest version", name: "versioned", id: "model.shop.versioned.v2", relation: "v2", problem: "neither"},
		{test: "an older version", name: "versioned.v1", id: "model.shop.versioned.v1", relation: "v1", problem: "neither"},
		{test: "a version given as text", name: "shop.versioned.v3", id: "model.shop.versioned.v3", relation: "v3", problem: "neither"},
		{test: "one of two packages", name: "crm.customers", id: "model.crm.customers", relation: "b.customers", problem: "neither"},
		{test: "a unique id", name: "model.shop.customers", id: "model.shop.customers", relation: "a.customers", problem: "neither"},
		{test: "a seed", name: "regions", id: "seed.shop.regions", relation: "a.regions", problem: "neither"},
		{test: "a snapshot", name: "history", id: "snapshot.shop.history", relation: "a.history", problem: "neither"},
	} {
		t.Run(c.test, func(t *testing.T) {
			got, err := m.Model(c.name)
			if err != nil {
				t.Fatal(err)
			}
			if got.UniqueID != c.id || got.Relation != c.relation || got.SQL != c.sql || got.Description != c.description {
				t.Errorf("got %+v", got)
			}
			if !slices.Equal(got.PrimaryKey, c.key) {
				t.Errorf("the primary key is %q, want %q", got.PrimaryKey, c.key)
			}
			if (c.problem == "") != (got.KeyProblem == "") || !strings.Contains(got.KeyProblem, c.problem) {
				t.Errorf("the key's problem is %q, want %q in it", got.KeyProblem, c.problem)
			}
		})
	}
}

func TestModelErrors(t *testing.T) {
	m := read(t)
	for name, c := range map[string]struct{ want, known string }{
		"dim_acounts":             {`no model "dim_acounts"`, "dim_accounts"},
		"shop.dim_acounts":        {`no model "shop.dim_acounts"`, "shop.dim_accounts"},
		"regional":                {`no model "regional"`, "regions"}, // an analysis is in no warehouse
		"versioned.v9":            {`no model "versioned.v9"`, "versioned.v2"},
		"old_accounts":            {"is disabled in the dbt project", ""},
		"model.shop.old_accounts": {"is disabled in the dbt project", ""},
		"customers":               {"write one of model.crm.customers, model.shop.customers", ""},
		"not_compiled":            {"run dbt compile", ""},
		"int_base":                {"is ephemeral and the manifest has no compiled SQL", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Model(name)
			var missing *dbt.NotFoundError
			if !errors.As(err, &missing) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want %q in it", err, c.want)
			}
			if c.known != "" && !slices.Contains(missing.Known, c.known) {
				t.Errorf("%q is not among the known names %q", c.known, missing.Known)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	m := read(t)
	r, err := dbt.ReadResults(filepath.Join("testdata", "run_results.json"))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"model.shop.dim_accounts": "", // its test failed; what dbt made of the model stands
		"model.shop.dim_contacts": "model.shop.dim_contacts failed in dbt (error)",
		"model.shop.fct_orders":   "dbt skipped model.shop.fct_orders",
		"model.shop.fct_lines":    "model.shop.fct_lines failed in dbt (partial success)",
		"model.shop.dim_products": "",                                              // not part of that run
		"model.shop.int_names":    "model.shop.dim_contacts failed in dbt (error)", // through two ephemeral models, which read each other
		"model.shop.unknown":      "",
	} {
		if got := m.Failed(r, id); got != want {
			t.Errorf("%s: got %q, want %q", id, got, want)
		}
	}
}

// TestBrokenFiles are files that are not what they should be.
func TestBrokenFiles(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ content, want string }{
		"empty":                  {"", "ends too early"},
		"torn":                   {string(whole[:len(whole)/2]), "ends too early"},
		"not JSON":               {"<html>", "not valid JSON"},
		"an array":               {"[]", "no such file of dbt"},
		"nodes of no kind":       {`{"nodes": 7}`, "no such file of dbt"},
		"a node of no kind":      {`{"nodes": {"a": 7}}`, "no such file of dbt"},
		"another file":           {`{"metadata": {}}`, "is it a manifest.json?"},
		"results in a torn list": {`{"results": [`, "is it a manifest.json?"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f.json")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := dbt.ReadManifest(path)
			if name == "results in a torn list" {
				_, err = dbt.ReadResults(path)
				c.want = "ends too early"
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), path) != 1 {
				t.Errorf("got error %v, want one with %q and the path once", err, c.want)
			}
		})
	}
	if _, err := dbt.ReadManifest(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing manifest: %v", err)
	}
	if _, err := dbt.ReadResults(filepath.Join("testdata", "manifest.json")); err == nil || !strings.Contains(err.Error(), "run_results.json") {
		t.Errorf("a manifest as results: %v", err)
	}
}

// FuzzManifest looks for files that make the reader panic or hang.
func FuzzManifest(f *testing.F) {
	for _, name := range []string{"manifest.json", "run_results.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, rerr := dbt.ReadResults(path)
		m, err := dbt.ReadManifest(path)
		if err != nil {
			return
		}
		if _, err := m.Model("dim_accounts"); err == nil && rerr == nil {
			m.Failed(r, "model.shop.dim_accounts")
		}
	})
}
