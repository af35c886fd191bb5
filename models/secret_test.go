package models_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"coho/models"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const text = "hunter2"
	secret := models.Secret(text)
	holder := struct {
		Name  string
		Token models.Secret
		Ptr   *models.Secret
		List  []models.Secret
		Map   map[string]models.Secret
	}{"n", secret, &secret, []models.Secret{secret}, map[string]models.Secret{"k": secret}}

	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%10s", "%.3s", "%d", "%t", "%o"} {
		outputs = append(outputs, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, []any{secret, holder.List, holder.Map}))
	}
	outputs = append(outputs, fmt.Sprint(secret), fmt.Sprintln(secret), fmt.Errorf("login with %v: %w", secret, errors.New("no")).Error())
	outputs = append(outputs, secret.String(), secret.GoString())
	asJSON, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	outputs = append(outputs, string(asJSON))
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("x", "secret", secret, "holder", holder, slog.Group("g", "s", secret))
	}
	outputs = append(outputs, logged.String())

	hex := fmt.Sprintf("%x", text)
	for _, out := range outputs {
		lower := strings.ReplaceAll(strings.ToLower(out), " ", "")
		if strings.Contains(lower, text) || strings.Contains(lower, hex) || strings.Contains(lower, "hun") {
			t.Errorf("the secret is in %q", out)
		}
	}
	if got := fmt.Sprint(secret); got != "[redacted]" {
		t.Errorf("printed as %q", got)
	}
	if !strings.Contains(string(asJSON), `"Token":"[redacted]"`) {
		t.Errorf("JSON %s", asJSON)
	}
	if secret.Reveal() != text {
		t.Errorf("Reveal gives %q", secret.Reveal())
	}
}
