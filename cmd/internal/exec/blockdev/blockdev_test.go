package blockdev

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/caller/callertest"
	"dmfs/cmd/internal/exec/parttable"
	"dmfs/fs/control"
)

type fake struct {
	readOnly bool
	limits   control.Limits
	geometry [4]uint64
	said     string
	more     uint64 // read ahead than usual
	parts    bool   // it can have partitions
}

func (f *fake) Partitions() Partitioned {
	if !f.parts {
		return nil
	}
	return f
}

func (f *fake) Rescan() error                      { f.said = "rescan"; return unix.EBUSY }
func (f *fake) Add(p parttable.Partition) error    { f.said = fmt.Sprint("add ", p); return nil }
func (f *fake) Delete(n uint32) error              { f.said = fmt.Sprint("delete ", n); return unix.ENXIO }
func (f *fake) Resize(p parttable.Partition) error { f.said = fmt.Sprint("resize ", p); return nil }

func (*fake) Size() (int64, error)         { return 1 << 20, nil }
func (f *fake) ReadOnly() bool             { return f.readOnly }
func (f *fake) Limits() control.Limits     { return f.limits }
func (f *fake) Geometry() [4]uint64        { return f.geometry }
func (*fake) Serial() string               { return "SERIAL" }
func (f *fake) ReadAhead() uint64          { return 256 + f.more }
func (f *fake) SetReadAhead(n uint64)      { f.more = n - 256 }
func (f *fake) Discard(off, n int64) error { f.said = fmt.Sprint("discard ", off, " ", n); return nil }
func (f *fake) Zero(off, n int64) error {
	f.said = fmt.Sprint("zero ", off, " ", n)
	return unix.ENOSPC
}
func (f *fake) Flush() error { f.said = "flush"; return nil }

func TestNumbers(t *testing.T) {
	f := &fake{limits: control.Limits{LogicalBlock: 512, PhysicalBlock: 4096, MinIO: 4096, OptIO: 65536}}
	for _, tt := range []struct {
		request uint32
		bytes   int
		want    uint64
	}{
		{blkGetSize64, 8, 1 << 20}, {unix.BLKGETSIZE, 8, 2048}, {unix.BLKSSZGET, 4, 512}, {unix.BLKPBSZGET, 4, 4096}, {blkIOMin, 4, 4096},
		{blkIOOpt, 4, 65536}, {unix.BLKROGET, 4, 0}, {unix.BLKRAGET, 8, 256}, {blkBszGet, 4, 4096}, {blkAlignOff, 4, 0},
	} {
		m := callertest.Memory{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
		want := binary.LittleEndian.AppendUint64(nil, tt.want)[:tt.bytes]
		if e := Ioctl(f, m, tt.request, 0); e != 0 || string(m[:tt.bytes]) != string(want) || m[tt.bytes] != 0xee {
			t.Errorf("%#x: % x, %v, want % x", tt.request, m, e, want)
		}
		if e := Ioctl(f, m[:1], tt.request, 0); e != unix.EFAULT {
			t.Errorf("%#x into memory that is not there: %v", tt.request, e)
		}
	}
	if e := Ioctl(f, nil, unix.BLKRASET, 771); e != 0 || f.ReadAhead() != 768 {
		t.Errorf("read ahead %d, %v, want whole pages", f.ReadAhead(), e)
	}
	if e := Ioctl(f, nil, 0x5401, 0); e != unix.ENOTTY {
		t.Errorf("a terminal's request: %v", e)
	}
}

func TestRanges(t *testing.T) {
	f := &fake{limits: control.Limits{LogicalBlock: 4096, MaxDiscard: 1}}
	for _, tt := range []struct {
		request uint32
		off, n  uint64
		want    unix.Errno
		said    string
	}{
		{unix.BLKDISCARD, 4096, 8192, 0, "discard 4096 8192"},
		{blkZeroOut, 0, 1 << 20, unix.ENOSPC, "zero 0 1048576"},
		{blkZeroOut, 0, 0, 0, ""},
		{blkZeroOut, 512, 4096, unix.EINVAL, ""},
		{blkZeroOut, 4096, 1 << 20, unix.EINVAL, ""},
		{blkZeroOut, 1<<64 - 4096, 8192, unix.EINVAL, ""},
		{blkZeroOut, 8192, 1<<64 - 4096, unix.EINVAL, ""},
		{blkSecDiscard, 0, 4096, unix.EOPNOTSUPP, ""},
	} {
		m := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, tt.off), tt.n)
		f.said = ""
		if e := Ioctl(f, callertest.Memory(m), tt.request, 0); e != tt.want || f.said != tt.said {
			t.Errorf("%#x %d+%d: %v %q, want %v %q", tt.request, tt.off, tt.n, e, f.said, tt.want, tt.said)
		}
	}
	f.limits.MaxDiscard = 0
	if e := Ioctl(f, make(callertest.Memory, 16), unix.BLKDISCARD, 0); e != unix.EOPNOTSUPP {
		t.Errorf("a discard where there is none: %v", e)
	}
	f.readOnly = true
	if e := Ioctl(f, make(callertest.Memory, 16), blkZeroOut, 0); e != unix.EBADF {
		t.Errorf("zeroes onto what is read-only: %v", e)
	}
}

