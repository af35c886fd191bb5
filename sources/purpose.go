package sources

import "context"

// Purpose says on whose behalf a query runs. Sources pass it on in the form
// that their warehouse has for it (an application's name, a query tag, labels),
// so that its own history and bills show what coho did.
type Purpose struct {
	Sync string
	Run  string // the run's id; "" outside of a run
}

type purposeKey struct{}

// WithPurpose returns a context whose queries serve p.
func WithPurpose(ctx context.Context, p Purpose) context.Context {
	return context.WithValue(ctx, purposeKey{}, p)
}

// PurposeOf returns what WithPurpose was given, the zero Purpose where nothing
// was.
func PurposeOf(ctx context.Context) Purpose {
	p, _ := ctx.Value(purposeKey{}).(Purpose)
	return p
}
