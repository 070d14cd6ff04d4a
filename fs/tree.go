package fs

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// Inode numbers. A device has nodesPerDevice of them from firstDevice + ID*nodesPerDevice on; since no ID is
// used twice, neither is an inode, and nothing has to be remembered for the kernel.
const (
	rootNode = 1 + iota
	controlNode
	dirNode // .dm
	logNode
	firstDevice    = 16
	nodesPerDevice = 8
)

// The files of a device, in the order of their inodes.
const (
	dataFile  = iota // MNT/NAME
	deviceDir        // MNT/.dm/NAME
	tableFile        // and in it
	statusFile
	infoFile
	messageFile
	eventsFile
)

// deviceFiles are the names in MNT/.dm/NAME.
var deviceFiles = map[string]int{
	"table": tableFile, "status": statusFile, "info": infoFile, "message": messageFile, "events": eventsFile,
}

// deviceFileOrder is the order in which they are listed.
var deviceFileOrder = []string{"table", "status", "info", "message", "events"}

// A tree is the files of a mount.
type tree struct {
	m       *mapper.Manager
	uid     uint32
	gid     uint32
	started time.Time
	version control.Version
	// rootOnly: of other users only root is admitted.
	rootOnly bool
	handles  handleTable
	aliases  aliases
	waiting  atomic.Int64 // bytes of requests that wait with a buffer

	allocMu sync.Mutex
	alloc   map[uint64]allocated
}

// allocated remembers what Allocated said, since stat(2) is called often and holes are counted slowly.
type allocated struct {
	at    time.Time
	bytes int64
}

// allocFresh is for how long that is believed.
const allocFresh = 100 * time.Millisecond

func newTree(m *mapper.Manager, version control.Version) *tree {
	return &tree{
		m: m, uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), started: time.Now(), version: version,
		alloc: make(map[uint64]allocated),
	}
}

// admits reports whether a user may look up and open files. Permissions are for the kernel to check; this is
// allow_root, which the kernel does not know.
func (t *tree) admits(uid uint32) bool { return !t.rootOnly || uid == t.uid || uid == 0 }

// attributes are what stat(2) tells.
type attributes struct {
	node   uint64
	size   int64 // bytes
	blocks int64 // of 512 bytes
	mode   uint32
	links  uint32
}

func deviceNode(d *mapper.Device, file int) uint64 {
	return firstDevice + d.ID()*nodesPerDevice + uint64(file)
}

// deviceOf returns which file of which device node is; d is nil if the device is gone.
func (t *tree) deviceOf(node uint64) (d *mapper.Device, file int) {
	node = t.aliases.real(node)
	if node < firstDevice {
		return nil, 0
	}
	n := node - firstDevice
	return t.m.ByID(n / nodesPerDevice), int(n % nodesPerDevice)
}

// lookup returns the attributes of name in the directory parent, and the node by which the kernel is to
// know the file.
func (t *tree) lookup(parent uint64, name string) (attributes, uint64, unix.Errno) {
	a, e := t.find(parent, name)
	if e == 0 && a.mode&unix.S_IFMT == unix.S_IFREG && !t.isData(a.node) {
		return a, t.aliases.add(a.node), 0
	}
	return a, a.node, e
}

// isData reports whether node is a device's own file.
func (t *tree) isData(node uint64) bool {
	return node >= firstDevice && (node-firstDevice)%nodesPerDevice == dataFile
}

func (t *tree) find(parent uint64, name string) (attributes, unix.Errno) {
	switch parent {
	case rootNode:
		switch name {
		case "control":
			return t.attributes(controlNode)
		case ".dm":
			return t.attributes(dirNode)
		}
		if d := t.m.ByName(name); d != nil {
			return t.attributes(deviceNode(d, dataFile))
		}
	case dirNode:
		if name == "log" {
			return t.attributes(logNode)
		}
		if d := t.m.ByName(name); d != nil {
			return t.attributes(deviceNode(d, deviceDir))
		}
	default:
		d, file := t.deviceOf(parent)
		if d != nil && file == deviceDir && deviceFiles[name] != 0 {
			return t.attributes(deviceNode(d, deviceFiles[name]))
		}
	}
	return attributes{}, unix.ENOENT
}

