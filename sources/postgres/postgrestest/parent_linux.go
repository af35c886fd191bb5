package postgrestest

import "syscall"

// dieWithParent makes the kernel tell the server to quit at once when the
// test binary is killed.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGQUIT }
