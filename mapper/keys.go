package mapper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A KeyConfig says where a key from the configuration is read.
type KeyConfig struct {
	Path string // a file; "" for FD
	FD   int    // a descriptor that the program was started with
}

// A Keyring has keys by type and description, as the kernel's keyrings have. It is safe for concurrent use.
type Keyring interface {
	// Key writes a key into memory that it asks of alloc, once it knows how many bytes it takes, and returns that memory. Errors are
	// ENOKEY if there is none, and EOPNOTSUPP if there is one that only the kernel can read.
	Key(kind, description string, alloc func(n int) ([]byte, error)) ([]byte, error)
	// Trusted returns the certificates, in DER, of those whose signatures count.
	Trusted() [][]byte
}

// A KeyHolder is a Keyring that takes keys beside those it has.
type KeyHolder interface {
	// Hold adds a key of n bytes, which fill writes, until release is called; then it is wiped. If several keys have one type and
	// description the last that was added is the one.
	Hold(kind, description string, n int, fill func(p []byte) error) (release func(), err error)
}

// noKeys is a keyring without keys.
type noKeys struct{}

func (noKeys) Key(kind, _ string, _ func(int) ([]byte, error)) ([]byte, error) {
	return nil, fmt.Errorf("there are no keys of type %s here: %w", kind, unix.ENOKEY)
}

func (noKeys) Trusted() [][]byte { return nil }
