package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// Tags that come with the data are kept with them, in every mode, over a crash too; a request without gets zeroes in
// the journal, and leaves the tag alone elsewhere.
func TestTags(t *testing.T) {
	for _, line := range []string{"0 12 J 1 journal_sectors:60", "0 12 D 0", "0 3 J 2 block_size:4096 journal_sectors:900", "0 8 D 1 meta_device:1:2"} {
		power := new(mappertest.Power)
		disks := []mapper.Disk{power.Disk("1:1", 4096), power.Disk("1:2", 1024)}
		args := append([]string{"1:1"}, strings.Fields(line)...)
		x := open(t, 400, args, disks...)
		var l mapper.Limits
		x.Hints(&l)
		want := mapper.TagFormat{Size: x.geometry.tagSize, Unit: mapper.SectorSize << x.geometry.blockShift}
		if l.Tags != want {
			t.Errorf("%s: tags %+v, want %+v", line, l.Tags, want)
		}
		tags := make([]byte, want.Len(400))
		for i := range tags {
			tags[i] = byte(i*7 + i>>8)
		}
		check := func(when string) {
			t.Helper()
			data, got := make([]byte, 400*mapper.SectorSize), make([]byte, len(tags))
			err := x.each(mapper.Request{Op: mapper.OpRead, Count: 400, Data: data, Tags: got})
			if err != nil || !bytes.Equal(got, tags) || mappertest.CheckStamp(data, 0, 5) != nil {
				t.Errorf("%s: %s: %v", line, when, err)
			}
		}
		if err := x.each(mapper.Request{Op: mapper.OpWrite, Count: 400, Data: mappertest.Stamped(0, 400, 5), Tags: tags}); err != nil {
			t.Fatal(err)
		}
		check("as written")
		if err := x.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
			t.Fatal(err)
		}
		after := power.Cut(mappertest.LoseAll).Disks()
		x.close()
		x = open(t, 400, args, after[0], after[1])
		check("after a crash")
		if err := x.write(0, 8, 5); err != nil {
			t.Fatal(err)
		}
		if x.line.mode == 'J' {
			clear(tags[:want.Len(8)])
		}
		check("written without tags")
		short := mapper.Request{Op: mapper.OpRead, Count: 8, Data: make([]byte, 4096), Tags: make([]byte, want.Len(8)+1)}
		if err := x.Submit(ctx, short); mapper.Errno(err) != unix.EIO || !slices.Contains(x.host.Log(), fmt.Sprintf("Invalid integrity data size %d, expected %d", want.Len(8)+1, want.Len(8))) {
			t.Errorf("%s: tags of another length: %v, %q", line, err, x.host.Log())
		}
		x.close()
	}
	x := open(t, 8, strings.Fields("1:1 0 4 D 1 internal_hash:crc32c"), mappertest.NewDisk("1:1", 4096))
	defer x.close()
	if err := x.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 8, Data: make([]byte, 4096), Tags: make([]byte, 32)}); mapper.Errno(err) != unix.EIO {
		t.Errorf("tags beside internal_hash: %v", err)
	}
}

// Each flipped bit of data or tags is found, and counted once a request.
func TestFlips(t *testing.T) {
	d := mappertest.NewDisk("1:1", 4096)
	x := open(t, 64, strings.Fields("1:1 0 - D 2 internal_hash:sha1 buffer_sectors:1"), d)
	if err := x.write(0, 64, 1); err != nil {
		t.Fatal(err)
	}
	g := x.geometry
	x.close()
	rnd := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
	for s := uint64(0); s < 64; s++ {
		bit := rnd.IntN(mapper.SectorSize * 8)
		buffer, off := g.tagPlace(s)
		tagBit := off*8 + bit%160
		tagAt := mapper.Sector(g.initial+buffer<<g.bufferShift) + mapper.Sector(tagBit/8/mapper.SectorSize)
		for _, place := range []struct {
			at  mapper.Sector
			bit int
		}{{mapper.Sector(g.dataSector(s)), bit}, {tagAt, tagBit % (8 * mapper.SectorSize)}} {
			damaged := d.Clone()
			p := damaged.Peek(place.at, 1)
			p[place.bit/8] ^= 1 << (place.bit % 8)
			damaged.Poke(place.at, p)
			x := open(t, 64, strings.Fields("1:1 0 - D 1 internal_hash:sha1"), damaged)
			_, err := x.read(0, 64)
			status, _ := x.Status(ctx, false)
			if mapper.Errno(err) != unix.EILSEQ || !strings.HasPrefix(status, "1 ") {
				t.Errorf("sector %d, bit %d of sector %d: %v, status %s", s, place.bit, place.at, err, status)
			}
			if want := fmt.Sprintf("dm-0: Checksum failed at sector 0x%x", s); !slices.Contains(x.host.Log(), want) {
				t.Errorf("log %q, want %q", x.host.Log(), want)
			}
			x.close()
		}
	}
}

