package verity

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A block that was verified before and cannot be read any more is repaired or an error: that it was verified says nothing of what
// is in the buffer instead.
func TestOnceDoesNotTrustWhatWasNotRead(t *testing.T) {
	im := newImage(shape{1, 512, 512, 40, 0, "sha256", "aa"})
	below, hash := im.disks(t)
	data, parity := mappertest.NewFaulty(below), mappertest.NewDisk("1:3", 100)
	h := mappertest.NewHost(data, hash, parity)
	h.RO = true
	options := strings.Fields("check_at_most_once use_fec_from_device 1:3 fec_blocks 40 fec_start 0 fec_roots 2")
	made, err := newTarget(ctx, h, im.spec(options...))
	if err != nil {
		t.Fatal(err)
	}
	v := made.(*target)
	for range 2 {
		if got, err := im.read(v, 0, 8); err != nil || !bytes.Equal(got, im.data[:8*512]) {
			t.Fatalf("as long as all can be read: %v", err)
		}
	}
	data.Inject(mappertest.Fault{Start: 3, End: 4}) // and there is no parity to repair it
	if _, err := im.read(v, 0, 8); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("block 3 cannot be read: %v, want %v", err, mapper.ErrIO)
	}
	if got, err := im.read(v, 4, 4); err != nil || !bytes.Equal(got, im.data[4*512:8*512]) {
		t.Errorf("the blocks behind: %v", err)
	}
}

// A read that is verified already takes no memory, and no longer way than one of linear.
func TestWarmReadDoesNotAllocate(t *testing.T) {
	im := newImage(shape{1, 4096, 4096, 40, 0, "sha256", "aa"})
	data, hash := im.disks(t)
	v, _ := im.open(t, data, hash, "check_at_most_once")
	if _, err := im.read(v, 0, 40); err != nil {
		t.Fatal(err)
	}
	r := mapper.Request{Op: mapper.OpRead, Start: 16, Count: 16, Data: make([]byte, 16*512)}
	if n := testing.AllocsPerRun(100, func() { _ = v.Submit(ctx, r) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
