package mapper

import "context"

// A Disk is what a target stands on: a file, memory, another mapped Device. Submit obeys
// the contract of Target; requests are aligned to Limits().LogicalBlock.
type Disk interface {
	Submit(ctx context.Context, r Request) error
	// Sectors returns the size. It may change while the disk is in use (a mapped device below).
	Sectors() Sector
	Limits() Limits
}

// A NamedDisk knows how listings print it: MAJOR:MINOR for a block device or a mapped device,
// an absolute path (quoted where a table line needs it) for a file. Disks without a name are
// test disks and print as "?".
type NamedDisk interface {
	Disk
	DiskName() string
}

// DiskName returns how table and status lines print d.
func DiskName(d Disk) string {
	if n, ok := d.(NamedDisk); ok {
		return n.DiskName()
	}
	return "?"
}

// A KernelNamed disk has a name as the kernel's messages print it ("loop0", "dm-3", a file's base name).
type KernelNamed interface{ KernelName() string }

// KernelName returns d's name for messages.
func KernelName(d Disk) string {
	if n, ok := d.(KernelNamed); ok {
		return n.KernelName()
	}
	return DiskName(d)
}
