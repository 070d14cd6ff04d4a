package control

// The documents that the query, wait, targets and version commands answer with. Programs read
// them; their field names are part of what dmfs promises and only grow.

// A Document is the reply to query and wait.
type Document struct {
	Devices []Device `json:"devices"` // sorted by name, as the kernel lists them
}

// A Device is the state of one mapped device.
type Device struct {
	Name           string `json:"name"` // as stored: mangled where libdevmapper mangles
	UUID           string `json:"uuid"`
	Major          uint32 `json:"major"`
	Minor          uint32 `json:"minor"`
	Suspended      bool   `json:"suspended"`
	ReadOnly       bool   `json:"readonly"` // of the live table, else of the inactive one
	Live           bool   `json:"live"`     // a live table is present
	Inactive       bool   `json:"inactive"` // an inactive table is present
	DeferredRemove bool   `json:"deferred_remove"`
	OpenCount      int    `json:"open_count"`
	EventNr        uint32 `json:"event_nr"`
	Targets        int    `json:"target_count"` // segments of the live table
	Sectors        uint64 `json:"sectors"`      // of the live table
	// HasNode says that the device was resumed with a table once, so that its file exists.
	HasNode  bool      `json:"has_node"`
	Deps     []Dep     `json:"deps"`
	Geometry [4]uint64 `json:"geometry"` // cylinders, heads, sectors, start

	// The lines of the slot that was asked for; nil where not asked.
	Table  []Line `json:"table,omitempty"`
	Status []Line `json:"status,omitempty"`
}

// A Dep is a disk that the table stands on, each listed once in the order of the table.
type Dep struct {
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	// Device is the name of the mapped device, "" for others.
	Device string `json:"device,omitempty"`
	// Path is set for regular files (absolute) and network disks (URI), which have no number:
	// Major and Minor are 0 then.
	Path string `json:"path,omitempty"`
	// BlockName is the kernel's name of a block device: "loop0", "dm-3".
	BlockName string `json:"block_name,omitempty"`
}

// A Line is one segment of a table or of a status.
type Line struct {
	Start  uint64 `json:"start"` // sectors
	Len    uint64 `json:"length"`
	Target string `json:"target"`
	Params string `json:"params"`
}

// A TargetVersion is one entry of the reply to targets, which is a list of them.
type TargetVersion struct {
	Name    string `json:"name"`
	Version [3]int `json:"version"`
}

// A Version is the reply to version.
type Version struct {
	Program    string `json:"program"` // of dmfs
	Driver     string `json:"driver"`  // of the device mapper interface that is spoken: "4.47.0"
	PID        int    `json:"pid"`     // of the daemon, as it sees itself
	MountPoint string `json:"mount_point"`
	Major      uint32 `json:"major"` // of mapped devices
}
