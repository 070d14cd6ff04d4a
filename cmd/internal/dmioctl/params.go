package dmioctl

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// The version of the interface that is spoken. Callers may be older, not newer.
const (
	versionMajor = 4
	versionMinor = 47
	versionPatch = 0
)

// Layout of struct dm_ioctl, in the caller's byte order, which is the machine's; the source is include/uapi/linux/dm-ioctl.h, and
// the goldens are the proof.
//
//	offset  size  field
//	0       12    version: 3 × u32
//	12      4     data_size: in, bytes of the whole buffer; out, how many of them are valid
//	16      4     data_start: bytes from the begin to what follows the header
//	20      4     target_count
//	24      4     open_count
//	28      4     flags
//	32      4     event_nr
//	40      8     dev
//	48      128   name
//	176     129   uuid
//	305     7     data, which nobody uses as such
const (
	versionLen  = 12
	atDataSize  = 12
	atDataStart = 16
	atTargets   = 20
	atOpenCount = 24
	atFlags     = 28
	atEventNr   = 32
	atDev       = 40
	atName      = 48
	nameLen     = 128
	atUUID      = 176
	uuidLen     = 129
	minimumLen  = 305
	headerLen   = 312
	alignment   = 8
	devEntryLen = 12 // of a list, without the name
	targetEntry = 16 // of a list of versions, without the name
	specLen     = 40
	specLength  = 8
	specStatus  = 16
	specNext    = 20
	specType    = 24
	specTypeLen = 16
	messageText = 8
	depsEntry   = 8 // without the numbers
)

// Flags of the header.
const (
	flagReadOnly       = 1 << 0
	flagSuspend        = 1 << 1
	flagPersistentDev  = 1 << 3
	flagStatusTable    = 1 << 4
	flagActive         = 1 << 5
	flagInactive       = 1 << 6
	flagBufferFull     = 1 << 8
	flagSkipLockFS     = 1 << 10
	flagNoFlush        = 1 << 11
	flagQueryInactive  = 1 << 12
	flagUevent         = 1 << 13
	flagUUID           = 1 << 14
	flagSecureData     = 1 << 15
	flagDataOut        = 1 << 16
	flagDeferredRemove = 1 << 17
	flagInternal       = 1 << 18
	flagIMA            = 1 << 19
)

var order = binary.NativeEndian

// interfaceVersion returns what every call writes back.
func interfaceVersion() []byte {
	b := make([]byte, 0, versionLen)
	b = order.AppendUint32(b, versionMajor)
	b = order.AppendUint32(b, versionMinor)
	return order.AppendUint32(b, versionPatch)
}

// speaks reports whether the caller's version is one that we know.
func speaks(in []byte) bool {
	return order.Uint32(in) == versionMajor && order.Uint32(in[4:]) <= versionMinor
}

// params is a call in progress. As in the kernel the reply is written over the request, so what nothing is written to comes
// back as the caller sent it.
type params struct {
	buf    []byte
	secure bool
	uevent bool   // an event was due
	cookie uint32 // the event's, if there is one
}

// readParams copies a request; with noData only its header.
func readParams(in []byte, noData bool) (*params, error) {
	if len(in) < minimumLen {
		return nil, unix.EFAULT
	}
	size := order.Uint32(in[atDataSize:])
	switch {
	case size < minimumLen:
		return nil, unix.EINVAL
	case noData:
		size = minimumLen
	case uint64(size) > uint64(len(in)):
		return nil, unix.EFAULT
	}
	p := &params{buf: bytes.Clone(in[:size]), cookie: order.Uint32(in[atEventNr:])}
	copy(p.buf, interfaceVersion())
	p.secure = p.flag(flagSecureData)
	return p, nil
}

// validate checks what all commands but lists have in common, and clears the flags that only come out.
func (p *params) validate(nr int) error {
	p.setFlags(flagBufferFull|flagUevent|flagSecureData|flagDataOut, false)
	switch nr {
	case nrRemoveAll, nrListDevices, nrListVersions:
		p.setSize(minimumLen)
		return nil
	case nrCreate:
		if p.name() == "" {
			return unix.EINVAL
		}
	default:
		if p.name() != "" && p.uuid() != "" {
			return unix.EINVAL
		}
	}
	p.buf[atName+nameLen-1] = 0
	p.buf[atUUID+uuidLen-1] = 0
	p.setSize(minimumLen)
	return nil
}

func (p *params) u32(at int) uint32       { return order.Uint32(p.buf[at:]) }
func (p *params) setU32(at int, n uint32) { order.PutUint32(p.buf[at:], n) }
func (p *params) flag(f uint32) bool      { return p.u32(atFlags)&f != 0 }
func (p *params) dev() uint64             { return order.Uint64(p.buf[atDev:]) }
func (p *params) name() string            { return cString(p.buf[atName : atName+nameLen]) }
func (p *params) uuid() string            { return cString(p.buf[atUUID : atUUID+uuidLen]) }

// size is how many bytes of buf are the reply.
func (p *params) size() int         { return int(p.u32(atDataSize)) }
func (p *params) setSize(bytes int) { p.setU32(atDataSize, uint32(bytes)) }

func (p *params) setFlags(f uint32, on bool) {
	if on {
		p.setU32(atFlags, p.u32(atFlags)|f)
	} else {
		p.setU32(atFlags, p.u32(atFlags)&^f)
	}
}

// setText writes s and a NUL, cutting s if it does not fit in size bytes. What lies behind stays.
func (p *params) setText(at, size int, s string) {
	n := copy(p.buf[at:at+size-1], s)
	p.buf[at+n] = 0
}

// results returns where what follows the header goes.
func (p *params) results() []byte {
	p.setU32(atDataStart, headerLen)
	if len(p.buf) <= headerLen {
		return nil
	}
	return p.buf[headerLen:]
}

// text returns the string that begins at at. ok is false if that is less than least, or no NUL ends it.
func (p *params) text(at, least int) (text []byte, ok bool) {
	if at < least || at >= len(p.buf) {
		return nil, false
	}
	text, _, ok = bytes.Cut(p.buf[at:], []byte{0})
	return text, ok
}

// happened says that there was what udev is told of, of d as it was before. The kernel tells of a device once a table was loaded.
func (p *params) happened(d control.Device) {
	if !d.HasNode && !d.Inactive {
		return
	}
	p.uevent = true
	p.setFlags(flagUevent, true)
}

// cString returns what comes before the first NUL.
func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

func align(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// encodeDev returns a device number as the header has it.
func encodeDev(major, minor uint32) uint64 {
	return uint64(minor&0xff) | uint64(major)<<8 | uint64(minor&^0xff)<<12
}

// decodeDev is the reverse: 12 bits of major, 20 of minor.
func decodeDev(dev uint64) (major, minor uint32) {
	return uint32(dev>>8) & 0xfff, uint32(dev)&0xff | uint32(dev>>12)&0xfff00
}

// putString writes s and a NUL.
func putString(b []byte, s string) { b[copy(b, s)] = 0 }
