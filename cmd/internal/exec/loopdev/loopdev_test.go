package loopdev

import (
	"encoding/binary"
	"fmt"
	"testing"

	"dmfs/cmd/internal/exec/caller/callertest"

	"golang.org/x/sys/unix"
)

// fake is a loop device that remembers.
type fake struct {
	bound  bool
	status Status
	said   string
}

func (*fake) Number() uint32 { return 3 }

func (f *fake) Status() (Status, error) {
	if !f.bound {
		return Status{}, unix.ENXIO
	}
	return f.status, nil
}

func (f *fake) Bind(fd uint32, s Status) error {
	if f.bound {
		return fmt.Errorf("bound: %w", unix.EBUSY)
	}
	f.bound, f.status, f.said = true, s, fmt.Sprint("bind ", fd)
	return nil
}
func (f *fake) SetStatus(s Status) error { f.status = s; return nil }
func (f *fake) Clear() error             { f.bound = false; return nil }
func (f *fake) Resize() error            { f.said = "resize"; return nil }
func (f *fake) SetDirect(on bool) error  { f.said = fmt.Sprint("direct ", on); return nil }
func (f *fake) SetBlock(n uint32) error  { f.said = fmt.Sprint("block ", n); return nil }

func TestIoctl(t *testing.T) {
	f, m := new(fake), make(callertest.Memory, 512)
	want := func(request uint32, arg uint64, errno unix.Errno) {
		t.Helper()
		if got := Ioctl(f, m, request, arg); got != errno {
			t.Fatalf("%#x: %v, want %v", request, got, errno)
		}
	}
	want(unix.LOOP_GET_STATUS, 0, unix.ENXIO)
	want(unix.LOOP_GET_STATUS64, 0, unix.ENXIO)
	binary.NativeEndian.PutUint32(m[4:], 8192)
	want(unix.LOOP_CONFIGURE, 0, unix.EINVAL) // no such block
	binary.NativeEndian.PutUint32(m[4:], 2048)
	binary.NativeEndian.PutUint32(m, 7)
	binary.NativeEndian.PutUint64(m[8+24:], 4096)
	binary.NativeEndian.PutUint64(m[8+32:], 8192)
	binary.NativeEndian.PutUint32(m[8+52:], 1|4)
	copy(m[8+56:], "/a/file\x00rest")
	want(unix.LOOP_CONFIGURE, 400, unix.EFAULT)
	want(unix.LOOP_CONFIGURE, 0, 0)
	if s := (Status{File: "/a/file", Offset: 4096, SizeLimit: 8192, Block: 2048, ReadOnly: true, AutoClear: true}); f.status != s || f.said != "bind 7" {
		t.Errorf("%+v, %s", f.status, f.said)
	}
	want(unix.LOOP_CONFIGURE, 0, unix.EBUSY)
	clear(m)
	want(unix.LOOP_GET_STATUS64, 8, 0)
	if offset, limit, number, flags := binary.NativeEndian.Uint64(m[32:]), binary.NativeEndian.Uint64(m[40:]), m[48], m[60]; offset != 4096 ||
		limit != 8192 || number != 3 || flags != 5 || text(m[64:]) != "/a/file" {
		t.Errorf("% x", m)
	}
	want(unix.LOOP_GET_STATUS, 0, unix.EOVERFLOW)
	want(unix.LOOP_SET_BLOCK_SIZE, 512, 0)
	want(unix.LOOP_SET_BLOCK_SIZE, 4096, 0)
	if f.said != "block 4096" {
		t.Error(f.said)
	}
	want(unix.LOOP_SET_BLOCK_SIZE, 8192, unix.EINVAL)
	want(unix.LOOP_SET_BLOCK_SIZE, 768, unix.EINVAL)
	want(unix.LOOP_SET_DIRECT_IO, 1, 0)
	if f.said != "direct true" {
		t.Error(f.said)
	}
	want(unix.LOOP_SET_CAPACITY, 0, 0)
	clear(m)
	want(unix.LOOP_SET_STATUS, 0, 0)
	want(unix.LOOP_GET_STATUS, 0, 0)
	if binary.NativeEndian.Uint32(m) != 3 {
		t.Errorf("% x", m[:64])
	}
	binary.NativeEndian.PutUint32(m[52:], 8)
	want(unix.LOOP_SET_STATUS64, 0, 0)
	if !f.status.PartScan {
		t.Errorf("%+v, want partitions", f.status)
	}
	want(unix.LOOP_CLR_FD, 0, 0)
	want(unix.LOOP_CLR_FD+100, 0, unix.ENOTTY)
}

// What is decoded and encoded again is the same, whatever it is.
func FuzzInfo(f *testing.F) {
	f.Add(make([]byte, info64Len))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) != info64Len {
			return
		}
		s, errno := decode64(p)
		if errno != 0 {
			return
		}
		again, errno := decode64(encode64(0, s))
		if len(s.File) == fileNameLen {
			s.File = s.File[:fileNameLen-1]
		}
		if errno != 0 || again != s {
			t.Errorf("%+v became %+v, %v", s, again, errno)
		}
	})
}
