package config

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"coho/models"
)

// secret returns an optional string that no error may quote.
func (t *table) secret(key string) models.Secret { return models.Secret(t.str(key)) }

func (d *decoder) source(name string, t *table) {
	s := Source{Name: name, Pos: t.n.pos.String()}
	v := t.of("type", stringKind)
	if !t.has("type") {
		t.fail(t.n.pos, "type is missing: postgres, snowflake, bigquery or duckdb")
	}
	if v == nil {
		return
	}
	s.Type = v.text
	switch s.Type {
	case "postgres":
		s.Postgres = &Postgres{
			DSN:              models.Secret(t.required("dsn")),
			StatementTimeout: t.duration("statement_timeout"),
		}
	case "duckdb":
		s.DuckDB = &DuckDB{Path: t.duckDBFile("path"), Dir: t.file("dir")}
		if s.DuckDB.Dir == "" {
			s.DuckDB.Dir = filepath.Dir(t.n.pos.file)
		}
	case "snowflake":
		s.Snowflake = t.snowflake()
	case "bigquery":
		s.BigQuery = t.bigQuery()
	default:
		kinds := []string{"postgres", "snowflake", "bigquery", "duckdb"}
		t.fail(v.pos, "type: %s is none of %s%s", v.shown(), strings.Join(kinds, ", "), nearChoice(v.raw, kinds))
		return
	}
	t.done()
	d.config.Sources[name] = s
}

// duckDBFile returns the database's path; in memory where there is none.
func (t *table) duckDBFile(key string) string {
	v := t.of(key, stringKind)
	if v == nil || v.text == "" || v.text == ":memory:" {
		return ""
	}
	return relativeTo(v.pos.file, v.text)
}

func (t *table) duration(key string) time.Duration {
	text := t.str(key)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		v := t.value(key)
		t.fail(v.pos, "%s: %s is not a duration such as \"30s\" or \"5m\"", key, v.shown())
		return 0
	}
	return d
}

// durationOr is duration for a key that has a default.
func (t *table) durationOr(key string, def time.Duration) time.Duration {
	if d := t.duration(key); t.has(key) {
		return d
	}
	return def
}

func (d *decoder) destination(name string, t *table) {
	v := t.of("type", stringKind)
	if !t.has("type") {
		t.fail(t.n.pos, "type is missing: salesforce")
	}
	if v == nil {
		return
	}
	if v.text != "salesforce" {
		t.fail(v.pos, "type: %s is not salesforce, the one kind of destination", v.shown())
		return
	}
	d.config.Destinations[name] = Destination{Name: name, Type: v.text, Salesforce: t.salesforce(), Pos: t.n.pos.String()}
	t.done()
}

const (
	authClientCredentials = "client_credentials"
	authJWTBearer         = "jwt_bearer"
	authRefreshToken      = "refresh_token"
)

// The keys that belong to one way of logging in.
var authKeys = []string{"client_secret", "username", "private_key_file", "refresh_token"}

func (t *table) salesforce() *Salesforce {
	s := &Salesforce{
		Domain:           t.domain("domain"),
		ClientID:         t.required("client_id"),
		APIVersion:       t.apiVersion("api_version"),
		DailyAPICalls:    t.integer("daily_api_calls", 0, 0, math.MaxInt64),
		EnforceAPILimits: t.boolean("enforce_api_limits", true),
	}
	auths := []string{authClientCredentials, authJWTBearer, authRefreshToken}
	if !t.has("auth") {
		t.fail(t.n.pos, "auth is missing: %s", strings.Join(auths, ", "))
	}
	s.Auth = t.choice("auth", "", auths...)
	switch s.Auth {
	case authClientCredentials:
		s.ClientSecret = models.Secret(t.required("client_secret"))
	case authJWTBearer:
		s.Username = t.required("username")
		s.PrivateKey = t.privateKey("private_key_file")
	case authRefreshToken:
		s.RefreshToken = models.Secret(t.required("refresh_token"))
		s.ClientSecret = t.secret("client_secret")
	}
	for _, key := range authKeys {
		if slices.Contains(t.known, key) {
			continue
		}
		t.known = append(t.known, key)
		if e := t.n.get(key); e != nil && s.Auth != "" {
			t.fail(e.pos, "%s does not belong to auth = %q", key, s.Auth)
		}
	}
	return s
}

