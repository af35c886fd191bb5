package models

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that prints as [redacted] wherever it is formatted,
// logged or marshalled as JSON. Reveal gives the text itself.
//
// Two ways past it are left to the caller to keep off: fmt cannot call methods
// on unexported fields, so a struct that hides a Secret in one must not be
// printed whole; and the TOML library writes strings of any type as they are,
// so a config is never written back.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret text, for the one call that needs it.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter: a verb that does not fit a string, such as
// %d, would print the text itself in its complaint.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler, so that JSON redacts too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
