package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/tests/scenario"
)

// The commands of the device mapper's control device, include/uapi/linux/dm-ioctl.h.
const (
	cmdList = iota + 2
	cmdCreate
	cmdRemove
	cmdRename
	cmdSuspend
	cmdInfo
	cmdWait
	cmdLoad
	cmdClear
	cmdDeps
	cmdTable
	_ // versions
	cmdMessage
	cmdGeometry
)

// The flags of a command.
const (
	flagReadOnly  = 1 << 0
	flagSuspend   = 1 << 1
	flagMinor     = 1 << 3 // create with the minor given
	flagTable     = 1 << 4 // the table, not the status
	flagActive    = 1 << 5
	flagInactive  = 1 << 6
	flagFull      = 1 << 8 // out: the answer does not fit
	flagNoFlush   = 1 << 11
	flagQueryIn   = 1 << 12 // ask for the inactive table
	flagUUID      = 1 << 14 // rename: the uuid
	flagDataOut   = 1 << 16 // out: a message's reply
	flagDeferred  = 1 << 17
	flagsOfSafety = 1 << 10 // no file system is frozen
)

// struct dm_ioctl is little endian as all of UML is: version 3 u32 at 0, data_size u32 12, data_start u32 16,
// target_count u32 20, open_count s32 24, flags u32 28, event_nr u32 32, dev u64 40, name 48, uuid 176, data 312.
const (
	headLen    = 312
	answerLen  = 64 << 10
	specLen    = 40
	baseNumber = 0xc138fd00
)

// A command is a call of the control device, before and after.
type command struct {
	flags, targets, events uint32
	opens                  int32
	dev                    uint64
	name, uuid             string
	data                   []byte
}

// call carries out command nr and stores the answer in c.
func (d *driver) call(nr int, c *command) error {
	buf := make([]byte, max(headLen+len(c.data)+8, answerLen))
	le := binary.LittleEndian
	le.PutUint32(buf[0:], 4)
	le.PutUint32(buf[12:], uint32(len(buf)))
	le.PutUint32(buf[16:], headLen)
	le.PutUint32(buf[20:], c.targets)
	le.PutUint32(buf[28:], c.flags)
	le.PutUint32(buf[32:], c.events)
	le.PutUint64(buf[40:], c.dev)
	copy(buf[48:175], c.name)
	copy(buf[176:304], c.uuid)
	copy(buf[headLen:], c.data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.control.Fd(), uintptr(baseNumber+nr), uintptr(unsafe.Pointer(&buf[0])))
	if errno != 0 {
		return errno
	}
	c.targets, c.opens, c.flags = le.Uint32(buf[20:]), int32(le.Uint32(buf[24:])), le.Uint32(buf[28:])
	c.events, c.dev = le.Uint32(buf[32:]), le.Uint64(buf[40:])
	c.name, c.uuid = text(buf[48:176]), text(buf[176:305])
	if c.flags&flagFull != 0 {
		return fmt.Errorf("an answer of more than %d bytes", answerLen)
	}
	c.data = buf[headLen:max(headLen, min(uint32(len(buf)), le.Uint32(buf[12:])))]
	return nil
}

// text returns what comes before the first NUL.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// specs lays a table out for cmdLoad.
func specs(table []scenario.Line) []byte {
	var out []byte
	for _, l := range table {
		size := (specLen + len(l.Params) + 1 + 7) &^ 7
		spec := make([]byte, size)
		binary.LittleEndian.PutUint64(spec, l.Start)
		binary.LittleEndian.PutUint64(spec[8:], l.Len)
		binary.LittleEndian.PutUint32(spec[20:], uint32(size))
		copy(spec[24:39], l.Type)
		copy(spec[specLen:], l.Params)
		out = append(out, spec...)
	}
	return out
}

// lines reads the n lines of an answer to cmdTable.
func lines(data []byte, n uint32) []string {
	var out []string
	for at := uint32(0); n > 0; n-- {
		spec := data[at:]
		out = append(out, fmt.Sprintf("%d %d %s %s", binary.LittleEndian.Uint64(spec), binary.LittleEndian.Uint64(spec[8:]),
			text(spec[24:40]), text(spec[specLen:])))
		at = binary.LittleEndian.Uint32(spec[20:])
	}
	return out
}

// minorOf returns the minor number in a device number of the control device.
func minorOf(dev uint64) uint32 { return uint32(dev&0xff | dev>>12&^0xff) }

// ioctl is for the commands of block devices that take a pointer.
func ioctl(fd uintptr, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
