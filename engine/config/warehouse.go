package config

import (
	"encoding/json"
	"math"
	"regexp"
	"time"

	"coho/models"
)

// Snowflake says which account to read, as whom. One of Password, PrivateKey,
// OAuthToken and AccessToken is set.
type Snowflake struct {
	Account          string
	Host             string // "" for the account's own
	User             string
	Role             string
	Warehouse        string
	Database         string
	Schema           string
	Password         models.Secret
	PrivateKey       models.Secret // PEM, read from private_key_file
	Passphrase       models.Secret // of PrivateKey, where it is encrypted
	OAuthToken       models.Secret
	AccessToken      models.Secret
	StatementTimeout time.Duration // 0: the server's own
}

// BigQuery says which project to read.
type BigQuery struct {
	Project         string
	Dataset         string
	Location        string
	Credentials     models.Secret // JSON, read from credentials_file; "": the environment's default
	MaxBytesBilled  int64         // 0: no limit of coho's
	Timeout         time.Duration // 0: BigQuery's own
	Endpoint        string        // of an emulator
	StorageEndpoint string
}

// signIns are the keys of which a Snowflake source has one.
var signIns = []string{"password", "private_key_file", "oauth_token", "access_token"}

func (t *table) snowflake() *Snowflake {
	s := &Snowflake{
		Account: t.required("account"), Host: t.str("host"), User: t.str("user"), Role: t.str("role"),
		Warehouse: t.str("warehouse"), Database: t.str("database"), Schema: t.str("schema"),
		Password: t.secret("password"), OAuthToken: t.secret("oauth_token"), AccessToken: t.secret("access_token"),
		Passphrase:       t.secret("private_key_passphrase"),
		StatementTimeout: t.duration("statement_timeout"),
	}
	if path := t.file("private_key_file"); path != "" {
		s.PrivateKey = t.fileText("private_key_file", path)
	}
	given := 0
	for _, key := range signIns {
		if t.has(key) {
			given++
		}
	}
	switch {
	case given == 0:
		t.fail(t.n.pos, "one of password, private_key_file, oauth_token and access_token is missing")
	case given > 1:
		t.fail(t.n.pos, "password, private_key_file, oauth_token and access_token exclude each other")
	case !t.has("user") && !t.has("oauth_token"):
		t.fail(t.n.pos, "user is missing")
	case t.has("private_key_passphrase") && !t.has("private_key_file"):
		t.fail(t.pos("private_key_passphrase"), "private_key_passphrase is for a private_key_file, which is missing")
	}
	return s
}

// projectID is what a project's id may be, an old one's domain included
// (Google Cloud documentation, "Creating and managing projects").
var projectID = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,61}[a-z0-9]$`)

func (t *table) bigQuery() *BigQuery {
	b := &BigQuery{
		Project: t.required("project"), Dataset: t.str("dataset"), Location: t.str("location"),
		MaxBytesBilled: t.integer("max_bytes_billed", 0, 1, math.MaxInt64), Timeout: t.duration("timeout"),
		Endpoint: t.str("endpoint"), StorageEndpoint: t.address("storage_endpoint"),
	}
	if v := t.value("project"); b.Project != "" && !projectID.MatchString(b.Project) {
		t.fail(v.pos, "project: %s is not a project's id (its name is something else)", v.shown())
	}
	if b.Endpoint == "" && b.StorageEndpoint != "" {
		t.fail(t.pos("storage_endpoint"), "storage_endpoint is an emulator's and needs its endpoint too")
	}
	if path := t.file("credentials_file"); path != "" {
		b.Credentials = t.fileText("credentials_file", path)
		if b.Credentials != "" && !json.Valid([]byte(b.Credentials.Reveal())) {
			v := t.value("credentials_file")
			t.fail(v.pos, "credentials_file: %s is not JSON", v.shown())
		}
	}
	return b
}

// fileText reads a file with a secret in it, so that a wrong path is found
// before a run.
func (t *table) fileText(key, path string) models.Secret {
	v := t.value(key)
	data, err := t.d.readFile(path)
	if err != nil {
		t.fail(v.pos, "%s: %s: %s", key, v.shown(), reason(err))
		return ""
	}
	return models.Secret(data)
}
