// Package keyring finds the keys that tables call by name: those of the configuration, in files and descriptors, those that were
// added, then those in the keyrings of the process, which the kernel keeps.
package keyring

import (
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
)

// MaxKey bounds a key in bytes, as the kernel bounds those of type user.
const MaxKey = 32767

// A Ring is the keyring of one mount.
type Ring struct {
	configured map[string]mapper.KeyConfig // by description
	read       map[string][]byte           // those from descriptors; in memory
	memory     secret.Memory
	trusted    [][]byte

	mu   sync.Mutex // guards held
	held []*heldKey // the last that was added last
}

// A heldKey is a key that somebody has added to the ring and will take back.
type heldKey struct {
	kind, description string
	key               []byte // in memory
	memory            secret.Memory
}

var (
	_ mapper.Keyring   = (*Ring)(nil)
	_ mapper.KeyHolder = (*Ring)(nil)
)

// Hold implements mapper.KeyHolder.
func (r *Ring) Hold(kind, description string, n int, fill func(p []byte) error) (release func(), err error) {
	if n <= 0 || n > MaxKey {
		return nil, fmt.Errorf("a key of %d bytes, want 1 to %d: %w", n, MaxKey, unix.EINVAL)
	}
	h := &heldKey{kind: kind, description: description}
	if h.key, err = h.memory.Alloc(n); err == nil {
		err = fill(h.key)
	}
	if err != nil {
		h.memory.Release()
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, h)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held = slices.DeleteFunc(r.held, func(x *heldKey) bool { return x == h })
		h.memory.Release()
	}, nil
}

// heldKey returns a copy of a key that was added. ok is false if there is none.
func (r *Ring) heldKey(kind, description string, alloc func(n int) ([]byte, error)) (p []byte, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range slices.Backward(r.held) {
		if h.kind == kind && h.description == description {
			p, err := alloc(len(h.key))
			copy(p, h.key)
			return p, true, err
		}
	}
	return nil, false, nil
}

// New returns the keyring with what a configuration names. Descriptors can be read only once: they are read here, and closed. Files
// with keys are read when a key is asked for, files with certificates, in PEM or DER, here.
func New(keys map[string]mapper.KeyConfig, certificates []string) (*Ring, error) {
	r := &Ring{configured: keys, read: make(map[string][]byte)}
	for name, c := range keys {
		if c.Path != "" {
			continue
		}
		key, err := r.readFD(c.FD)
		if err != nil {
			return nil, r.giveUp(fmt.Errorf("key %s from descriptor %d: %w", name, c.FD, err))
		}
		r.read[name] = key
	}
	for _, path := range certificates {
		if err := r.trust(path); err != nil {
			return nil, r.giveUp(fmt.Errorf("certificate %s: %w", path, err))
		}
	}
	return r, nil
}

// readFD reads a key from a descriptor that this program was started with. Its own have close-on-exec set, and are nobody's to read.
func (r *Ring) readFD(fd int) ([]byte, error) {
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		return nil, fmt.Errorf("the program was not started with it, as in dmfs mount %d<FILE: %w", fd, unix.EBADF)
	}
	f := os.NewFile(uintptr(fd), "the descriptor")
	defer f.Close()
	return readKey(f, r.memory.Alloc)
}

func (r *Ring) giveUp(err error) error {
	r.Close()
	return err
}

// Close wipes the keys. No key may be asked for after.
func (r *Ring) Close() { r.memory.Release() }

// maxCertificates bounds a file of certificates in bytes.
const maxCertificates = 1 << 20

// trust adds the certificates of a file: all blocks of PEM, or one in DER. Who uses them finds out whether they are well formed.
func (r *Ring) trust(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCertificates+1))
	if err != nil {
		return err
	}
	if len(text) > maxCertificates {
		return fmt.Errorf("larger than %d KiB", maxCertificates>>10)
	}
	block, rest := pem.Decode(text)
	if block == nil {
		r.trusted = append(r.trusted, text)
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("has a %s, want certificates", block.Type)
		}
		r.trusted = append(r.trusted, block.Bytes)
	}
	return nil
}

// Trusted returns the certificates of the configuration.
func (r *Ring) Trusted() [][]byte { return r.trusted }

// Key returns the key of that description from the configuration, whatever its type, else the one of that type and description that was
// added, else that from the keyrings of the process.
func (r *Ring) Key(kind, description string, alloc func(n int) ([]byte, error)) ([]byte, error) {
	c, ok := r.configured[description]
	if !ok {
		if p, held, err := r.heldKey(kind, description, alloc); held {
			return p, err
		}
		return kernelKey(kind, description, alloc)
	}
	if key, ok := r.read[description]; ok {
		p, err := alloc(len(key))
		if err != nil {
			return nil, err
		}
		copy(p, key)
		return p, nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", description, err)
	}
	defer f.Close()
	p, err := readKey(f, alloc)
	if err != nil {
		return nil, fmt.Errorf("key %s from %s: %w", description, c.Path, err)
	}
	return p, nil
}

// readKey reads f to its end into memory from alloc.
func readKey(f *os.File, alloc func(n int) ([]byte, error)) ([]byte, error) {
	var m secret.Memory
	defer m.Release()
	buf, err := m.Alloc(MaxKey + 1)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(f, buf)
	switch {
	case err == nil:
		return nil, fmt.Errorf("longer than %d bytes: %w", MaxKey, unix.E2BIG)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, err
	}
	p, err := alloc(n)
	if err != nil {
		return nil, err
	}
	copy(p, buf[:n])
	return p, nil
}
