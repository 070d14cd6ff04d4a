package luks

import (
	"io"

	"dmfs/mapper/secret"
)

// A Secret is a passphrase or a key, in memory that is locked, not in core dumps, and zeroed by Release. It is for one user at a time.
type Secret struct {
	Bytes  []byte
	memory secret.Memory
}

// NewSecret returns a secret of n zero bytes.
func NewSecret(n int) (*Secret, error) {
	s := new(Secret)
	var err error
	s.Bytes, err = s.memory.Alloc(n)
	return s, err
}

// ReadSecret reads r to its end, at most most+1 bytes of it, so that a caller can tell what is too long.
func ReadSecret(r io.Reader, most int) (*Secret, error) {
	const begin = 4096
	s, err := NewSecret(min(begin, most+1))
	if err != nil {
		return nil, err
	}
	n := 0
	for {
		k, err := r.Read(s.Bytes[n:])
		n += k
		if err == nil && n == len(s.Bytes) && n <= most {
			err = s.grow(min(2*n, most+1))
		}
		switch {
		case err == io.EOF || err == nil && n == most+1:
			s.Bytes = s.Bytes[:n]
			return s, nil
		case err != nil:
			s.Release()
			return nil, err
		}
	}
}

// grow moves the secret to memory of n bytes.
func (s *Secret) grow(n int) error {
	larger, err := NewSecret(n)
	if err != nil {
		return err
	}
	copy(larger.Bytes, s.Bytes)
	s.Release()
	*s = *larger
	return nil
}

// Weakness returns what protection the system refused, nil if none.
func (s *Secret) Weakness() error { return s.memory.Weakness() }

// Release zeroes the secret. A nil Secret is released already.
func (s *Secret) Release() {
	if s != nil {
		s.memory.Release()
		s.Bytes = nil
	}
}
