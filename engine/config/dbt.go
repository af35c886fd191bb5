package config

import (
	"errors"

	"coho/engine/config/dbt"
	"coho/models"
)

// dbtProject is the [dbt] section; its manifest is read when a model first
// asks for it, once.
type dbtProject struct {
	given    bool
	manifest string // path
	pos      position

	read   bool
	loaded *dbt.Manifest // nil where it could not be read, which has been said
}

func (d *decoder) dbt(e *entry) {
	if e == nil {
		return
	}
	t := d.newTable(e.value, "dbt", "dbt")
	if t == nil {
		return
	}
	d.project.given = true
	d.project.pos = t.n.pos
	if t.required("manifest") != "" {
		d.project.manifest = relativeTo(t.pos("manifest").file, t.n.get("manifest").value.text)
		d.project.pos = t.pos("manifest")
	}
	d.config.DBTManifest = d.project.manifest
	t.done()
}

// dbtModel fills in what the manifest says of a model.
func (t *table) dbtModel(name string, m *models.Model) {
	project := &t.d.project
	pos := t.pos("dbt_model")
	if !project.given {
		if !t.d.incomplete {
			t.fail(pos, "dbt_model needs [dbt] with manifest, the path of the dbt project's target/manifest.json")
		}
		return
	}
	if !project.read {
		project.read = true
		if project.manifest != "" {
			t.d.inputs.add(project.manifest)
			var err error
			if project.loaded, err = dbt.ReadManifest(project.manifest); err != nil {
				t.d.fail(project.pos, "%v (dbt compile writes it)", err)
			}
			t.d.config.dbt = project.loaded
		}
	}
	if project.loaded == nil {
		return
	}
	found, err := project.loaded.Model(name)
	if err != nil {
		hint := ""
		var missing *dbt.NotFoundError
		if errors.As(err, &missing) {
			hint = near(name, missing.Known)
		}
		t.fail(pos, "dbt_model: %v%s", err, hint)
		return
	}
	m.SQL, m.Table = found.SQL, found.Relation
	m.DBTModel, m.Description = found.UniqueID, found.Description
	if len(m.PrimaryKey) > 0 || t.has("primary_key") {
		return
	}
	if m.PrimaryKey = found.PrimaryKey; m.PrimaryKey == nil {
		t.fail(pos, "primary_key is missing, and %s", found.KeyProblem)
	}
}

// FailedInDBT reads the run_results.json at path and returns the syncs whose
// dbt model failed or was skipped in that dbt run, each with the reason. A
// config without a single dbt_model is an error: nothing would be left out,
// whatever dbt says.
func (c *Config) FailedInDBT(path string) (map[string]string, error) {
	if c.dbt == nil {
		return nil, errors.New("no model of the config has a dbt_model, so results of dbt say nothing about its syncs")
	}
	results, err := dbt.ReadResults(path)
	if err != nil {
		return nil, err
	}
	failed := map[string]string{}
	for name, s := range c.Syncs {
		if s.Model.DBTModel == "" {
			continue
		}
		if why := c.dbt.Failed(results, s.Model.DBTModel); why != "" {
			failed[name] = why
		}
	}
	return failed, nil
}
