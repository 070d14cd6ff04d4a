package dmfstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dmfs/dmfstest"
)

// start mounts, or skips the test where that cannot be.
func start(t *testing.T) *dmfstest.Mount {
	t.Helper()
	if err := dmfstest.Available(); err != nil {
		t.Skip(err)
	}
	return dmfstest.Start(t)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a device's file for the time of the test.
func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// block returns a block of 4 KiB that says what it is.
func block(what string) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%-64s", what)), 64)
}

// What was flushed survives a power cut, what was not is lost if the cut says so.
func Example() {
	tb := new(dmfstest.Alone)
	defer tb.Close()
	disk := dmfstest.Start(tb).PowerDisk("disk", 1<<20)

	f, err := os.OpenFile(disk.Path(), os.O_RDWR, 0)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	f.WriteAt([]byte("durable"), 0)
	f.Sync()
	f.WriteAt([]byte("at stake"), 4096)
	outcome := disk.Cut(dmfstest.None())
	_, err = f.ReadAt(make([]byte, 1), 0)
	fmt.Printf("%d sectors lost; reading: %v\n", outcome.Lost, errors.Is(err, syscall.EIO))

	disk.Restore()
	text := make([]byte, 8)
	f.ReadAt(text, 0)
	fmt.Printf("%q\n", text)
	f.ReadAt(text, 4096)
	fmt.Printf("%q\n", text)
	f.Close()
	// Output:
	// 1 sectors lost; reading: true
	// "durable\x00"
	// "\x00\x00\x00\x00\x00\x00\x00\x00"
}

// An armed cut comes at the request that was chosen, and two disks of a supply lose their power together.
func TestCutAfter(t *testing.T) {
	m := start(t)
	a := m.PowerDisk("a", 1<<20, "supply rack")
	b := m.PowerDisk("b", 1<<20, "supply rack")
	fa, fb := open(t, a.Path()), open(t, b.Path())
	a.CutAfter(3, "write", dmfstest.Random(7))
	for i := range 3 {
		_, err := fa.WriteAt(block("a"), int64(i)*4096)
		if failed := err != nil; failed != (i == 2) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if !a.AwaitCut(time.Second) || !b.Off() {
		t.Fatal("the power is on")
	}
	if _, err := fb.WriteAt(block("b"), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("without power: %v", err)
	}
	a.Restore()
	if b.Off() {
		t.Error("restored for one disk only")
	}
	if cuts := b.Counter("cuts"); cuts != 1 {
		t.Errorf("%d cuts of b", cuts)
	}
}

// Faults hit the requests that were chosen, and each is counted.
func TestFaults(t *testing.T) {
	m := start(t)
	disk := m.FaultyDisk("disk", 1<<20, 1)
	f := open(t, disk.Path())
	full := disk.Arm("error op=write errno=ENOSPC nth=2")
	for i := range 3 {
		if _, err := f.WriteAt(block("x"), 0); errors.Is(err, syscall.ENOSPC) != (i == 1) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if n := full.Injected(); n != 1 {
		t.Errorf("%d faults counted", n)
	}
	full.Disarm()

	disk.Arm("stall op=flush")
	var flushed atomic.Bool
	var wait sync.WaitGroup
	wait.Go(func() {
		f.Sync()
		flushed.Store(true)
	})
	for disk.Counter("stalled") == 0 {
		time.Sleep(time.Millisecond)
	}
	if flushed.Load() {
		t.Error("a flush that was to wait did not")
	}
	if n := disk.Release(); n != 1 {
		t.Errorf("released %d", n)
	}
	wait.Wait()
}

// After the program was killed the same devices are there, with what was flushed.
func TestCrash(t *testing.T) {
	m := start(t)
	disk := m.PowerDisk("disk", 1<<20)
	stack := m.Create("stack", "0 1024 linear %s 512", disk.Name())
	f, err := os.OpenFile(stack.Path(), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(block("durable"), 8192)
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(block("in memory"), 16384)
	must(t, err)
	must(t, f.Close())
	m.Crash()
	got := make([]byte, 4096)
	f = open(t, stack.Path())
	_, err = f.ReadAt(got, 8192)
	must(t, err)
	if !bytes.Equal(got, block("durable")) {
		t.Errorf("what was flushed is %.20q", got)
	}
	_, err = f.ReadAt(got, 16384)
	must(t, err)
	if !bytes.Equal(got, make([]byte, 4096)) {
		t.Errorf("what was in the memory of a program that was killed is %.20q", got)
	}
}

// Tables change under a device that is in use, and errors say what and why.
func TestDevice(t *testing.T) {
	m := start(t)
	a, b := m.Image("a", 1<<20), m.Image("b", 2<<20)
	d := m.Create("d", "0 2048 linear %s 0", a)
	if got, want := d.Status(), "linear "; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
	f := open(t, d.Path())
	d.Suspend()
	wrote := make(chan error)
	go func() {
		_, err := f.WriteAt(block("moved"), 0)
		wrote <- err
	}()
	select {
	case err := <-wrote:
		t.Errorf("a write to a suspended device returned: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	d.Load("0 4096 linear %s 0", b)
	must(t, <-wrote)
	must(t, f.Sync())
	image, err := os.ReadFile(b)
	must(t, err)
	if !bytes.HasPrefix(image, block("moved")) || d.Size() != 2<<20 {
		t.Errorf("a write that waited is not in the table that came, of %d bytes", d.Size())
	}
	f.Close()
	d.Remove()
	_, err = m.Try("resume d")
	if !errors.Is(err, syscall.ENXIO) {
		t.Errorf("a device that is gone: %v", err)
	}
	_, err = m.Try("create x 0 8 linear nosuch 0")
	if !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.ENOENT) || err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("a disk that is not there: %v", err)
	}
}

// A command that is refused with EAGAIN has failed, and is not tried again.
func TestRefusedForNow(t *testing.T) {
	m := start(t)
	m.Command("create x 0 64 crypt aes-cbc-plain64 %s 0 %s 0", strings.Repeat("5a", 16), m.Image("a", 64<<10))
	m.Command("suspend x")
	m.Command("message x 0 key wipe")
	ended := make(chan error, 1)
	go func() {
		_, err := m.Try("resume x")
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("%v, want EAGAIN", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}
	m.Command("remove x")
}
