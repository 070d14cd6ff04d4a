package mapper

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultMajor is the major number of mapped devices: the kernel picks a free one, most often this.
const DefaultMajor = 253

const (
	maxMinor    = 1<<20 - 1
	maxNameLen  = 127 // bytes
	maxUUIDLen  = 128 // bytes
	releaseWait = 100 * time.Millisecond
)

// Options are what a Manager is made with.
type Options struct {
	MountPoint string                // absolute; paths below it name mapped devices
	Dir        string                // relative disk paths resolve against it; "" is the working directory
	Disks      map[string]DiskConfig // by the names that tables may use
	Files      FileOpener            // opens what is no mapped device
	ReadOnly   bool                  // every table is loaded read-only, whatever its command says
	Major      uint32                // 0 means DefaultMajor
	Log        *Log                  // nil means a new one
	Keys       Keyring               // nil: there are none
}

// An Observer is told when what the world sees of a device changes. Its methods are called with no mutex
// held, but control operations of the device wait until they return, so they must not call any.
type Observer interface {
	Changed(d *Device) // size, read-only or file may differ
	Gone(d *Device)    // removed or renamed away: the name is free
}

// A Manager holds the mapped devices of one mount.
type Manager struct {
	registry *Registry
	readOnly bool
	major    uint32
	log      *Log
	keys     Keyring
	pool     pool

	byName sync.Map // name -> *Device; read without a lock, written under mu
	byID   sync.Map // ID -> *Device; likewise

	mu       sync.Mutex // guards what follows and the fields of Device that say so; held briefly
	byUUID   map[string]*Device
	byMinor  map[uint32]*Device
	nextID   uint64
	observer Observer
}

// NewManager returns a manager without devices, for tables of the registered types.
func NewManager(g *Registry, o Options) *Manager {
	if o.Major == 0 {
		o.Major = DefaultMajor
	}
	if o.Keys == nil {
		o.Keys = noKeys{}
	}
	if o.Log == nil {
		o.Log = new(Log)
	}
	m := &Manager{
		registry: g, readOnly: o.ReadOnly, major: o.Major, log: o.Log, keys: o.Keys,
		byUUID: make(map[string]*Device), byMinor: make(map[uint32]*Device),
	}
	m.pool.init(o)
	return m
}

// Major returns the major number of the mapped devices.
func (m *Manager) Major() uint32 { return m.major }

// Log returns the log.
func (m *Manager) Log() *Log { return m.log }

// Keys returns where tables find keys.
func (m *Manager) Keys() Keyring { return m.keys }

// Types returns the target types in the order they were registered.
func (m *Manager) Types() []*Type { return m.registry.Types() }

// Observe makes o be told of changes. It is called once, before devices change.
func (m *Manager) Observe(o Observer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observer = o
}

func (m *Manager) watching() Observer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.observer
}

func (m *Manager) changed(d *Device) {
	if o := m.watching(); o != nil {
		o.Changed(d)
	}
}

func (m *Manager) gone(d *Device) {
	if o := m.watching(); o != nil {
		o.Gone(d)
	}
}

// ByName returns the device of that name, or nil. It takes no lock.
func (m *Manager) ByName(name string) *Device {
	d, _ := m.byName.Load(name)
	dev, _ := d.(*Device)
	return dev
}

// ByID returns the device with that ID, or nil. It takes no lock.
func (m *Manager) ByID(id uint64) *Device {
	d, _ := m.byID.Load(id)
	dev, _ := d.(*Device)
	return dev
}

// ByUUID returns the device with that uuid, or nil.
func (m *Manager) ByUUID(uuid string) *Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byUUID[uuid]
}

// ByMinor returns the device with that minor number, or nil.
func (m *Manager) ByMinor(minor uint32) *Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byMinor[minor]
}

