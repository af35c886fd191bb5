package emulator

import "fmt"

// Merge merges records of an object into a master as a person would in the
// browser: their children become the master's, and they go to the recycle bin.
func (o *Org) Merge(objectName, master string, victims ...string) error {
	o.mu.Lock()
	obj := o.object(objectName)
	o.mu.Unlock()
	if obj == nil || !obj.mergeable {
		return fmt.Errorf("merge %s: there is no such object whose records can be merged", objectName)
	}
	if _, err := o.mergeInto(obj, idOf(master), victims); err != nil {
		return err
	}
	return o.log.sync()
}
