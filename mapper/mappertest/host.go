package mappertest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A Host serves targets in tests without a manager. The zero value has no disks. Disks and RO are set
// before the first use.
type Host struct {
	Disks   map[string]mapper.Disk // by what table lines call them; their DiskName works too
	RO      bool                   // the table is read-only
	KeyRing Keys

	mu     sync.Mutex
	events int
	lines  []string
	opened []mapper.Disk
}

// NewHost returns a host with disks that table lines call by their DiskName.
func NewHost(disks ...mapper.Disk) *Host {
	h := &Host{Disks: make(map[string]mapper.Disk)}
	for _, d := range disks {
		h.Disks[mapper.DiskName(d)] = d
	}
	return h
}

// Open returns the disk called name, or an error that wraps ErrNoDevice.
func (h *Host) Open(_ context.Context, name string) (mapper.Disk, error) {
	d := h.Disks[name]
	for _, other := range h.Disks {
		if d == nil && mapper.DiskName(other) == name {
			d = other
		}
	}
	if d == nil {
		return nil, fmt.Errorf("%q: %w", name, mapper.ErrNoDevice)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, d)
	return d, nil
}

// Find returns the disk called name if it was opened.
func (h *Host) Find(name string) (mapper.Disk, error) {
	d := h.Disks[name]
	if d == nil {
		return nil, fmt.Errorf("%q: %w", name, mapper.ErrNoDevice)
	}
	if !slices.Contains(h.Opened(), d) {
		return nil, nil
	}
	return d, nil
}

// DeviceNumber returns 253:0.
func (h *Host) DeviceNumber() string { return "253:0" }

// Event counts an event.
func (h *Host) Event() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
}

// Logf records a line.
func (h *Host) Logf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

// LogFrom records a line with the module before it.
func (h *Host) LogFrom(module, format string, args ...any) {
	h.Logf("%s: %s", module, fmt.Sprintf(format, args...))
}

// Keys returns KeyRing.
func (h *Host) Keys() mapper.Keyring { return h.KeyRing }

// Keys are the keys of a Host. The zero value has none.
type Keys struct {
	ByName       map[string][]byte // by TYPE:DESCRIPTION
	Certificates [][]byte          // DER
}

// Key returns a copy of the key.
func (k Keys) Key(kind, description string, alloc func(n int) ([]byte, error)) ([]byte, error) {
	key, ok := k.ByName[kind+":"+description]
	if !ok {
		return nil, fmt.Errorf("no %s key %s: %w", kind, description, unix.ENOKEY)
	}
	p, err := alloc(len(key))
	copy(p, key)
	return p, err
}

// Trusted returns Certificates.
func (k Keys) Trusted() [][]byte { return k.Certificates }

// ReadOnly returns RO.
func (h *Host) ReadOnly() bool { return h.RO }

// Events returns how many events there were.
func (h *Host) Events() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

// Log returns the lines so far.
func (h *Host) Log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

// Opened returns the disks that were opened, each once, in that order.
func (h *Host) Opened() []mapper.Disk {
	h.mu.Lock()
	defer h.mu.Unlock()
	var once []mapper.Disk
	seen := make(map[mapper.Disk]bool)
	for _, d := range h.opened {
		if !seen[d] {
			once = append(once, d)
		}
		seen[d] = true
	}
	return once
}
