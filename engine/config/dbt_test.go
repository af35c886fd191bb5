package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// productsManifest is what dbt compile writes for a project of two models, as
// far as coho reads it.
const productsManifest = `{"nodes": {
	"model.shop.dim_products": {"resource_type": "model", "package_name": "shop", "name": "dim_products", "relation_name": "\"w\".\"a\".\"dim_products\"", "description": "One row a product.",
		"config": {"materialized": "table"}, "constraints": [{"type": "primary_key", "columns": ["sku"]}]},
	"model.shop.int_products": {"resource_type": "model", "package_name": "shop", "name": "int_products", "config": {"materialized": "ephemeral"}, "compiled_code": "select 1 as sku"}
}}`

const dbtConfig = `
[sources.warehouse]
type = "duckdb"
[dbt]
manifest = "project/target/manifest.json"
`

func TestDBTModels(t *testing.T) {
	dir := write(t, "project/target/manifest.json", productsManifest, "coho.toml", dbtConfig+`
[models.products]
source = "warehouse"
dbt_model = "dim_products"
[models.own_key]
source = "warehouse"
dbt_model = "shop.dim_products"
primary_key = ["name", "region"]
[models.ephemeral]
source = "warehouse"
dbt_model = "int_products"
primary_key = ["sku"]
`)
	c, err := Load(filepath.Join(dir, "coho.toml"), environment())
	if err != nil {
		t.Fatal(err)
	}
	products := c.Models["products"]
	if products.Table != `"w"."a"."dim_products"` || products.SQL != "" || products.DBTModel != "model.shop.dim_products" || products.Description != "One row a product." || !slices.Equal(products.PrimaryKey, []string{"sku"}) {
		t.Errorf("products: %+v", products)
	}
	if own := c.Models["own_key"]; !slices.Equal(own.PrimaryKey, []string{"name", "region"}) {
		t.Errorf("a primary key of one's own became %q", own.PrimaryKey)
	}
	if m := c.Models["ephemeral"]; m.SQL != "select 1 as sku" || m.Table != "" {
		t.Errorf("ephemeral: %+v", m)
	}
	if want := filepath.Join(dir, "project", "target", "manifest.json"); c.DBTManifest != want {
		t.Errorf("the manifest is %s, want %s", c.DBTManifest, want)
	}
}

func TestDBTMistakes(t *testing.T) {
	for name, c := range map[string]struct{ text, manifest, want string }{
		"a name mistyped": {dbtConfig + "[models.m]\nsource = \"warehouse\"\ndbt_model = \"dim_product\"\nprimary_key = [\"a\"]", productsManifest,
			`coho.toml:8:13: models.m: dbt_model: the dbt project has no model "dim_product" (nearest: "dim_products")`},
		"no key to be had": {dbtConfig + "[models.m]\nsource = \"warehouse\"\ndbt_model = \"int_products\"", productsManifest,
			"coho.toml:8:13: models.m: primary_key is missing, and the dbt model has neither a primary key constraint nor a unique test"},
		"an empty key": {dbtConfig + "[models.m]\nsource = \"warehouse\"\ndbt_model = \"dim_products\"\nprimary_key = []", productsManifest,
			"primary_key is empty"},
		"no project": {"[sources.warehouse]\ntype = \"duckdb\"\n[models.m]\nsource = \"warehouse\"\ndbt_model = \"a\"\nprimary_key = [\"a\"]", "",
			"coho.toml:5:13: models.m: dbt_model needs [dbt] with manifest"},
		"no manifest": {"[dbt]\n[sources.warehouse]\ntype = \"duckdb\"\n[models.m]\nsource = \"warehouse\"\ndbt_model = \"a\"\nprimary_key = [\"a\"]", "",
			"coho.toml:1:2: dbt: manifest is missing"},
		"a broken manifest": {dbtConfig + "[models.m]\nsource = \"warehouse\"\ndbt_model = \"dim_products\"", `{"nodes": {`,
			"manifest.json: it ends too early; was dbt interrupted? (dbt compile writes it)"},
		"a query besides": {dbtConfig + "[models.m]\nsource = \"warehouse\"\ndbt_model = \"dim_products\"\nsql = \"SELECT 1\"", productsManifest,
			"sql, sql_file, table and dbt_model exclude each other"},
		"another key": {dbtConfig + "profile = \"shop\"", productsManifest, `dbt: unknown key "profile"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, "project/target/manifest.json", c.manifest, "coho.toml", c.text)
			_, err := Load(filepath.Join(dir, "coho.toml"), environment())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("got:\n%v\nwant one line with:\n%s", err, c.want)
			}
		})
	}
}

func TestFailedInDBT(t *testing.T) {
	sync := func(name, model string) string {
		return "\n[syncs." + name + "]\nmodel = \"" + model + "\"\ndestination = \"crm\"\nobject = \"Product2\"\nmode = \"upsert\"\nmatch = { field = \"Key__c\", column = \"sku\" }\n[syncs." + name + ".fields]\nName = \"name\"\n"
	}
	dir := write(t, "project/target/manifest.json", productsManifest,
		"run_results.json", `{"results": [{"unique_id": "model.shop.dim_products", "status": "error"}]}`,
		"coho.toml", dbtConfig+`
[destinations.crm]
type = "salesforce"
domain = "example.my.salesforce.com"
auth = "client_credentials"
client_id = "a"
client_secret = "b"
[models.products]
source = "warehouse"
dbt_model = "dim_products"
[models.ephemeral]
source = "warehouse"
dbt_model = "int_products"
primary_key = ["sku"]
[models.other]
source = "warehouse"
sql = "SELECT 1"
primary_key = ["sku"]
`+sync("a", "products")+sync("b", "ephemeral")+sync("c", "other"))
	c, err := Load(filepath.Join(dir, "coho.toml"), environment())
	if err != nil {
		t.Fatal(err)
	}
	failed, err := c.FailedInDBT(filepath.Join(dir, "run_results.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(failed) != 1 || failed["a"] != "model.shop.dim_products failed in dbt (error)" {
		t.Errorf("got %v", failed)
	}
	if _, err := c.FailedInDBT(filepath.Join(dir, "none.json")); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("missing results: %v", err)
	}
	if _, err := mustLoad(t, baseSync).FailedInDBT(filepath.Join(dir, "run_results.json")); err == nil || !strings.Contains(err.Error(), "dbt_model") {
		t.Errorf("a config without dbt: %v", err)
	}
}
