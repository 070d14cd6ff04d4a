package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// crashLines are the devices whose power is cut.
var crashLines = map[string]string{
	"J":      "0 - J 3 internal_hash:crc32c journal_sectors:300 fix_padding",
	"J mac":  "0 - J 5 internal_hash:sha1 journal_sectors:300 journal_mac:hmac(sha256):" + key16 + " fix_hmac fix_padding",
	"J ctr":  "0 - J 4 internal_hash:crc32c journal_sectors:300 journal_crypt:ctr(aes):" + key16 + " fix_padding",
	"J cbc":  "0 - J 4 internal_hash:crc32c journal_sectors:300 journal_crypt:cbc(aes):" + key16 + " fix_padding",
	"J 4096": "0 - J 4 internal_hash:crc32c journal_sectors:900 block_size:4096 fix_padding",
	"J meta": "0 - J 3 internal_hash:crc32c journal_sectors:300 meta_device:1:2",
	"B":      "0 - B 4 internal_hash:crc32c sectors_per_bit:16 bitmap_flush_interval:1 fix_padding",
	"B meta": "0 - B 4 internal_hash:crc32c sectors_per_bit:16 bitmap_flush_interval:1 meta_device:1:2",
}

const crashLen = 400 // sectors

// A history is which writes each block may hold: the last that is durable, and all that came after it.
type history struct {
	mu  sync.Mutex
	may [][]uint64
}

func (h *history) writes(first, n int, serial uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for b := first; b < first+n; b++ {
		h.may[b] = append(h.may[b], serial)
	}
}

// durable notes that of the writes up to serial the last is durable.
func (h *history) durable(serial uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for b, list := range h.may {
		for len(list) > 1 && list[1] <= serial {
			list = list[1:]
		}
		h.may[b] = list
	}
}

func (h *history) snapshot() [][]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := make([][]uint64, len(h.may))
	for i := range now {
		now[i] = append([]uint64(nil), h.may[i]...)
	}
	return now
}

// A cut is what a power cut left.
type cut struct {
	disks []*mappertest.Crash
	may   [][]uint64
	seed  uint64
}

// The power is cut at every write to the disks of a workload, with three outcomes each. Whatever is then on them opens; no block has a tag that
// does not match; every block is the old one or a newer one as a whole, and what was flushed is there. A number of states is tried of each
// device.
func TestPowerCuts(t *testing.T) {
	most := mappertest.Cuts(120)
	for name, line := range crashLines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := mappertest.Seed(t)
			tried := 0
			for round := uint64(0); tried < most; round++ {
				cuts := workload(t, line, seed+round)
				stride := max(1, len(cuts)/most) // all of them, if there is time
				for i := 0; i < len(cuts) && tried < most; i += stride {
					recovered(t, line, cuts[i])
					tried++
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d states", tried)
		})
	}
}

func crashDisks(line string) (*mappertest.Power, []mapper.Disk) {
	power := new(mappertest.Power)
	disks := []mapper.Disk{power.Disk("1:1", 4096)}
	if strings.Contains(line, "meta_device") {
		disks = append(disks, power.Disk("1:2", 1024))
	}
	return power, disks
}

