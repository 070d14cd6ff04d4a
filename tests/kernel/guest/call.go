package main

import (
	"bytes"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/tests/ioctls"
)

// callAll carries out the calls of a golden, and returns what came of them as another.
func callAll(d *driver, number string) string {
	text, err := os.ReadFile(filepath.Join(job, number+".in"))
	if err != nil {
		return "broken: " + err.Error()
	}
	calls, err := ioctls.Parse(string(text))
	if err != nil {
		return "broken: " + err.Error()
	}
	for i := range calls {
		if err := d.exact(&calls[i]); err != nil {
			return "broken: " + err.Error()
		}
	}
	return "played\n" + ioctls.Format("", calls)
}

// exact carries out one call. Behind its buffer is nothing: who reads on gets EFAULT.
func (d *driver) exact(c *ioctls.Call) error {
	page := os.Getpagesize()
	n := (len(c.Before) + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, n+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(memory) //nolint:errcheck // it was mapped above
	if err := unix.Mprotect(memory[n:], unix.PROT_NONE); err != nil {
		return err
	}
	buf := memory[n-len(c.Before) : n]
	copy(buf, c.Before)
	_, _, c.Errno = unix.Syscall(unix.SYS_IOCTL, d.control.Fd(), uintptr(baseNumber+c.Nr), uintptr(unsafe.Pointer(&buf[0])))
	c.After = bytes.Clone(buf)
	return nil
}
