package snapshot_test

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashable is Pebble's file system in memory, of which copies are taken as a
// power loss would leave it. Its Link takes the lock that CrashClone wants twice,
// and hangs where that comes in between, so the two exclude each other here.
type crashable struct {
	vfs.FS
	mem *vfs.MemFS
	mu  sync.Mutex
}

func newCrashable() *crashable {
	mem := vfs.NewCrashableMem()
	return &crashable{FS: mem, mem: mem}
}

func (c *crashable) Link(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mem.Link(from, to)
}

// crash returns what is left after one.
func (c *crashable) crash(how vfs.CrashCloneCfg) *crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.mem.CrashClone(how)
	return &crashable{FS: left, mem: left}
}
