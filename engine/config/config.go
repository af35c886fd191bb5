// Package config turns coho.toml into models, syncs and the settings of
// sources and destinations. It is the one place that reads config files and
// environment variables, and it reports every mistake it can find without a
// connection, each with its file, line and column.
//
// It must never connect to anything, and never put the value of a variable, a
// secret file or a key marked secret into an error.
package config

import (
	"bytes"
	_ "embed"
	"path/filepath"
	"time"

	"coho/engine/config/dbt"
	"coho/models"
)

// DefaultFile is the config's name where the user gives none.
const DefaultFile = "coho.toml"

// Config is a whole configuration, checked and with defaults filled in.
// Relative paths in it have been joined with the folder of the file that names
// them.
type Config struct {
	StateDir     string
	Sources      map[string]Source
	Destinations map[string]Destination
	Models       map[string]models.Model
	Syncs        map[string]*models.Sync
	Sequences    map[string]models.Sequence
	Server       Server
	Alerts       map[string]Alert
	History      History
	DBTManifest  string   // the dbt project's manifest.json; "" without one
	Files        []string // the config files read, the main one first

	syncOrder []string
	dbt       *dbt.Manifest // nil where no model asks for it
}

// SyncNames returns the syncs' names in the order of the files.
func (c *Config) SyncNames() []string { return append([]string(nil), c.syncOrder...) }

// Source is a named warehouse connection. The one of its parts that Type
// names is set.
type Source struct {
	Name      string
	Type      string // postgres, snowflake, bigquery, duckdb
	Postgres  *Postgres
	Snowflake *Snowflake
	BigQuery  *BigQuery
	DuckDB    *DuckDB
	Pos       string // file:line:column, for messages
}

// Postgres says how to reach a PostgreSQL server.
type Postgres struct {
	DSN              models.Secret // a URL or key=value pairs, as libpq takes them
	StatementTimeout time.Duration // 0: the server's own
}

// DuckDB says which database runs in the process.
type DuckDB struct {
	Path string // a database file; "" for one in memory
	Dir  string // where relative paths in a query begin
}

// Destination is a named org connection.
type Destination struct {
	Name       string
	Type       string // salesforce
	Salesforce *Salesforce
	Pos        string // file:line:column, for messages
}

// Salesforce says which org to write to, as whom, within what budget. What
// another kind of Auth needs is empty.
type Salesforce struct {
	Domain           string // a host or a full URL
	Auth             string // client_credentials, jwt_bearer, refresh_token
	ClientID         string
	ClientSecret     models.Secret
	Username         string
	PrivateKey       models.Secret // PEM, read from private_key_file
	RefreshToken     models.Secret
	APIVersion       string // "62.0"
	DailyAPICalls    int64  // 0: the org's limit
	EnforceAPILimits bool
}

// Server is where the daemon listens.
type Server struct {
	Addr  string
	Token models.Secret // "" asks for none

	MaxRuns         int           // syncs that run at once
	ShutdownTimeout time.Duration // for what is in flight, once the daemon is told to end
}

// Alert is an address told of runs that end in one of the ways of On.
type Alert struct {
	Name  string
	URL   models.Secret // as shoutrrr takes it, or a web address; it carries a token
	On    []string
	Syncs []string // empty: all
	Pos   string   // file:line:column of the address, for messages
}

// History says how much of it is kept.
type History struct {
	KeepRuns int // runs of each sync and of each sequence
	KeepDays int // 0: any age
}

//go:embed starter.toml
var starter []byte

// Starter returns the commented config that a new user begins with. It is
// valid as it stands.
func Starter() []byte { return bytes.Clone(starter) }

// Load reads the config at path and what it includes. env looks a variable up
// in the environment (os.LookupEnv). A config with mistakes gives [Problems],
// all of them.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	c, _, err := LoadInputs(path, env)
	return c, err
}

// LoadInputs is Load, and returns besides, also with an error, which files the
// config was made of.
func LoadInputs(path string, env func(string) (string, bool)) (*Config, Inputs, error) {
	l := &loader{env: env, seen: map[string]bool{}}
	l.load(path)
	root := l.merged()
	var c *Config
	if root != nil {
		d := &decoder{loader: l, config: &Config{
			StateDir:     filepath.Join(filepath.Dir(path), ".coho"),
			Sources:      map[string]Source{},
			Destinations: map[string]Destination{},
			Models:       map[string]models.Model{},
			Syncs:        map[string]*models.Sync{},
			Sequences:    map[string]models.Sequence{},
			Server:       Server{Addr: "127.0.0.1:8484"},
			Alerts:       map[string]Alert{},
			History:      History{KeepRuns: 200, KeepDays: 90},
			Files:        l.files,
		}}
		d.decode(root)
		c = d.config
	}
	if len(l.problems) > 0 {
		return nil, l.inputs, l.problems.sorted()
	}
	return c, l.inputs, nil
}
