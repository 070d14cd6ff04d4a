package exec

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/dmioctl"
	"dmfs/cmd/internal/exec/blockdev"
	"dmfs/cmd/internal/exec/caller"
	"dmfs/cmd/internal/exec/loopdev"
	"dmfs/fs/control"
	"dmfs/mapper/secret"
)

// ioctl answers ioctl(2) on nodes and devices.
func (s *supervisor) ioctl(c *call) {
	f := s.descriptor(c, c.Args[0])
	if !f.ours() {
		s.pass(c)
		return
	}
	request, kind := uint32(c.Args[1]), byte(c.Args[1]>>8)
	ctx, stop := s.patience(c)
	defer stop()
	switch {
	case f.node == controlNode && kind == typeMapper:
		s.mapper(ctx, c, int(byte(request)))
	case f.node == loopControlNode && kind == typeLoop:
		value, errno := loopdev.ControlIoctl(s.loops, request, c.Args[2])
		s.listener.Answer(&c.Call, value, errno)
	case !f.block():
		s.answer(c, unix.ENOTTY)
	case f.dev == nil:
		s.answer(c, unix.ENXIO)
	case kind == typeLoop && f.dev.number.major == loopMajor:
		l := loop{s.loops, ctx, c, f.dev.number.minor, c.Args[0]}
		s.answer(c, loopdev.Ioctl(l, &c.Call, request, c.Args[2]))
	default:
		s.answer(c, blockdev.Ioctl(disk{s, ctx, c, f.dev}, &c.Call, request, c.Args[2]))
	}
}

// maxData bounds the buffer of a caller of the device mapper, in bytes.
const maxData = 64 << 20

// Offsets and flags of struct dm_ioctl that have to be known to fetch it.
const (
	headerLen  = 312
	atDataSize = 12
	atFlags    = 28
	flagSecure = 1 << 15
	nrVersion  = 0
)

// changing are the ioctls after which the devices may be others, and with them what /sys says.
var changing = map[int]bool{1: true, 3: true, 4: true, 5: true, 6: true, 9: true, 10: true}

// mapper answers an ioctl of the device mapper.
func (s *supervisor) mapper(ctx context.Context, c *call, nr int) {
	addr := c.Args[2]
	var memory secret.Memory
	defer memory.Release()
	in, errno := fetch(c, addr, nr, &memory)
	if errno != 0 {
		s.answer(c, errno)
		return
	}
	if !s.listener.Valid(&c.Call) {
		return // what was read may be another process's
	}
	reply, errno := dmioctl.New(s.mount, translator{s, c}).Handle(ctx, nr, in)
	if reply.Secure {
		defer clear(reply.Data)
		_ = c.Write(addr, make([]byte, len(in))) // it could be read, and the reply tells if it cannot be written
	}
	if changing[nr] {
		s.changed.Store(time.Now().UnixNano())
		s.lookSoon() // what the device stood on may go with it, once it is closed
		if _, err := s.refresh(context.WithoutCancel(ctx)); err != nil && errno == 0 {
			errno = caller.Errno(err)
		}
	}
	if e := c.Write(addr, reply.Data); e != 0 && errno == 0 {
		errno = e
	}
	if reply.Uevent && cookieOf(reply.Cookie) != 0 {
		// The caller waits for udev, and has it make the nodes.
		s.refreshing.Lock()
		_ = s.tree.update(true) // he finds out
		s.refreshing.Unlock()
		completeCookie(reply.Cookie)
	}
	s.answer(c, errno)
}

// fetch reads a caller's buffer, into memory for secrets if it says that it has some.
func fetch(c *call, addr uint64, nr int, memory *secret.Memory) ([]byte, unix.Errno) {
	var header [headerLen]byte
	if errno := c.Read(addr, header[:]); errno != 0 {
		return nil, errno
	}
	size := binary.NativeEndian.Uint32(header[atDataSize:])
	switch {
	case nr == nrVersion || size < headerLen:
		return header[:], 0
	case size > maxData:
		return nil, unix.ENOMEM
	}
	in := []byte(nil)
	if binary.NativeEndian.Uint32(header[atFlags:])&flagSecure != 0 {
		guard()
		var err error
		if in, err = memory.Alloc(int(size)); err != nil {
			return nil, unix.ENOMEM
		}
	} else {
		in = make([]byte, size)
	}
	return in, c.Read(addr, in)
}

// cookieOf returns the part of a cookie that says who waits, 0 if nobody does. The other half is flags for udev.
func cookieOf(cookie uint32) uint32 { return cookie & 0xffff }

// completeCookie does what udev does when it has processed an event: it counts down the semaphore that its cause waits for.
func completeCookie(cookie uint32) {
	const magic = 0x0d4d0000
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(magic|cookieOf(cookie)), 0, 0)
	if errno != 0 {
		return // whoever waited has given up
	}
	down := sembuf{op: -1, flags: ipcNoWait}
	_ = down.apply(id)
}

