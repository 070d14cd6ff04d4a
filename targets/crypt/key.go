package crypt

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/args"
)

// keySize returns the size in bytes that a key says it has: two digits a byte, or the SIZE of :SIZE:TYPE:DESCRIPTION.
func keySize(key string) (n int, ok bool) {
	rest, ring := strings.CutPrefix(key, ":")
	if !ring {
		return len(key) / 2, true
	}
	size, _, found := strings.Cut(rest, ":")
	v, ok := args.ScanUint32(size)
	return int(v), ok && found && v <= mostKey
}

// mostKey bounds a key of the keyring in bytes, as the kernel bounds what can be in one.
const mostKey = 1<<31 - 1

// badKey is the kernel's reason for everything that is wrong with a key.
const badKey = "Error decoding and setting key"

// refuseKey refuses a key. The detail must not quote it.
func refuseKey(errno unix.Errno, detail string, args ...any) error {
	return &mapper.ArgError{Reason: badKey, Detail: fmt.Sprintf(detail, args...), Errno: errno}
}

// newKeyed reads a key and makes what it comes to. name is TYPE:DESCRIPTION of a key of the keyring, "" for digits.
func (t *target) newKeyed(key string) (k *keyed, name string, err error) {
	memory := new(secret.Memory)
	defer func() {
		if err != nil {
			memory.Release()
		}
	}()
	raw, name, err := t.readKey(memory, key)
	if err != nil {
		return nil, "", err
	}
	if k, err = t.makeKeyed(memory, raw); err != nil {
		return nil, "", refuseKey(unix.EINVAL, "%v", err)
	}
	if err := t.withIV(k); err != nil {
		return nil, "", err
	}
	if weak := memory.Weakness(); weak != nil {
		t.host.Logf("%v", weak)
	}
	return k, name, nil
}

// readKey puts the key into m.
func (t *target) readKey(m *secret.Memory, key string) (raw []byte, name string, err error) {
	if t.keySize == 0 && key != "-" {
		return nil, "", refuseKey(unix.EINVAL, "no key: want two hexadecimal digits for each byte, or - for a cipher that has none")
	}
	if rest, ok := strings.CutPrefix(key, ":"); ok {
		_, name, _ := strings.Cut(rest, ":")
		raw, err := t.readRing(m, name)
		return raw, name, err
	}
	if raw, err = m.Alloc(t.keySize); err != nil {
		return nil, "", refuseKey(unix.ENOMEM, "%v", err)
	}
	if t.keySize == 0 {
		return raw, "", nil
	}
	// The bytes of the string are read where they are: a copy would stay on the heap.
	text := unsafe.Slice(unsafe.StringData(key), len(key))
	if len(key)%2 != 0 {
		return nil, "", refuseKey(unix.EINVAL, "%d digits: a byte has two", len(key))
	}
	if _, err := hex.Decode(raw, text); err != nil {
		return nil, "", refuseKey(unix.EINVAL, "the key has a character that is no hexadecimal digit")
	}
	return raw, "", nil
}

// readRing reads the key TYPE:DESCRIPTION of the keyring into m.
func (t *target) readRing(m *secret.Memory, name string) ([]byte, error) {
	if strings.ContainsAny(name, " \t\n\v\f\r") {
		t.host.Logf("whitespace chars not allowed in key string")
		return nil, refuseKey(unix.EINVAL, "the description of the key has a blank")
	}
	kind, description, _ := strings.Cut(name, ":")
	if !slices.Contains(keyTypes, kind) || description == "" {
		return nil, refuseKey(unix.EINVAL, "want :SIZE:TYPE:DESCRIPTION, of type %s", strings.Join(keyTypes, ", "))
	}
	raw, err := t.host.Keys().Key(kind, description, func(n int) ([]byte, error) {
		if n != t.keySize {
			return nil, fmt.Errorf("the %s key has %d bytes, not %d: %w", kind, n, t.keySize, unix.EINVAL)
		}
		return m.Alloc(n)
	})
	if err != nil {
		return nil, refuseKey(mapper.Errno(err), "%v", err)
	}
	return raw, nil
}

// keyTypes are the types of keys that the kernel takes.
var keyTypes = []string{"user", "logon", "encrypted", "trusted"}

// use puts k, which may be nil, in the place of the key. No I/O is in flight.
func (t *target) use(k *keyed, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.keyed.Swap(k)
	t.keyName = name
	old.release()
}

// keyText returns the key as tables show it.
func (t *target) keyText(show bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.keyed.Load()
	switch {
	case t.keyName != "":
		return fmt.Sprintf(":%d:%s", t.keySize, t.keyName) // the name of a key is no secret
	case t.keySize == 0:
		return "-"
	case !show || k == nil:
		return strings.Repeat("0", 2*t.keySize)
	}
	return hex.EncodeToString(k.key)
}