// Devices returns all devices sorted by name, as the kernel lists them.
func (m *Manager) Devices() []*Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	devices := make([]*Device, 0, len(m.byMinor))
	for _, d := range m.byMinor {
		devices = append(devices, d)
	}
	sort.Slice(devices, func(i, j int) bool { return devices[i].Name() < devices[j].Name() })
	return devices
}

// BottomUp returns all devices so that each comes after those its tables stand on, otherwise by minor.
func (m *Manager) BottomUp() []*Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	byMinor := make([]*Device, 0, len(m.byMinor))
	for _, d := range m.byMinor {
		byMinor = append(byMinor, d)
	}
	sort.Slice(byMinor, func(i, j int) bool { return byMinor[i].minor < byMinor[j].minor })
	var order []*Device
	placed := make(map[*Device]bool)
	var place func(d *Device)
	place = func(d *Device) {
		if placed[d] {
			return
		}
		placed[d] = true
		below := make([]*Device, 0, len(d.below))
		for b := range d.below {
			below = append(below, b)
		}
		sort.Slice(below, func(i, j int) bool { return below[i].minor < below[j].minor })
		for _, b := range below {
			place(b)
		}
		order = append(order, d)
	}
	for _, d := range byMinor {
		place(d)
	}
	return order
}

// CheckName says whether name may name a device.
func CheckName(name string) error {
	switch {
	case name == "":
		return BadArg("invalid device name", "it is empty")
	case name == "control" || name == ".dm" || name == "." || name == "..":
		return BadArg("invalid device name", "%q is taken by the mount", name)
	case len(name) > maxNameLen:
		return BadArg("invalid device name", "%d bytes, want at most %d", len(name), maxNameLen)
	}
	return checkText("invalid device name", name)
}

// CheckUUID says whether uuid may be the uuid of a device. The empty one may not.
func CheckUUID(uuid string) error {
	switch {
	case uuid == "":
		return BadArg("invalid uuid", "it is empty")
	case len(uuid) > maxUUIDLen:
		return BadArg("invalid uuid", "%d bytes, want at most %d", len(uuid), maxUUIDLen)
	}
	return checkText("invalid uuid", uuid)
}

func checkText(reason, s string) error {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' }); i >= 0 {
		return BadArg(reason, "%q has the character %q", s, s[i])
	}
	return nil
}

// A NewDevice is what Create makes.
type NewDevice struct {
	Name, UUID string
	Minor      int // -1: the lowest that is free
	ReadOnly   bool
	Table      []Spec
	NoTable    bool // leave it without a table
}

// Create makes a device, and unless NoTable loads its table and resumes it. If any step fails nothing is
// left behind; the error wraps a *SegmentError when a line of the table is at fault.
func (m *Manager) Create(ctx context.Context, n NewDevice) (*Device, error) {
	d, err := m.register(n)
	if err != nil {
		return nil, err
	}
	if !n.NoTable {
		err = d.replace(ctx, n.Table, n.ReadOnly, ResumeOptions{})
	}
	if err != nil {
		return nil, errors.Join(err, m.discard(d))
	}
	m.mu.Lock()
	d.unfinished = false
	m.mu.Unlock()
	d.unlockCtl()
	return d, nil
}

// discard removes a device that was not finished: its control operations have had to wait, and nobody can
// have opened it. It gives up its ctl.
func (m *Manager) discard(d *Device) error {
	defer d.unlockCtl()
	if err := m.removeLocked(d, removeNow); err != nil {
		return fmt.Errorf("and removing it again: %w", err)
	}
	return nil
}