// A translator tells the numbers of a session from those of its mount, on behalf of one caller.
type translator struct {
	s *supervisor
	c *call
}

var _ dmioctl.Translator = translator{}

// nowhere is a number that the mount has no device for.
const nowhere = 1<<20 - 1

// Disk implements dmioctl.Translator.
func (t translator) Disk(word string) string {
	if n, ok := parseNumber(word); ok {
		if d := t.s.world.at(n); d != nil {
			return d.inMount()
		}
		if n.major == t.s.world.major || n.major == diskMajor || n.major == loopMajor || n.major == partMajor {
			return number{t.s.version.Major, nowhere}.String() // a device of the kernel with that number is not meant
		}
		return word
	}
	if !strings.Contains(word, "/") {
		return word
	}
	f := t.s.lookup(t.c, atCWD, word, false)
	defer f.close()
	switch {
	case f.block() && f.dev != nil:
		return f.dev.inMount()
	case f.block():
		return number{t.s.version.Major, nowhere}.String()
	case word[0] != '/':
		if abs := absolute(t.c, atCWD, word); abs != "" {
			return abs
		}
	}
	return word
}

// Word implements dmioctl.Translator.
func (t translator) Word(disk string) string {
	n, ok := parseNumber(disk)
	if !ok {
		return disk
	}
	if d := t.s.world.ofMount(n.major, n.minor); d != nil {
		return d.number.String()
	}
	if n.major == t.s.version.Major {
		return number{t.s.world.major, n.minor}.String()
	}
	return disk
}

// Major implements dmioctl.Translator.
func (t translator) Major() uint32 { return t.s.world.major }

// Hidden implements dmioctl.Translator.
func (t translator) Hidden(name, _ string) bool {
	_, ok := hiddenAs(name, partInMount)
	return ok
}

// A disk is a device on behalf of a caller who asks about it.
type disk struct {
	s   *supervisor
	ctx context.Context
	c   *call
	d   *device
}

var _ blockdev.Device = disk{}

// unbound reports whether there is nothing behind d yet.
func (d disk) unbound() bool { return d.d.number.major == loopMajor && !bound(d.d) }

// Size implements blockdev.Device.
func (d disk) Size() (int64, error) {
	if d.unbound() {
		return 0, nil
	}
	var st unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(int(d.c.TID))+"/fd/"+strconv.Itoa(int(int32(d.c.Args[0]))), &st)
	return st.Size, err
}

// ReadOnly implements blockdev.Device. A descriptor that was opened for reading changes nothing, either.
func (d disk) ReadOnly() bool {
	if d.d.ReadOnly {
		return true
	}
	if request := uint32(d.c.Args[1]); request == unix.BLKROGET {
		return false
	}
	writable, err := d.s.mayWrite(d.c, d.c.Args[0])
	return err != nil || !writable
}

// Limits implements blockdev.Device.
func (d disk) Limits() control.Limits { return d.d.Limits }

// Geometry implements blockdev.Device.
func (d disk) Geometry() [4]uint64 { return d.d.Geometry }

// Serial implements blockdev.Device. It is the same each time that the same file is used.
func (d disk) Serial() string { return serial(d.s.backing(d.d), d.d.node) }

// ReadAhead implements blockdev.Device.
func (d disk) ReadAhead() uint64 { return d.s.readAhead(d.d) }

// SetReadAhead implements blockdev.Device.
func (d disk) SetReadAhead(sectors uint64) {
	d.s.ahead.Store(d.d.ID, sectors)
	d.s.refreshing.Lock()
	defer d.s.refreshing.Unlock()
	_ = d.s.tree.update(false) // what cannot be shown is tried again
}

// readAhead returns what users of d are told to read ahead, in sectors.
func (s *supervisor) readAhead(d *device) uint64 {
	if sectors, ok := s.ahead.Load(d.ID); ok {
		return sectors.(uint64)
	}
	return blockdev.ReadAhead
}

// Partitions implements blockdev.Device.
func (d disk) Partitions() blockdev.Partitioned {
	if !d.d.whole() {
		return nil
	}
	return partitioned{d.s, d.ctx, d.d}
}

// work calls f with the device opened for writing.
func (d disk) work(f func(fd int) error) error {
	flags := unix.O_RDWR
	if d.d.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, errno := d.s.openNumber(d.ctx, d.d.number, flags)
	if errno != 0 {
		return errno
	}
	defer unix.Close(fd) //nolint:errcheck // f has told its errors
	return f(fd)
}

// Discard implements blockdev.Device.
func (d disk) Discard(off, n int64) error {
	return d.work(func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// Zero implements blockdev.Device.
func (d disk) Zero(off, n int64) error {
	return d.work(func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// Flush implements blockdev.Device.
func (d disk) Flush() error {
	if d.unbound() {
		return nil
	}
	return d.work(unix.Fsync)
}