// workload writes by chance and returns the states that power cuts leave.
func workload(t *testing.T, line string, seed uint64) []cut {
	rnd := rand.New(rand.NewPCG(seed, 1))
	power, disks := crashDisks(line)
	args := append([]string{"1:1"}, strings.Fields(line)...)
	x := open(t, crashLen, args, disks...)
	size := mapper.Sector(1) << x.geometry.blockShift
	blocks := int(crashLen / size)
	h := &history{may: make([][]uint64, blocks)}
	h.writes(0, blocks, 1)
	if err := errors.Join(x.write(0, crashLen, 1), x.Submit(ctx, mapper.Request{Op: mapper.OpFlush})); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var cuts []cut
	look := func(_ *mappertest.Crash, r mapper.Request) {
		if r.Op == mapper.OpRead {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		may := h.snapshot()
		for _, s := range []uint64{mappertest.LoseAll, mappertest.KeepAll, seed + 2 + uint64(len(cuts))} {
			cuts = append(cuts, cut{power.Cut(s).Disks(), may, s})
		}
	}
	power.SetBefore(look)
	for serial := uint64(2); serial < 30; serial++ {
		first := rnd.IntN(blocks)
		n := min(1+rnd.IntN(20), blocks-first)
		h.writes(first, n, serial)
		if err := x.write(mapper.Sector(first)*size, mapper.Sector(n)*size, serial); err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(3) == 0 {
			if err := x.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
			h.durable(serial)
		}
	}
	x.close()
	h.durable(30)
	look(nil, mapper.Request{Op: mapper.OpFlush})
	return cuts
}

// recovered opens what a cut left.
func recovered(t *testing.T, line string, c cut) {
	t.Helper()
	disks := make([]mapper.Disk, len(c.disks))
	for i, d := range c.disks {
		disks[i] = d
	}
	x, err := try(crashLen, append([]string{"1:1"}, strings.Fields(line)...), disks...)
	if err != nil {
		t.Fatalf("seed %d: it does not open: %v", c.seed, err)
	}
	defer x.close()
	if log := x.host.Log(); len(log) > 0 {
		t.Fatalf("seed %d: %q", c.seed, log)
	}
	size := mapper.Sector(1) << x.geometry.blockShift
	for b, may := range c.may {
		p, err := x.read(mapper.Sector(b)*size, size)
		if err != nil {
			t.Fatalf("seed %d: block %d: %v", c.seed, b, err)
		}
		if !isOneOf(p, mapper.Sector(b)*size, may) {
			t.Fatalf("seed %d: block %d holds %s, want one of %v", c.seed, b, mappertest.Describe(p[:mapper.SectorSize]), may)
		}
	}
}

func isOneOf(p []byte, s mapper.Sector, serials []uint64) bool {
	for _, serial := range serials {
		if bytes.Equal(p, mappertest.Stamped(s, mapper.SectorsOf(int64(len(p))), serial)) {
			return true
		}
	}
	return false
}

// After a power cut what a bit of the bitmap covers is recalculated, after which all is verified again and the disk is clean when it is closed.
func TestBitmapRecovery(t *testing.T) {
	line := crashLines["B"]
	for _, c := range workload(t, line, 7)[:60] {
		disks := []mapper.Disk{c.disks[0]}
		args := append([]string{"1:1"}, strings.Fields(line)...)
		x := open(t, crashLen, args, disks...)
		for x.recalculates() {
			time.Sleep(time.Millisecond)
		}
		x.close()
		x = open(t, crashLen, append([]string{"1:1"}, strings.Fields("0 - D 1 internal_hash:crc32c")...), disks...)
		if _, err := x.read(0, crashLen); err != nil {
			t.Errorf("seed %d: after the recalculation: %v", c.seed, err)
		}
		if x.super.flags&flagDirtyBitmap != 0 {
			t.Errorf("seed %d: the disk was closed, and says that it was not", c.seed)
		}
		x.close()
	}
}

// What no bit covers is not recalculated, also between two that do: a block that was damaged there does not come to match.
func TestBitmapLeavesTheRest(t *testing.T) {
	args := append([]string{"1:1"}, strings.Fields(crashLines["B"])...)
	power, disks := crashDisks("")
	x := open(t, crashLen, args, disks...)
	if err := errors.Join(x.write(0, crashLen, 1), x.PostSuspend(ctx), x.PreResume(ctx)); err != nil {
		t.Fatal(err)
	}
	x.Resume()
	if err := errors.Join(x.write(0, 1, 2), x.write(300, 1, 2)); err != nil {
		t.Fatal(err)
	}
	left := power.Cut(mappertest.KeepAll).Disks()[0]
	x.close()
	const damaged = 160
	at := mapper.Sector(x.geometry.dataSector(damaged))
	if err := left.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 1, Data: mappertest.Stamped(7, 1, 7)}); err != nil {
		t.Fatal(err)
	}
	y := open(t, crashLen, args, left)
	defer y.close()
	for y.recalculates() {
		time.Sleep(time.Millisecond)
	}
	for _, s := range []mapper.Sector{0, 300} {
		if _, err := y.read(s, 1); err != nil {
			t.Errorf("sector %d: %v", s, err)
		}
	}
	if _, err := y.read(damaged, 1); mapper.Errno(err) != unix.EILSEQ {
		t.Errorf("the damaged sector: %v, want EILSEQ", err)
	}
}

func TestHistory(t *testing.T) {
	h := &history{may: make([][]uint64, 1)}
	for s := range uint64(4) {
		h.writes(0, 1, s+1)
	}
	h.durable(3)
	if got := fmt.Sprint(h.may); got != "[[3 4]]" {
		t.Errorf("%s", got)
	}
}
