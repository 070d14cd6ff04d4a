package mapper

import "context"

// A Target implements one segment of a table. Submit is the only method a target must have.
//
// Submit carries r out and returns when it is complete: all of it, or an error, after which
// the affected sectors are unspecified. It is called concurrently; overlapping requests
// may run in any order. OpFlush covers every write that had returned before it was called.
//
// r.Data is lent until Submit returns: write into it only for OpRead, never keep it, never
// return while another goroutine may touch it. ctx ends waits (paths, space, delays), not
// I/O already begun; a half-made metadata change is finished regardless of ctx.
//
// The core has already made r relative to the segment, checked bounds and alignment, and
// split it as Limits ask.
type Target interface {
	Submit(ctx context.Context, r Request) error
}

// Features are properties of a Type that the core enforces.
type Features uint8

const (
	// Singleton: such a target is the only segment of its table.
	Singleton Features = 1 << iota
	// Immutable: a table with such a target has no other type, and a device whose live table it is takes only tables of the same type or with a Wildcard.
	Immutable
	// AlwaysWriteable: refused in a read-only table.
	AlwaysWriteable
	// Wildcard: a table with such a target may replace any, and listings do not show its arguments.
	Wildcard
	// PassesTags: such a target sends Request.Tags along with the data, and reports Limits.Tags of disks that have the same.
	PassesTags
)

// A Type describes a kind of target, as the kernel's target_type does.
type Type struct {
	Name     string // as written in tables: "log-writes"
	Version  [3]int // of the kernel target whose table and status lines we speak
	Features Features

	// New builds a target from one table line. The previous table is still serving I/O on the
	// same disks, so New may read but must not write: writing starts in PreResume.
	// On error it has released everything it took except disks from h, which the core closes.
	New func(ctx context.Context, h Host, s Spec) (Target, error)
}

// A Spec is one table line: Start and Len in sectors of the device, Args after the type name.
type Spec struct {
	Start, Len Sector
	Type       string
	Args       []string
}

// shownType returns the type for errors and logs: the kernel's words have it bare.
func (s Spec) shownType() string {
	if MayBeKey(s.Type) {
		return ShowArg(s.Type)
	}
	return s.Type
}

// A Host is what the core offers a target for its lifetime. Disks obtained from Open are
// released by the core after Close; a target closes only what it opened itself.
type Host interface {
	// Open returns the disk that a table calls name: a name from the configuration, a path,
	// MAJOR:MINOR, or another mapped device. Opening the same disk twice gives the same Disk.
	// Errors wrap ErrNoDevice, ErrNotFound, ErrBusy or what the system said.
	Open(ctx context.Context, name string) (Disk, error)
	// Find returns the disk that a message calls name, in any of its spellings, if Open returned it before, else nil. It
	// opens nothing. Errors are those of Open: there is nothing of that name.
	Find(name string) (Disk, error)
	// DeviceNumber returns MAJOR:MINOR of the device, by which the kernel's log lines call it.
	DeviceNumber() string
	// Event wakes those waiting for an event on the device. It does not block.
	Event()
	// Logf adds a line to the log of the mount, as the kernel would to its own. The core puts
	// "device-mapper: TYPE: " before it.
	Logf(format string, args ...any)
	// LogFrom is Logf for what another module of the kernel says: "device-mapper: MODULE: " comes before it.
	LogFrom(module, format string, args ...any)
	// ReadOnly reports whether the table was loaded read-only.
	ReadOnly() bool
	// Keys returns the keys that tables call by name.
	Keys() Keyring
}

// An Area is a range of a disk that a target uses, in sectors.
type Area struct {
	Disk       Disk
	Start, Len Sector
}

// Optional abilities of a Target. Where one is absent the core does what the comment says.
type (
	// A Hinter adjusts the limits that the core stacked from the disks below. Absent: no change.
	Hinter interface{ Hints(l *Limits) }

	// An Areaser lists the ranges of disks the target stands on; the core checks that they fit and
	// are aligned. Absent: every disk opened through Host counts whole and unchecked.
	Areaser interface{ Areas() []Area }

	// A Tabler returns the arguments as loaded, in the kernel's spelling. Disks appear by DiskName.
	// showKeys asks for secrets in the clear; without it they are zeroes. Absent: none.
	Tabler interface{ Table(showKeys bool) []string }

	// A Statuser returns the status arguments. noFlush asks not to commit first. Absent: "".
	Statuser interface {
		Status(ctx context.Context, noFlush bool) (string, error)
	}

	// A Messenger answers a message. Absent: "Target type does not support messages".
	Messenger interface {
		Message(ctx context.Context, args []string) (string, error)
	}

	// A PreSuspender is told that a suspend begins: I/O still flows; stop producing it, wake waiters.
	PreSuspender interface{ PreSuspend(noFlush bool) }

	// A SuspendUndoer is told that the drain was abandoned after PreSuspend.
	SuspendUndoer interface{ PreSuspendUndo() }

	// A PostSuspender commits and stops its goroutines: no I/O is in flight.
	PostSuspender interface {
		PostSuspend(ctx context.Context) error
	}

	// A PreResumer may fail, and may write for the first time.
	PreResumer interface {
		PreResume(ctx context.Context) error
	}

	// A Resumer is called just before I/O flows.
	Resumer interface{ Resume() }

	// An Extenter tells what is allocated. Absent: a Remapper is asked below, others count as data.
	Extenter interface {
		// Extent returns how many sectors (1 <= run <= max) from s on share one state, and whether
		// they hold data; false means that they read as zeroes and occupy no space.
		Extent(ctx context.Context, s, max Sector) (run Sector, data bool, err error)
	}
	// io.Closer: the table is gone.
)

// A Remapper only forwards. For reads, writes and discards the answer depends on s alone,
// never blocks and holds while the table lives, so the core may resolve a stack of
// them to extents of a file. Submit must do the same thing.
type Remapper interface {
	Target
	// Remap returns where s lives on d and how many sectors (run >= 1) follow it there.
	// run may reach past the end of the segment; the core cuts it.
	Remap(s Sector) (d Disk, at, run Sector)
}
