// Package secret keeps keys in memory that is not swapped out and not in core dumps, and that is zeroed when it is
// given back.
//
// Key schedules that a library makes are on Go's heap, where the collector leaves what it frees as it is.
// [Move] takes them from there: the copy lives in this memory and the original is zeroed. What it cannot reach are copies in
// registers and on stacks, which live until they are overwritten.
package secret

import (
	"crypto/aes"
	"fmt"
	"reflect"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// align is the alignment in bytes of what Alloc returns: a cache line, and enough for any type.
const align = 64

// regionBytes is how much is asked of the system at least. A limit on locked memory may be as low as 64 KiB.
const regionBytes = 4 * mapper.BufferAlign

// A Memory is memory for secrets. It is for one user at a time. The zero value is empty and ready.
type Memory struct {
	regions [][]byte
	free    []byte // the rest of the last region
	lockErr error
}

// Alloc returns n zero bytes, n >= 0. They are valid until Release.
func (m *Memory) Alloc(n int) ([]byte, error) {
	size := (n + align - 1) &^ (align - 1)
	if size > len(m.free) {
		if err := m.grow(size); err != nil {
			return nil, err
		}
	}
	p := m.free[:n:size]
	m.free = m.free[size:]
	return p, nil
}

func (m *Memory) grow(n int) error {
	n = max(regionBytes, (n+mapper.BufferAlign-1)&^(mapper.BufferAlign-1))
	region, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("memory for keys: %w", err)
	}
	if err := unix.Madvise(region, unix.MADV_DONTDUMP); err != nil && m.lockErr == nil {
		m.lockErr = fmt.Errorf("keys are in core dumps: %w", err)
	}
	if err := unix.Mlock(region); err != nil && m.lockErr == nil {
		m.lockErr = fmt.Errorf("keys may be swapped out, since memory for them cannot be locked: %w; raise the limit of locked memory (ulimit -l)", err)
	}
	m.regions = append(m.regions, region)
	m.free = region
	return nil
}

// Weakness returns what protection the system refused, nil if none.
func (m *Memory) Weakness() error { return m.lockErr }

// Move returns a copy of v in m and zeroes v. v must be a pointer to a type without pointers, as the ciphers of the
// standard library and of x/crypto are.
func Move[T any](m *Memory, v T) (T, error) {
	defer Wash()
	from := reflect.ValueOf(v)
	if from.Kind() != reflect.Pointer || !flat(from.Type().Elem()) {
		return v, fmt.Errorf("%T holds its key where it cannot be wiped", v)
	}
	typ := from.Type().Elem()
	old := unsafe.Slice((*byte)(from.UnsafePointer()), typ.Size())
	p, err := m.Alloc(len(old))
	if err == nil {
		copy(p, old)
	}
	clear(old)
	if err != nil || len(p) == 0 {
		return v, err
	}
	moved, ok := reflect.NewAt(typ, unsafe.Pointer(unsafe.SliceData(p))).Interface().(T)
	if !ok {
		return v, fmt.Errorf("%T is another once it is moved", v)
	}
	return moved, nil
}

// Wash has the processor's registers, as far as AES instructions and copies use them, hold zeroes and parts of a key of zeroes. When a
// goroutine is stopped amid its work its registers go to its stack, where they would stay.
func Wash() {
	var zeroes [32]byte
	c, err := aes.NewCipher(zeroes[:])
	if err != nil {
		return // it takes keys of 32 bytes
	}
	c.Encrypt(zeroes[:], zeroes[:])
	c.Decrypt(zeroes[:], zeroes[:])
	const most = 2048 // longer copies use no more registers
	var room [2 * most]byte
	for n := 1; n <= most; n += n {
		copy(room[most:most+n], room[:n])
	}
}

// flat reports whether values of t are bytes and nothing else, so that a copy of the bytes is a copy of the value.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !flat(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return flat(t.Elem())
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Complex128
}

// Place returns a zero T in m. T must be without pointers.
func Place[T any](m *Memory) (*T, error) {
	typ := reflect.TypeFor[T]()
	if !flat(typ) {
		return nil, fmt.Errorf("%v has pointers", typ)
	}
	p, err := m.Alloc(max(1, int(typ.Size())))
	if err != nil {
		return nil, err
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(p))), nil
}

// Release zeroes all and gives it back. Nothing that came from m may be used after.
func (m *Memory) Release() {
	for _, r := range m.regions {
		clear(r)
		_ = unix.Munmap(r) // it fails for what is no mapping, and this is one
	}
	*m = Memory{}
	Wash()
}
