package dmfstest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SectorSize is the unit of tables and of counters of sectors, in bytes.
const SectorSize = 512

// A Device is a mapped device.
type Device struct {
	m    *Mount
	name string
}

// Create makes a device. The table has a line for each segment: START LENGTH TARGET ARGUMENTS, in sectors.
func (m *Mount) Create(name, table string, args ...any) *Device {
	m.tb.Helper()
	m.Command("create %s {\n%s\n}", name, fmt.Sprintf(table, args...))
	return m.Device(name)
}

// Device returns a device that is there.
func (m *Mount) Device(name string) *Device { return &Device{m, name} }

// Name returns the name, by which tables of other devices may call it.
func (d *Device) Name() string { return d.name }

// Path returns the device's file.
func (d *Device) Path() string { return filepath.Join(d.m.point, d.name) }

// Size returns the size in bytes.
func (d *Device) Size() int64 {
	d.m.tb.Helper()
	st, err := os.Stat(d.Path())
	if err != nil {
		d.m.tb.Fatalf("dmfstest: %v", err)
	}
	return st.Size()
}

// Load gives the device another table, which I/O that waits goes to.
func (d *Device) Load(table string, args ...any) {
	d.m.tb.Helper()
	d.m.Command("load %s {\n%s\n}\nresume %s", d.name, fmt.Sprintf(table, args...), d.name)
}

// Suspend makes I/O wait, once what is under way is complete.
func (d *Device) Suspend() {
	d.m.tb.Helper()
	d.m.Command("suspend %s", d.name)
}

// Resume lets I/O go on.
func (d *Device) Resume() {
	d.m.tb.Helper()
	d.m.Command("resume %s", d.name)
}

// Remove removes the device, which nobody may have open.
func (d *Device) Remove() {
	d.m.tb.Helper()
	d.m.Command("remove %s", d.name)
}

// Message sends a message to the target of the first segment and returns its reply.
func (d *Device) Message(format string, args ...any) string {
	d.m.tb.Helper()
	return d.m.Command("message %s 0 %s", d.name, fmt.Sprintf(format, args...))
}

// Status returns the status line of the first segment, from the target's name on.
func (d *Device) Status() string {
	d.m.tb.Helper()
	path := filepath.Join(d.m.point, ".dm", d.name, "status")
	text, err := os.ReadFile(path)
	if err != nil {
		d.m.tb.Fatalf("dmfstest: %v", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.SplitN(line, " ", 3)
	return fields[len(fields)-1]
}

// number returns the value of key in words of the form key=value.
func number(text, key string) (int64, error) {
	for word := range strings.FieldsSeq(text) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%q has no %s=", text, key)
}

// Counter returns a number that the status tells as KEY=NUMBER.
func (d *Device) Counter(key string) int64 {
	d.m.tb.Helper()
	n, err := number(d.Status(), key)
	if err != nil {
		d.m.tb.Fatalf("dmfstest: %s: %v", d.name, err)
	}
	return n
}

// pidOf returns the process that serves a mount, 0 if it does not say.
func pidOf(version string) int {
	var v struct{ PID int }
	if json.Unmarshal([]byte(version), &v) != nil {
		return 0
	}
	return v.PID
}
