package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

// image makes a sparse file of n sectors in a directory of the test.
func image(t testing.TB, n mapper.Sector) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, n.Bytes()); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, c mapper.DiskConfig) *File {
	t.Helper()
	d, err := Opener{}.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.(*File).Close() })
	return d.(*File)
}

// loop attaches path to a loop device for the length of the test.
func loop(t testing.TB, path string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Skipf("needs a free loop device: losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return device
}

// What was written is read back, whichever way the disk is opened and wherever the buffer lies.
func TestReadsWhatWasWritten(t *testing.T) {
	const size = 1024
	disks := map[string]func(t *testing.T) *File{
		"file":        func(t *testing.T) *File { return open(t, mapper.DiskConfig{Path: image(t, size)}) },
		"direct file": func(t *testing.T) *File { return openDirect(t, image(t, size)) },
		"loop device": func(t *testing.T) *File { return open(t, mapper.DiskConfig{Path: loop(t, image(t, size))}) },
		"direct loop": func(t *testing.T) *File { return openDirect(t, loop(t, image(t, size))) },
	}
	for name, newDisk := range disks {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			if d.Sectors() != size {
				t.Fatalf("%d sectors, want %d", d.Sectors(), size)
			}
			if got := d.Limits().Buffered; got != (name == "file") {
				t.Errorf("buffered: %v", got)
			}
			rng := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
			block := d.Limits().LogicalSectors()
			want := make([]byte, mapper.Sector(size).Bytes())
			for range 300 {
				n := block * (1 + mapper.Sector(rng.IntN(int(16/block))))
				s := block * mapper.Sector(rng.IntN(int((size-n)/block)))
				r := mapper.Request{Op: mapper.Op(rng.IntN(int(mapper.OpWriteZeroes) + 1)), Start: s, Count: n}
				model := want[s.Bytes():(s + n).Bytes()]
				switch r.Op {
				case mapper.OpRead:
					r.Data = odd(rng, n)
				case mapper.OpWrite:
					r.Data = odd(rng, n)
					for i := range r.Data {
						r.Data[i] = byte(rng.Uint32())
					}
					copy(model, r.Data)
					if rng.IntN(4) == 0 {
						r.Flags = mapper.FlagFUA
					}
				case mapper.OpFlush:
					r.Start, r.Count = 0, 0
				case mapper.OpDiscard:
					continue // leaves anything
				case mapper.OpWriteZeroes:
					r.Flags = []mapper.Flags{0, mapper.FlagFUA, mapper.FlagNoUnmap}[rng.IntN(3)]
				}
				err := d.Submit(ctx, r)
				if r.Op == mapper.OpWriteZeroes && errors.Is(err, mapper.ErrNotSupported) {
					continue
				}
				if err != nil {
					t.Fatalf("%s of %d at %d: %v", r.Op, n, s, err)
				}
				if r.Op == mapper.OpWriteZeroes {
					clear(model)
				}
				if r.Op == mapper.OpRead && !bytes.Equal(r.Data, model) {
					t.Fatalf("read of %d at %d differs from what was written", n, s)
				}
			}
		})
	}
}

func openDirect(t *testing.T, path string) *File {
	t.Helper()
	d, err := Opener{}.Open(ctx, mapper.DiskConfig{Path: path, Direct: true})
	if errors.Is(err, unix.EINVAL) {
		t.Skipf("needs a file system with direct I/O: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.(*File).Close() })
	return d.(*File)
}

// odd returns n sectors of memory, at any alignment.
func odd(rng *rand.Rand, n mapper.Sector) []byte {
	skip := rng.IntN(16)
	return make([]byte, int(n.Bytes())+skip)[skip:]
}

// A failed FUA write may have been the one time that the system tells of an earlier loss: the next flush fails too.
func TestFailedSyncOfAWriteIsRemembered(t *testing.T) {
	was := pwriteDurable
	defer func() { pwriteDurable = was }()
	for _, tt := range []struct {
		err      unix.Errno
		sticks   bool
		writeErr error
	}{
		{unix.EIO, true, mapper.ErrIO},
		{unix.ENOSPC, true, mapper.ErrNoSpace}, // the write itself finds space, so it was the sync
		{unix.EOPNOTSUPP, false, nil},
		{unix.ENOSYS, false, nil},
		{0, false, nil},
	} {
		d := open(t, mapper.DiskConfig{Path: image(t, 64)})
		pwriteDurable = func(fd int, p []byte, off int64) (int, error) {
			if tt.err != 0 {
				return 0, tt.err
			}
			return was(fd, p, off)
		}
		data := bytes.Repeat([]byte{7}, 1024)
		err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: 2, Count: 2, Data: data})
		if !errors.Is(err, tt.writeErr) {
			t.Errorf("%v: write: %v, want %v", tt.err, err, tt.writeErr)
		}
		if err := d.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); (err != nil) != tt.sticks {
			t.Errorf("%v: flush: %v", tt.err, err)
		}
		have := make([]byte, 1024)
		if _, err := d.f.ReadAt(have, 1024); err != nil || !bytes.Equal(have, data) {
			t.Errorf("%v: the data was not written: %v", tt.err, err)
		}
	}
}