func (t *tree) attributes(node uint64) (attributes, unix.Errno) {
	node = t.aliases.real(node)
	a := attributes{node: node, links: 1}
	switch node {
	case rootNode, dirNode:
		a.mode, a.links = unix.S_IFDIR|0o755, 2
		return a, 0
	case controlNode:
		a.mode = unix.S_IFREG | 0o600
		return a, 0
	case logNode:
		a.mode = unix.S_IFREG | 0o400
		return a, 0
	}
	d, file := t.deviceOf(node)
	if d == nil {
		return attributes{}, unix.ENOENT
	}
	switch file {
	case dataFile:
		return t.dataAttributes(d, a)
	case deviceDir:
		a.mode, a.links = unix.S_IFDIR|0o755, 2
	case tableFile:
		a.mode = unix.S_IFREG | 0o600
	case messageFile:
		a.mode = unix.S_IFREG | 0o200
	case statusFile, infoFile, eventsFile:
		a.mode = unix.S_IFREG | 0o400
	default:
		return attributes{}, unix.ENOENT
	}
	return a, 0
}

func (t *tree) dataAttributes(d *mapper.Device, a attributes) (attributes, unix.Errno) {
	i := d.Info()
	if !i.HasNode || !i.Live {
		return attributes{}, unix.ENOENT
	}
	a.mode = unix.S_IFREG | 0o600
	if i.ReadOnly {
		a.mode = unix.S_IFREG | 0o400
	}
	a.size = i.Sectors.Bytes()
	a.blocks = int64(mapper.SectorsOf(t.allocatedBytes(d)))
	return a, 0
}

func (t *tree) allocatedBytes(d *mapper.Device) int64 {
	now := time.Now()
	t.allocMu.Lock()
	have, ok := t.alloc[d.ID()]
	t.allocMu.Unlock()
	if ok && now.Sub(have.at) < allocFresh {
		return have.bytes
	}
	have = allocated{at: now, bytes: d.Allocated(context.Background())}
	t.allocMu.Lock()
	t.alloc[d.ID()] = have
	t.allocMu.Unlock()
	return have.bytes
}

// forgetAllocated is called when the allocation of d has changed, or d is gone.
func (t *tree) forgetAllocated(d *mapper.Device) {
	t.allocMu.Lock()
	delete(t.alloc, d.ID())
	t.allocMu.Unlock()
}

// setAttributes answers chmod, chown, truncate and utimes: a device's size is its table's, and its owner and mode are
// fixed. Setting what is there already succeeds, and so do truncations and times, which change nothing.
func (t *tree) setAttributes(node uint64, mode, uid, gid *uint32) (attributes, unix.Errno) {
	a, e := t.attributes(node)
	if e != 0 {
		return a, e
	}
	const permissions = 0o7777
	if mode != nil && *mode&permissions != a.mode&permissions || uid != nil && *uid != t.uid || gid != nil && *gid != t.gid {
		return a, unix.EPERM
	}
	return a, 0
}

// An entry is one name in a directory.
type entry struct {
	name string
	node uint64
	mode uint32
}

// list returns the names in a directory, without . and ...
func (t *tree) list(node uint64) ([]entry, unix.Errno) {
	switch node {
	case rootNode:
		list := []entry{{"control", controlNode, unix.S_IFREG}, {".dm", dirNode, unix.S_IFDIR}}
		for _, d := range t.m.Devices() {
			if i := d.Info(); i.HasNode && i.Live {
				list = append(list, entry{i.Name, deviceNode(d, dataFile), unix.S_IFREG})
			}
		}
		return list, 0
	case dirNode:
		list := []entry{{"log", logNode, unix.S_IFREG}}
		for _, d := range t.m.Devices() {
			if name := d.Name(); name != "log" {
				list = append(list, entry{name, deviceNode(d, deviceDir), unix.S_IFDIR})
			}
		}
		return list, 0
	}
	d, file := t.deviceOf(node)
	if d == nil {
		return nil, unix.ENOENT
	}
	if file != deviceDir {
		return nil, unix.ENOTDIR
	}
	var list []entry
	for _, name := range deviceFileOrder {
		list = append(list, entry{name, deviceNode(d, deviceFiles[name]), unix.S_IFREG})
	}
	return list, 0
}
