//go:build unix && !linux

package postgrestest

import "syscall"

// dieWithParent does nothing where the kernel has no such signal: a server
// whose tests were killed ends within a minute of the next run's sweep, when
// it finds its lock file gone.
func dieWithParent(*syscall.SysProcAttr) {}
