package control

import (
	"encoding/json"
	"unicode/utf8"
)

// The documents that the query, wait, on, targets and version commands answer with. Programs read
// them; their field names are part of what dmfs promises and only grow.

// A Document is the reply to query, wait and on.
type Document struct {
	Devices []Device `json:"devices"` // sorted by name, as the kernel lists them

	// Of on alone: the reply of a message, whether I/O flows that was held back or a table was swapped in, and whether the device is
	// removed.
	Reply    string `json:"reply,omitempty"`
	RawReply []byte `json:"raw_reply,omitempty"`
	Resumed  bool   `json:"resumed,omitempty"`
	Removed  bool   `json:"removed,omitempty"`
}

// A Device is the state of one mapped device.
type Device struct {
	ID             uint64 `json:"id"`   // no other device of this mount has had it or will have it
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
	Limits   Limits    `json:"limits"`   // of the live table

	// The lines of the slot that was asked for; nil where not asked.
	Table  []Line `json:"table,omitempty"`
	Status []Line `json:"status,omitempty"`

	// The bytes of name and uuid, where they are no UTF-8, which JSON cannot hold.
	RawName []byte `json:"raw_name,omitempty"`
	RawUUID []byte `json:"raw_uuid,omitempty"`
}

// Limits are what the queue of a kernel device tells of I/O.
type Limits struct {
	LogicalBlock       int    `json:"logical_block"`       // bytes
	PhysicalBlock      int    `json:"physical_block"`      // bytes
	MinIO              int    `json:"min_io"`              // bytes
	OptIO              int    `json:"opt_io"`              // bytes, 0 if there is none
	DiscardGranularity uint64 `json:"discard_granularity"` // sectors
	MaxDiscard         uint64 `json:"max_discard"`         // sectors; 0: nothing is discarded
	MaxWriteZeroes     uint64 `json:"max_write_zeroes"`    // sectors; 0: zeroes are written as data
	VolatileCache      bool   `json:"volatile_cache"`      // a flush does something
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
	// RawParams is the bytes of params, where they are no UTF-8.
	RawParams []byte `json:"raw_params,omitempty"`
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

// raw returns the bytes of s if they are no UTF-8.
func raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// restore puts the bytes that raw returned back in place of what JSON made of them.
func restore(s *string, raw []byte) {
	if raw != nil {
		*s = string(raw)
	}
}

// UnmarshalJSON decodes d with every byte that it had.
func (d *Document) UnmarshalJSON(text []byte) error {
	type plain Document
	if err := json.Unmarshal(text, (*plain)(d)); err != nil {
		return err
	}
	restore(&d.Reply, d.RawReply)
	for i := range d.Devices {
		restore(&d.Devices[i].Name, d.Devices[i].RawName)
		restore(&d.Devices[i].UUID, d.Devices[i].RawUUID)
		for _, lines := range [][]Line{d.Devices[i].Table, d.Devices[i].Status} {
			for j := range lines {
				restore(&lines[j].Params, lines[j].RawParams)
			}
		}
	}
	return nil
}