// domain returns the org's address: a host, or a full URL without a path.
func (t *table) domain(key string) string {
	text := t.required(key)
	if text == "" {
		return ""
	}
	v := t.value(key)
	whole := text
	if !strings.Contains(text, "://") {
		whole = "https://" + text
	}
	u, err := url.Parse(whole)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(text, " \t\n"):
		t.fail(v.pos, "%s is neither a host nor a URL", key)
	case u.Scheme != "https" && u.Scheme != "http":
		t.fail(v.pos, "%s is neither http nor https", key)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		t.fail(v.pos, "%s: want the org's host alone, such as acme.my.salesforce.com", key)
	case u.Scheme == "http" && realOrg(u.Hostname()):
		t.fail(v.pos, "%s: plain http would send the credentials in the clear; write https://%s", key, u.Host)
	default:
		return strings.TrimRight(text, "/")
	}
	return ""
}

// realOrg tells Salesforce's own hosts from an emulator's.
func realOrg(host string) bool {
	host = strings.ToLower(host)
	return strings.HasSuffix(host, ".salesforce.com") || strings.HasSuffix(host, ".force.com")
}

var versionForm = regexp.MustCompile(`^([0-9]{2,3})\.0$`)

// oldestAPI is the first version with all that the writer uses: Bulk API 2.0
// came with 41.0, sObject Collections with 42.0.
const oldestAPI = 42

func (t *table) apiVersion(key string) string {
	text := t.str(key)
	if text == "" {
		return "62.0"
	}
	v := t.value(key)
	m := versionForm.FindStringSubmatch(text)
	if m == nil {
		t.fail(v.pos, "%s: %s is not a version such as \"62.0\"", key, v.shown())
		return ""
	}
	if n, err := strconv.Atoi(m[1]); err != nil || n < oldestAPI {
		t.fail(v.pos, "%s: %s is older than %d.0, the first that coho can use", key, v.shown(), oldestAPI)
		return ""
	}
	return text
}

// privateKey reads the key file, so that a wrong path or a wrong file is found
// before a run.
func (t *table) privateKey(key string) models.Secret {
	t.required(key)
	path := t.file(key)
	if path == "" {
		return ""
	}
	v := t.value(key)
	data, err := t.d.readFile(path)
	if err != nil {
		t.fail(v.pos, "%s: %s: %s", key, v.shown(), reason(err))
		return ""
	}
	if err := checkRSAKey(data); err != nil {
		t.fail(v.pos, "%s: %s: %v", key, v.shown(), err)
		return ""
	}
	return models.Secret(data)
}

// checkRSAKey says what is wrong with a key file without showing any of it.
func checkRSAKey(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil {
		return errors.New("not a PEM file")
	}
	if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("not a private key without a passphrase (PKCS #1 or PKCS #8)")
	}
	if _, ok := parsed.(*rsa.PrivateKey); !ok {
		return errors.New("not an RSA key, which Salesforce's JWT flow asks for")
	}
	return nil
}

// address returns an optional host:port.
func (t *table) address(key string) string {
	text := t.str(key)
	if text == "" {
		return ""
	}
	v := t.value(key)
	_, port, err := net.SplitHostPort(text)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		t.fail(v.pos, "%s: %s is not host:port", key, v.shown())
		return ""
	}
	return text
}

// alertAddress returns a required address of an alert. It is a secret: it carries
// a token. Whether the service can be spoken to by it is seen where it is wired.
func (t *table) alertAddress(key string) models.Secret {
	text := t.required(key)
	if text == "" {
		return ""
	}
	if scheme, _, ok := strings.Cut(text, "://"); !ok || scheme == "" {
		t.fail(t.pos(key), "%s is neither a web address nor one such as slack://, teams://, pagerduty://, smtp:// or generic://", key)
		return ""
	}
	return models.Secret(text)
}