func TestInquiry(t *testing.T) {
	m := make(callertest.Memory, 512)
	m[0], m[sgCmdLen] = 'S', 6
	binary.NativeEndian.PutUint32(m[sgLen:], 255)
	binary.NativeEndian.PutUint64(m[sgBuffer:], 200)
	binary.NativeEndian.PutUint64(m[sgCommand:], 100)
	copy(m[100:], []byte{scsiInquiry, 1, pageSerial, 0, 255, 0})
	if e := Ioctl(new(fake), m, sgIO, 0); e != 0 || string(m[200:210]) != "\x00\x80\x00\x06SERIAL" || binary.NativeEndian.Uint32(m[sgResid:]) != 245 {
		t.Errorf("%v, % x", e, m[200:212])
	}
	m[102] = 0x83
	if e := Ioctl(new(fake), m, sgIO, 0); e != unix.ENOTTY {
		t.Errorf("another page: %v", e)
	}
	binary.NativeEndian.PutUint64(m[sgCommand:], 1<<40)
	if e := Ioctl(new(fake), m, sgIO, 0); e != unix.EFAULT {
		t.Errorf("a command that is not there: %v", e)
	}
}

func TestPartitions(t *testing.T) {
	f := &fake{limits: control.Limits{LogicalBlock: 4096}}
	for _, tt := range []struct {
		op       uint32
		start, n int64
		number   int32
		want     unix.Errno
		said     string
	}{
		{unix.BLKPG_ADD_PARTITION, 4096, 8192, 3, 0, "add {3 8 16}"},
		{unix.BLKPG_RESIZE_PARTITION, 4096, 8192, 3, 0, "resize {3 8 16}"},
		{unix.BLKPG_DEL_PARTITION, 0, 0, 3, unix.ENXIO, "delete 3"},
		{unix.BLKPG_ADD_PARTITION, 512, 8192, 3, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, 4096, 512, 3, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, 4096, 0, 3, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, -4096, 4096, 3, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, 1<<63 - 4096, 4096, 3, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, 4096, 4096, 0, unix.EINVAL, ""},
		{unix.BLKPG_DEL_PARTITION, 4096, 4096, -1, unix.EINVAL, ""},
		{unix.BLKPG_ADD_PARTITION, 4096, 4096, 256, unix.EINVAL, ""},
		{4, 4096, 4096, 1, unix.EINVAL, ""},
	} {
		m := make(callertest.Memory, 32+pgPartLen)
		binary.NativeEndian.PutUint32(m, tt.op)
		binary.NativeEndian.PutUint64(m[16:], 32)
		binary.NativeEndian.PutUint64(m[32:], uint64(tt.start))
		binary.NativeEndian.PutUint64(m[40:], uint64(tt.n))
		binary.NativeEndian.PutUint32(m[48:], uint32(tt.number))
		f.parts, f.said = true, ""
		if e := Ioctl(f, m, unix.BLKPG, 0); e != tt.want || f.said != tt.said {
			t.Errorf("%+v: %v, %q", tt, e, f.said)
		}
		f.parts = false
		if e := Ioctl(f, m, unix.BLKPG, 0); e != unix.EINVAL {
			t.Errorf("%+v of what can have none: %v", tt, e)
		}
		if e := Ioctl(f, m[:40], unix.BLKPG, 0); e != unix.EFAULT && tt.op != 4 {
			t.Errorf("a partition that is not there: %v", e)
		}
	}
	if e := Ioctl(f, nil, unix.BLKRRPART, 0); e != unix.EINVAL {
		t.Errorf("a table of what has none: %v", e)
	}
	f.parts = true
	if e := Ioctl(f, nil, unix.BLKRRPART, 0); e != unix.EBUSY || f.said != "rescan" {
		t.Errorf("%v, %s", e, f.said)
	}
}
