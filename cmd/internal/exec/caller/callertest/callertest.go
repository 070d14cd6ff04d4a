// Package callertest has callers for tests.
package callertest

import "golang.org/x/sys/unix"

// A Memory is a caller's, from address 0.
type Memory []byte

// Read implements caller.Memory.
func (m Memory) Read(addr uint64, p []byte) unix.Errno {
	if addr > uint64(len(m)) || copy(p, m[addr:]) < len(p) {
		return unix.EFAULT
	}
	return 0
}

// Write implements caller.Memory.
func (m Memory) Write(addr uint64, p []byte) unix.Errno {
	if addr > uint64(len(m)) || len(m[addr:]) < len(p) {
		return unix.EFAULT
	}
	copy(m[addr:], p)
	return 0
}
