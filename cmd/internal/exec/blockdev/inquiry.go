package blockdev

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Layout of struct sg_io_hdr of 64-bit programs (include/scsi/sg.h), as far as it is used.
//
//	offset  size  field
//	0       4     interface_id: 'S'
//	8       1     cmd_len
//	12      4     dxfer_len: bytes of the buffer
//	16      8     dxferp: the buffer
//	24      8     cmdp: the command
//	64      1     status; 0 is good
//	72      4     resid: bytes of the buffer that were not filled
const (
	sgHeaderLen = 88
	sgCmdLen    = 8
	sgLen       = 12
	sgBuffer    = 16
	sgCommand   = 24
	sgStatus    = 64
	sgResid     = 72
)

// The SCSI command that tells who a disk is, and its page with the serial number.
const (
	scsiInquiry   = 0x12
	inquiryLen    = 6
	inquiryVital  = 0x01
	pageSerial    = 0x80
	serialHeader  = 4
	maxSerialPage = 255
)

// inquiry answers the one SCSI command that tools which assemble arrays need: who are you. To others a device without SCSI says that it
// knows none.
func (c call) inquiry() unix.Errno {
	var h [sgHeaderLen]byte
	if e := c.m.Read(c.arg, h[:]); e != 0 {
		return e
	}
	if binary.NativeEndian.Uint32(h[:]) != 'S' || h[sgCmdLen] < inquiryLen {
		return unix.ENOTTY
	}
	var command [inquiryLen]byte
	if e := c.m.Read(binary.NativeEndian.Uint64(h[sgCommand:]), command[:]); e != 0 {
		return e
	}
	if command[0] != scsiInquiry || command[1]&inquiryVital == 0 || command[2] != pageSerial {
		return unix.ENOTTY
	}
	serial := c.d.Serial()
	serial = serial[:min(len(serial), maxSerialPage-serialHeader)]
	page := append([]byte{0, pageSerial, 0, byte(len(serial))}, serial...)
	room := binary.NativeEndian.Uint32(h[sgLen:])
	page = page[:min(len(page), int(min(room, maxSerialPage)))]
	if e := c.m.Write(binary.NativeEndian.Uint64(h[sgBuffer:]), page); e != 0 {
		return e
	}
	clear(h[sgStatus:])
	binary.NativeEndian.PutUint32(h[sgResid:], room-uint32(len(page)))
	return c.m.Write(c.arg, h[:])
}
