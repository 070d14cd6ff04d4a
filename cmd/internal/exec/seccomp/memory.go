package seccomp

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// PathMax bounds a path in bytes, with its final zero.
const PathMax = 4096

// Read fills p from the memory of c's caller at addr.
func (c *Call) Read(addr uint64, p []byte) unix.Errno {
	for len(p) > 0 {
		n, err := unix.ProcessVMReadv(int(c.TID), []unix.Iovec{iovec(p)}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
		if err != nil || n == 0 {
			return unix.EFAULT
		}
		p, addr = p[n:], addr+uint64(n)
	}
	return 0
}

// Write puts p into the memory of c's caller at addr.
func (c *Call) Write(addr uint64, p []byte) unix.Errno {
	for len(p) > 0 {
		n, err := unix.ProcessVMWritev(int(c.TID), []unix.Iovec{iovec(p)}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
		if err != nil || n == 0 {
			return unix.EFAULT
		}
		p, addr = p[n:], addr+uint64(n)
	}
	return 0
}

func iovec(p []byte) unix.Iovec {
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	return v
}

// String reads a string of at most most bytes, its final zero among them, which is not returned. Nothing is read beyond the page
// that the string ends in. A string that is longer is ENAMETOOLONG.
func (c *Call) String(addr uint64, most int) (string, unix.Errno) {
	page := uint64(os.Getpagesize())
	var text []byte
	for len(text) < most {
		p := make([]byte, min(page-addr%page, uint64(most-len(text))))
		if errno := c.Read(addr, p); errno != 0 {
			return "", errno
		}
		if i := bytes.IndexByte(p, 0); i >= 0 {
			return string(append(text, p[:i]...)), 0
		}
		text, addr = append(text, p...), addr+uint64(len(p))
	}
	return "", unix.ENAMETOOLONG
}