// register makes a device without a table, unfinished and with its ctl held, so that nobody meddles with it.
func (m *Manager) register(n NewDevice) (*Device, error) {
	if err := CheckName(n.Name); err != nil {
		return nil, err
	}
	if n.UUID != "" {
		if err := CheckUUID(n.UUID); err != nil {
			return nil, err
		}
	}
	if n.Minor < -1 || n.Minor > maxMinor {
		return nil, BadArg("invalid minor number", "%d, want at most %d", n.Minor, maxMinor)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ByName(n.Name) != nil {
		return nil, fmt.Errorf("name %s is taken: %w", n.Name, ErrBusy)
	}
	if n.UUID != "" && m.byUUID[n.UUID] != nil {
		return nil, fmt.Errorf("uuid %s is taken by %s: %w", n.UUID, m.byUUID[n.UUID].Name(), ErrBusy)
	}
	minor, err := m.freeMinor(n.Minor)
	if err != nil {
		return nil, err
	}
	m.nextID++
	d := &Device{
		mgr: m, id: m.nextID, minor: minor, uuid: n.UUID,
		ctl: make(chan struct{}, 1), below: make(map[*Device]int), unfinished: true,
	}
	d.ctl <- struct{}{}
	resumed := make(chan struct{})
	d.epoch.Store(&resumed)
	d.name.Store(&n.Name)
	m.byMinor[minor] = d
	if d.uuid != "" {
		m.byUUID[d.uuid] = d
	}
	m.byName.Store(d.Name(), d)
	m.byID.Store(d.id, d)
	return d, nil
}

// freeMinor is called with mu held.
func (m *Manager) freeMinor(want int) (uint32, error) {
	if want >= 0 {
		if d := m.byMinor[uint32(want)]; d != nil {
			return 0, &ArgError{Reason: "minor number is taken", Detail: fmt.Sprintf("%d, by %s", want, d.Name()), Errno: unix.ENXIO}
		}
		return uint32(want), nil
	}
	for minor := range uint32(maxMinor) {
		if m.byMinor[minor] == nil {
			return minor, nil
		}
	}
	return 0, fmt.Errorf("all minor numbers are taken: %w", ErrBusy)
}

// Rename gives a device another name.
func (m *Manager) Rename(name, newName string) error {
	if err := CheckName(newName); err != nil {
		return err
	}
	d, err := m.rename(name, newName)
	if err != nil {
		return err
	}
	m.gone(d)
	m.changed(d)
	return nil
}

func (m *Manager) rename(name, newName string) (*Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ByName(newName) != nil {
		m.log.Printf("device-mapper: ioctl: Unable to change name on mapped device %s to one that already exists: %s", name, newName)
		return nil, fmt.Errorf("name %s is taken: %w", newName, ErrBusy)
	}
	d := m.ByName(name)
	if d == nil {
		m.log.Printf("device-mapper: ioctl: Unable to rename non-existent device, %s to %s", name, newName)
		return nil, ErrNotFound
	}
	m.byName.Delete(name)
	d.name.Store(&newName)
	m.byName.Store(newName, d)
	d.namedAnew()
	return d, nil
}

// SetUUID gives a device that has none a uuid.
func (m *Manager) SetUUID(name, uuid string) error {
	if err := CheckUUID(uuid); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byUUID[uuid] != nil {
		m.log.Printf("device-mapper: ioctl: Unable to change uuid on mapped device %s to one that already exists: %s", name, uuid)
		return fmt.Errorf("uuid %s is taken by %s: %w", uuid, m.byUUID[uuid].Name(), ErrBusy)
	}
	d := m.ByName(name)
	if d == nil {
		m.log.Printf("device-mapper: ioctl: Unable to rename non-existent device, %s to uuid %s", name, uuid)
		return ErrNotFound
	}
	if d.uuid != "" {
		m.log.Printf("device-mapper: ioctl: Unable to change uuid of mapped device %s to %s because uuid is already set to %s", name, uuid, d.uuid)
		return BadArg("uuid is already set", "to %s", d.uuid)
	}
	d.uuid = uuid
	m.byUUID[uuid] = d
	d.namedAnew()
	return nil
}

// namedAnew counts a change of name or uuid as an event, if anybody can have been waiting for one: of a live table.
func (d *Device) namedAnew() {
	if d.live.Load() != nil {
		d.events.bump()
	}
}
