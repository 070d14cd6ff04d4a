package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// However many requests there are, the daemon's memory is bounded: those that run share a fixed number of buffers, and a
// read that waits for a suspended device has none. The command that resumes it gets through.
func TestMemoryIsBounded(t *testing.T) {
	const (
		requests = 2000
		size     = 1 << 20
		most     = 256 << 20 // half of it for those that run, half for those that wait
	)
	b := newBench(t)
	b.mount("")
	image := b.image("big", 64*size/512)
	b.control("create big 0 " + strconv.Itoa(64*size/512) + " linear " + image + " 0\n")
	f, err := os.OpenFile(b.mnt+"/big", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()

	if peak := b.memory("VmHWM"); peak > 64<<20 {
		t.Fatalf("%d MiB before the first request", peak>>20)
	}
	data := make([]byte, size) // all may share it: what is in it does not matter
	b.control("suspend big\n")
	var all sync.WaitGroup
	var failed, begun atomic.Int32
	for i := range requests {
		all.Go(func() {
			begun.Add(1)
			if n, err := syscall.Pread(int(f.Fd()), data, int64(i%64)*size); n != size || err != nil {
				failed.Add(1)
			}
		})
	}
	b.waitFor("all reads have been sent", func() bool { return begun.Load() == requests })
	time.Sleep(200 * time.Millisecond)
	if now := b.memory("VmRSS"); now > 128<<20 {
		t.Errorf("%d MiB while %d reads of 1 MiB wait", now>>20, requests)
	}
	b.control("resume big\n")
	all.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d reads failed", n)
	}

	for i := range requests {
		all.Go(func() {
			if n, err := syscall.Pwrite(int(f.Fd()), data, int64(i%64)*size); n != size || err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d writes failed", n)
	}
	t.Logf("%d MiB at most", b.memory("VmHWM")>>20)
	if peak := b.memory("VmHWM"); peak > most {
		t.Errorf("%d MiB at most, want no more than %d", peak>>20, most>>20)
	}
}

// memory returns a figure of the daemon's memory in bytes: VmRSS or VmHWM.
func (b *bench) memory(field string) int64 {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.daemon()))
	must(b.t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			must(b.t, err)
			return n << 10
		}
	}
	b.t.Fatalf("no %s in\n%s", field, text)
	return 0
}

// Writes through a target that has them wait for each other, if only for a moment, are all carried out, however many there are.
func TestManyShortWaits(t *testing.T) {
	const requests, size = 600, 1 << 20
	b := newBench(t)
	b.mount("")
	b.control("create p 0 " + strconv.Itoa(64*size/512) + " powercut " + b.image("image", 64*size/512) + " 0\n")
	f, err := os.OpenFile(b.mnt+"/p", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	data := make([]byte, size)
	var all sync.WaitGroup
	var failed atomic.Int32
	for i := range requests {
		all.Go(func() {
			if n, err := syscall.Pwrite(int(f.Fd()), data, int64(i%64)*size); n != size || err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d writes failed", n, requests)
	}
}