// A disk that has shrunk fails to be read past its end, and does not give rubbish.
func TestShrunk(t *testing.T) {
	path := image(t, 64)
	d := open(t, mapper.DiskConfig{Path: path})
	if err := os.Truncate(path, 32*512+100); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		s, n mapper.Sector
		ok   bool
	}{{0, 32, true}, {31, 2, false}, {32, 1, false}, {60, 4, false}, {63, 2, false}, {64, 1, false}, {1 << 62, 1, false}, {1, 1<<64 - 1, false}} {
		r := mapper.Request{Op: mapper.OpRead, Start: tt.s, Count: tt.n}
		if tt.n < 64 {
			r.Data = make([]byte, tt.n.Bytes())
		}
		err := d.Submit(ctx, r)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, mapper.ErrIO) {
			t.Errorf("read of %d at %d: %v", tt.n, tt.s, err)
		}
	}
}

// What the file system refuses for lack of space is ErrNoSpace, and a flush that failed fails for ever.
func TestErrors(t *testing.T) {
	d := open(t, mapper.DiskConfig{Path: image(t, 64)})
	for _, tt := range []struct {
		errno unix.Errno
		want  error
	}{
		{unix.ENOSPC, mapper.ErrNoSpace}, {unix.EDQUOT, mapper.ErrNoSpace}, {unix.EFBIG, mapper.ErrNoSpace},
		{unix.ENODATA, mapper.ErrMedium}, {unix.EOPNOTSUPP, mapper.ErrNotSupported}, {unix.EIO, mapper.ErrIO}, {unix.EBADF, mapper.ErrIO},
	} {
		if err := d.wrap(mapper.OpWrite, tt.errno); !errors.Is(err, tt.want) {
			t.Errorf("%v becomes %v", tt.errno, err)
		}
	}
	d.f.Close() // so that fdatasync fails
	first := d.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
	if !errors.Is(first, mapper.ErrIO) {
		t.Errorf("flush: %v", first)
	}
	if again := d.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); again != first {
		t.Errorf("the next flush: %v", again)
	}
}

// The write fails on a file system that is full, and is not taken for a lost flush.
func TestFullFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, 0)
	path := filepath.Join(dir, "img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	d := open(t, mapper.DiskConfig{Path: path})
	defer d.Close()
	data := make([]byte, 1<<20)
	for _, flags := range []mapper.Flags{0, mapper.FlagFUA} {
		err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: flags, Count: 2048, Data: data})
		if !errors.Is(err, mapper.ErrNoSpace) {
			t.Errorf("write with flags %d: %v, want %v", flags, err, mapper.ErrNoSpace)
		}
	}
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// Holes are found where they are, in sectors, and Extent always gets on.
func TestExtents(t *testing.T) {
	const size = 4096
	path := image(t, size)
	d := open(t, mapper.DiskConfig{Path: path})
	write := func(s, n mapper.Sector) {
		t.Helper()
		if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: s, Count: n, Data: bytes.Repeat([]byte{1}, int(n.Bytes()))}); err != nil {
			t.Fatal(err)
		}
	}
	walk := func() string {
		var b strings.Builder
		for s := mapper.Sector(0); s < size; {
			run, data, err := d.Extent(ctx, s, size-s)
			if err != nil || run < 1 || run > size-s {
				t.Fatalf("Extent at %d: %d, %v, %v", s, run, data, err)
			}
			fmt.Fprintf(&b, "%d+%d %t ", s, run, data)
			s += run
		}
		return strings.TrimSpace(b.String())
	}
	if got, want := walk(), "0+4096 false"; got != want {
		t.Errorf("empty: %s, want %s", got, want)
	}
	write(1024, 1024)
	if got, want := walk(), "0+1024 false 1024+1024 true 2048+2048 false"; got != want {
		t.Errorf("one extent: %s, want %s", got, want)
	}
	if have, ok := d.Allocated(0, size); !ok || have != 1024 {
		t.Errorf("Allocated: %d, %t, want 1024", have, ok)
	}
	write(0, size)
	if got, want := walk(), "0+4096 true"; got != want {
		t.Errorf("full: %s, want %s", got, want)
	}
	if have, ok := d.Allocated(100, 50); !ok || have != 50 {
		t.Errorf("Allocated of a part of a full file: %d, %t", have, ok)
	}
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: 512, Count: 512}); err != nil {
		t.Fatal(err)
	}
	if got, want := walk(), "0+512 true 512+512 false 1024+3072 true"; got != want {
		t.Errorf("punched: %s, want %s", got, want)
	}
}

// Extent gets on while others punch and write.
func TestExtentWhileItChanges(t *testing.T) {
	d := open(t, mapper.DiskConfig{Path: image(t, 64)})
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		data := make([]byte, 4096)
		for !stop.Load() {
			d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 8, Count: 8, Data: data})
			d.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: 8, Count: 8})
		}
	}()
	for range 20000 {
		if run, _, err := d.Extent(ctx, 8, 56); err != nil || run < 1 {
			t.Errorf("Extent: %d, %v", run, err)
			break
		}
	}
	stop.Store(true)
	<-done
}
