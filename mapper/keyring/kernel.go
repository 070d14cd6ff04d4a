package keyring

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unreadable are the types of keys whose contents the kernel gives to nobody, or in another form.
var unreadable = map[string]bool{"logon": true, "encrypted": true, "trusted": true}

// kernelKey reads a key from the keyrings of the process.
func kernelKey(kind, description string, alloc func(n int) ([]byte, error)) ([]byte, error) {
	id, err := requestKey(kind, description)
	if err != nil {
		return nil, fmt.Errorf("the %s key is neither in the configuration nor in the keyrings of this process: %w", kind, err)
	}
	if unreadable[kind] {
		return nil, fmt.Errorf("what is in a %s key only the kernel can read: add it as a user key (keyctl add user), "+
			"name a file in the configuration, or give the key in hexadecimal digits: %w", kind, unix.EOPNOTSUPP)
	}
	size, err := readPayload(id, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the %s key: %w", kind, err)
	}
	p, err := alloc(size)
	if err != nil {
		return nil, err
	}
	n, err := readPayload(id, p)
	if err == nil && n != size {
		err = errors.New("it changed while it was read")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the %s key: %w", kind, err)
	}
	return p, nil
}

// requestKey finds a key in the keyrings of the process. It asks nobody to make one.
func requestKey(kind, description string) (int, error) {
	k, err := unix.BytePtrFromString(kind)
	if err != nil {
		return 0, err
	}
	d, err := unix.BytePtrFromString(description)
	if err != nil {
		return 0, err
	}
	id, _, errno := unix.Syscall6(unix.SYS_REQUEST_KEY, uintptr(unsafe.Pointer(k)), uintptr(unsafe.Pointer(d)), 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(id), nil
}

// readPayload reads what is in a key into p, if it fits, and returns how long it is.
func readPayload(id int, p []byte) (int, error) {
	return unix.KeyctlBuffer(unix.KEYCTL_READ, id, p, 0)
}
