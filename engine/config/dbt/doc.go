// Package dbt reads what a dbt project leaves behind: manifest.json, which
// says where a model lives and what identifies its rows, and
// run_results.json, which says what became of it in the last dbt run.
//
// It reads files and nothing else: it never runs dbt, never connects to
// anything, and never picks one of two models or keys that would both do.
// Fields that it does not know are passed over, so that manifests of any
// version from v4 (dbt 1.0) on are read. The artifacts' fields are documented
// under "dbt artifacts" in dbt's reference and at schemas.getdbt.com.
package dbt
