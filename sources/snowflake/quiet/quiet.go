// Package quiet settles, before the Snowflake driver begins, what that takes from the
// environment only: no library unpacked to disk and loaded, no questions to the
// machine's cloud about itself.
//
// The driver unpacks its library in an init of its own, in every process that it is
// linked into, and a process that ends soon leaves the file behind. Go initializes
// packages in the order of their import paths as soon as their imports are (The Go
// Programming Language Specification, "Package initialization"), so this one, which
// imports next to nothing, comes first. It must never import more than that.
package quiet

import "os"

func init() {
	for _, name := range []string{"SF_DISABLE_MINICORE", "SNOWFLAKE_DISABLE_PLATFORM_DETECTION"} {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, "true") // fails for malformed names only
		}
	}
}
