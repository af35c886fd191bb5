package snowflake

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"coho/models"
	"coho/sources"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

// count is a query of 5000 rows, with files.
var count = models.Model{SQL: `SELECT g AS "id", CONCAT('row ', TO_CHAR(g)) AS "label" FROM NUMBERS(5000)`}

// keyPair returns an RSA key and its PEM forms: plain, PKCS #1, and encrypted
// with the passphrase "open sesame".
func keyPair(tb testing.TB) (key *rsa.PrivateKey, plain, old, encrypted models.Secret) {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	locked, err := pkcs8.MarshalPrivateKey(key, []byte("open sesame"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	text := func(name string, der []byte) models.Secret {
		return models.Secret(pem.EncodeToMemory(&pem.Block{Type: name, Bytes: der}))
	}
	return key, text("PRIVATE KEY", der), text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), text("ENCRYPTED PRIVATE KEY", locked)
}

// TestSignIn signs in by each way, with what is right and what is not.
func TestSignIn(t *testing.T) {
	key, plain, old, encrypted := keyPair(t)
	other, _, _, _ := keyPair(t)
	server := snowflaketest.Start(t, snowflaketest.Options{Answer: (&answers{}).answer, Users: []snowflaketest.User{
		{Name: "coho", Password: "secret-password", PublicKey: &key.PublicKey, OAuthToken: "secret-oauth-token", AccessToken: "secret-access-token"},
	}})
	parse := func(text, passphrase models.Secret) *rsa.PrivateKey {
		key, err := ParsePrivateKey(text, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	for _, c := range []struct {
		name          string
		set           func(*Options)
		authenticator string
		err           string
	}{
		{"password", func(o *Options) { o.Password = "secret-password" }, "", ""},
		{"key pair", func(o *Options) { o.PrivateKey = parse(plain, "") }, "SNOWFLAKE_JWT", ""},
		{"PKCS #1 key", func(o *Options) { o.PrivateKey = parse(old, "") }, "SNOWFLAKE_JWT", ""},
		{"encrypted key", func(o *Options) { o.PrivateKey = parse(encrypted, "open sesame") }, "SNOWFLAKE_JWT", ""},
		{"OAuth", func(o *Options) { o.OAuthToken = "secret-oauth-token" }, "OAUTH", ""},
		{"access token", func(o *Options) { o.AccessToken = "secret-access-token" }, "PROGRAMMATIC_ACCESS_TOKEN", ""},
		{"wrong password", func(o *Options) { o.Password = "secret-other" }, "",
			"Incorrect username or password was specified.; check user and password (Snowflake 390100)"},
		{"wrong key", func(o *Options) { o.PrivateKey = other }, "",
			"JWT token is invalid.; check that the public key is set on the user (ALTER USER ... SET RSA_PUBLIC_KEY) and that the account's name is right (Snowflake 390144)"},
		{"wrong OAuth token", func(o *Options) { o.OAuthToken = "secret-other-token" }, "",
			"Invalid OAuth access token. ...; the OAuth token is not valid; get a new one (Snowflake 390303)"},
		{"wrong access token", func(o *Options) { o.AccessToken = "secret-other-token" }, "",
			"Programmatic access token is invalid.; the programmatic access token is not valid (Snowflake 394400)"},
		{"role that is not granted", func(o *Options) { o.Password, o.Role = "secret-password", "NOBODY" }, "",
			"Role 'NOBODY' specified in the connect string does not exist or not authorized. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.; check the role (Snowflake 390189)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			o := Options{Account: "org-acc", Host: server.URL, User: "coho", Role: "READER", Warehouse: "WH", Database: "DB", Schema: "PUBLIC", StatementTimeout: 90 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			c.set(&o)
			err := open(t, o).Ping(t.Context())
			if strings.Contains(log.String(), "secret") {
				t.Errorf("the log has a secret: %s", &log)
			}
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("error = %v\nwant    %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			logins := server.Logins()
			got := logins[len(logins)-1]
			for name, want := range map[string]any{
				"TIMEZONE": "UTC", "STATEMENT_TIMEOUT_IN_SECONDS": "90", "BINARY_OUTPUT_FORMAT": "HEX", "GO_QUERY_RESULT_FORMAT": "ARROW",
				"ABORT_DETACHED_QUERY": "true", "CLIENT_SESSION_KEEP_ALIVE": "true", "CLIENT_VALIDATE_DEFAULT_PARAMETERS": true,
			} {
				if got.Parameters[name] != want {
					t.Errorf("%s is %v, want %v", name, got.Parameters[name], want)
				}
			}
			got.Parameters = nil
			want := snowflaketest.Login{User: "coho", Authenticator: c.authenticator, Account: "org-acc", Role: "READER", Warehouse: "WH", Database: "DB", Schema: "PUBLIC"}
			if got.User != want.User || got.Authenticator != want.Authenticator || got.Account != want.Account || got.Role != want.Role || got.Warehouse != want.Warehouse || got.Database != want.Database || got.Schema != want.Schema {
				t.Errorf("signed in as %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestOptionErrors(t *testing.T) {
	for want, o := range map[string]Options{
		"account is missing": {User: "u", Password: "p"},
		"user is missing":    {Account: "a", Password: "p"},
		"one of password, private key, OAuth token and access token is needed to sign in": {Account: "a", User: "u"},
		"password, private key, OAuth token and access token exclude each other":          {Account: "a", User: "u", Password: "p", AccessToken: "t"},
		`host "ftp://x" is neither a host nor a http or https URL`:                        {Account: "a", User: "u", Password: "p", Host: "ftp://x"},
		`host "x:99999" has no valid port`:                                                {Account: "a", User: "u", Password: "p", Host: "x:99999"},
		`host "x/y" is neither a host nor a http or https URL`:                            {Account: "a", User: "u", Password: "p", Host: "x/y"},
	} {
		if _, err := Open(o); err == nil || err.Error() != want {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
}

func TestPrivateKeyErrors(t *testing.T) {
	_, _, _, encrypted := keyPair(t)
	block, _ := pem.Decode([]byte(encrypted.Reveal()))
	broken := models.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:100]}))
	for _, c := range []struct {
		name             string
		text, passphrase models.Secret
		want             string
	}{
		{"no PEM", "secret", "", "the private key is not in PEM form"},
		{"no passphrase", encrypted, "", "the private key is encrypted and no passphrase is given"},
		{"wrong passphrase", encrypted, "secret", "the private key cannot be decrypted: is the passphrase right?"},
		{"broken", broken, "", "the private key cannot be read: is the file whole?"},
		{"a certificate", models.Secret(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), "", `the private key is a "CERTIFICATE", not a "PRIVATE KEY"`},
	} {
		if _, err := ParsePrivateKey(c.text, c.passphrase); err == nil || err.Error() != c.want {
			t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
		}
	}
}

// TestQueryTag checks what the query history says of a statement.
func TestQueryTag(t *testing.T) {
	server := snowflaketest.Start(t, snowflaketest.Options{Answer: (&answers{}).answer})
	s := open(t, optionsOf(server))
	ctx := sources.WithPurpose(t.Context(), sources.Purpose{Sync: "accounts", Run: "r42"})
	rows, err := s.Read(ctx, count)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	want := []snowflaketest.Statement{
		{SQL: "SELECT * FROM (\n" + count.SQL + "\n)", DescribeOnly: true, Tag: "coho sync=accounts run=r42"},
		{SQL: "SELECT * FROM (\n" + count.SQL + "\n)", Tag: "coho sync=accounts run=r42"},
	}
	got := server.Statements()
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("statements = %+v\nwant %+v", got, want)
	}
}

// TestAbort checks that a statement ends in Snowflake when its context does.
func TestAbort(t *testing.T) {
	server := snowflaketest.Start(t, snowflaketest.Options{Answer: (&answers{}).answer})
	s := open(t, optionsOf(server))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Read(ctx, models.Model{SQL: "SELECT slow()"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read = %v, want context.DeadlineExceeded", err)
	}
	if got := server.Aborted(); len(got) != 1 || !strings.Contains(got[0], "slow()") {
		t.Errorf("aborted %q", got)
	}
	// The session is as good as before.
	if _, rows := sourcetest.ReadAll(t, s, count); len(rows) != 5000 || server.Sessions() != 1 {
		t.Errorf("%d rows, %d sessions", len(rows), server.Sessions())
	}
}
