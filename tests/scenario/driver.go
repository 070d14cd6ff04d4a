package scenario

import (
	"regexp"
	"strings"
)

// A Driver is a device mapper that scenarios are played to. Numbers are in sectors. Errors carry the errno that a user of
// the device mapper sees. Disks and devices go by the names of the scenario; a disk and a device never share one.
// I/O methods are called concurrently, others are not.
type Driver interface {
	// Disk makes a disk of zeroes whose logical block has so many bytes. ErrCannot: there is no such disk here.
	Disk(name string, sectors uint64, block int) error
	// LetGo closes all disks and opens them again. No device stands on them.
	LetGo() error
	// Ref returns how a table line calls a disk or device.
	Ref(name string) string
	// Normal returns text of the device mapper with disks by name and devices as dm-MINOR.
	Normal(text string) string

	Create(n NewDevice) error
	Load(name string, table []Line, readOnly bool) error
	Resume(name string, noFlush bool) error
	Suspend(name string, noFlush bool) error
	Clear(name string) error
	Remove(name string, force, deferred bool) error
	Rename(name, newName string) error
	SetUUID(name, uuid string) error
	SetGeometry(name string, geometry [4]uint64) error
	Message(name string, sector uint64, words []string) (string, error)
	Lines(name string, status, inactive bool) ([]string, error)
	Info(name string) (Info, error)
	Deps(name string) ([]string, error)
	// Wait returns when the event number differs from nr.
	Wait(name string, nr uint32) error

	// Open keeps a device open until the function returned is called.
	Open(name string) (release func(), err error)
	// Size returns the size of a disk or device in sectors.
	Size(name string) (uint64, error)
	// Read fills p from a disk or device; n is short at its end.
	Read(name string, start uint64, p []byte) (n int, err error)
	// Write writes p; n is short at the end of the device. fua: p is durable on return.
	Write(name string, start uint64, p []byte, fua bool) (n int, err error)
	Discard(name string, start, count uint64) error
	Zero(name string, start, count uint64) error
	Flush(name string) error

	// Log returns the lines that the device mapper logged since it was last asked, from "device-mapper:" on.
	Log() []string
	// Close removes everything.
	Close() error
}

// A NewDevice is what Create makes. With a table the device is loaded and resumed, and not left behind if that fails.
type NewDevice struct {
	Name, UUID string
	Minor      int // -1: the lowest that is free
	ReadOnly   bool
	Table      []Line // nil: none
}

// An Info is the state of a device.
type Info struct {
	Live, Inactive, Suspended, ReadOnly, Deferred bool
	Opens, Segments                               int
	Events, Minor                                 uint32
	UUID                                          string
}

type cannotError struct{ what string }

func (e *cannotError) Error() string { return e.what }

// Cannot returns the error of a driver that a scenario asks for what it does not have. Such a scenario is skipped there.
func Cannot(what string) error { return &cannotError{what} }

// number is how we list a mapped device.
var number = regexp.MustCompile(`\b253:(\d+)\b`)

// Normal does for our drivers what Driver.Normal asks, if disks are files in dir.
func Normal(text, dir string) string {
	return number.ReplaceAllString(strings.ReplaceAll(text, dir+"/", ""), "dm-$1")
}
