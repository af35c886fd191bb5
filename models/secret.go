package models

import "log/slog"

// Secret is a string that prints as [redacted] wherever it is formatted,
// logged or marshalled. Reveal gives the text itself.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret text, for the one call that needs it.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler, so JSON and TOML redact too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