// Writes and reads that overlap, flushes and discards at the same time: what a block holds is always what one of them wrote, and verifies.
func TestOverlaps(t *testing.T) {
	for name, line := range crashLines {
		t.Run(name, func(t *testing.T) {
			_, disks := crashDisks(line)
			x := open(t, crashLen, append([]string{"1:1"}, strings.Fields(line)...), disks...)
			defer x.close()
			if err := x.write(0, crashLen, 1); err != nil {
				t.Fatal(err)
			}
			size := mapper.Sector(1) << x.geometry.blockShift
			var wg sync.WaitGroup
			for w := range uint64(4) {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(w, 0))
					for i := range uint64(60) {
						s := mapper.Sector(rnd.IntN(5)) * size
						n := mapper.Sector(1+rnd.IntN(6)) * size
						if i%10 == 9 {
							if err := x.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
								t.Error(err)
							}
						}
						if err := x.write(s, n, w+2); err != nil {
							t.Error(err)
						}
						p, err := x.read(s, n)
						if err != nil {
							t.Error(err)
						}
						for b := mapper.Sector(0); b < n; b += size {
							if !isOneOf(p[b.Bytes():(b+size).Bytes()], s+b, []uint64{1, 2, 3, 4, 5}) {
								t.Errorf("sector %d holds %s", s+b, mappertest.Describe(p[b.Bytes():][:mapper.SectorSize]))
							}
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// A journal that cannot be written back tells those who wait for room why, and goes on when the disk does.
func TestStuckJournal(t *testing.T) {
	disk := mappertest.NewFaulty(mappertest.NewDisk("1:1", 4096))
	x := open(t, 800, strings.Fields("1:1 0 - J 2 internal_hash:crc32c journal_sectors:1"), disk)
	if err := x.write(0, 100, 1); err != nil {
		t.Fatal(err)
	}
	disk.Inject(mappertest.Fault{})
	var err error
	for i := 0; i < 50 && err == nil; i++ {
		err = x.write(100, 200, 2)
	}
	if mapper.Errno(err) != unix.EIO {
		t.Fatalf("with a disk that fails: %v", err)
	}
	disk.Heal()
	if err := errors.Join(x.write(100, 200, 3), x.Submit(ctx, mapper.Request{Op: mapper.OpFlush})); err != nil {
		t.Fatalf("with a disk that works again: %v", err)
	}
	p, err := x.read(0, 300)
	if err != nil || mappertest.CheckStamp(p[:100*512], 0, 1) != nil || mappertest.CheckStamp(p[100*512:], 100, 3) != nil {
		t.Errorf("what was written before and after: %v", err)
	}
	x.close()
}

// Somebody who waits for room leaves when his process is killed, and when a suspend does not wait for I/O.
func TestLeaving(t *testing.T) {
	stall := mappertest.NewStall(mappertest.NewDisk("1:1", 4096))
	x := open(t, 800, strings.Fields("1:1 0 - J 2 internal_hash:crc32c journal_sectors:1"), stall)
	stall.Hold()
	result := make(chan error, 8)
	for i := range mapper.Sector(8) {
		go func() { result <- x.write(i*100, 40, 1) }()
	}
	time.Sleep(20 * time.Millisecond) // until the journal is full, most likely; either way must hold
	x.PreSuspend(true)
	time.Sleep(5 * time.Millisecond)
	stall.Release()
	for range 8 {
		if err := <-result; err != nil && !errors.Is(err, mapper.ErrRequeue) {
			t.Errorf("%v", err)
		}
	}
	x.PreSuspendUndo()
	if err := x.write(0, 800, 2); err != nil {
		t.Error(err)
	}
	x.close()
}

// Nothing is allocated for a request of a block, but for what the journal's background does once in many.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	for _, line := range []string{"0 - D 1 internal_hash:crc32c", "0 - D 1 internal_hash:hmac(sha256):00", "0 - B 1 internal_hash:crc32c", "0 - J 2 internal_hash:sha256 journal_sectors:2000", "0 8 D 0"} {
		x := open(t, 800, append([]string{"1:1"}, strings.Fields(line)...), mappertest.NewDisk("1:1", 16384))
		if err := x.write(0, 800, 1); err != nil {
			t.Fatal(err)
		}
		p := mappertest.Stamped(8, 8, 2)
		for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpRead} {
			r := mapper.Request{Op: op, Start: 8, Count: 8, Data: p}
			n := testing.AllocsPerRun(400, func() {
				if err := x.Submit(ctx, r); err != nil {
					t.Fatal(err)
				}
			})
			if n >= 1 {
				t.Errorf("%s: %v allocations for a %s", line, n, op)
			}
		}
		x.close()
	}
}

// What a request costs on a disk in memory, beside the disk alone.
func BenchmarkSubmit(b *testing.B) {
	const length = 1 << 14
	for _, line := range []string{
		"disk", "0 - D 1 internal_hash:crc32c", "0 - D 1 internal_hash:sha256",
		"0 - J 2 internal_hash:crc32c journal_sectors:65536", "0 - J 2 internal_hash:sha256 journal_sectors:65536",
	} {
		disk := mappertest.NewDisk("1:1", 1<<18)
		var top mapper.Target = disk
		name := line
		if line != "disk" {
			x := open(b, length, append([]string{"1:1"}, strings.Fields(line)...), disk)
			defer x.close()
			top, name = x, strings.Join(strings.Fields(line)[2:5:5], " ")
		}
		if err := top.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: length, Data: mappertest.Stamped(0, length, 1)}); err != nil {
			b.Fatal(err)
		}
		for _, n := range []mapper.Sector{8, 2048} {
			for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
				b.Run(fmt.Sprintf("%s/%s/%d", name, op, n), func(b *testing.B) {
					p := mappertest.Stamped(0, n, 1)
					b.SetBytes(n.Bytes())
					b.ReportAllocs()
					for i := range b.N {
						if err := top.Submit(ctx, mapper.Request{Op: op, Start: mapper.Sector(i) * n % length, Count: n, Data: p}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
