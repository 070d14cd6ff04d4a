package dust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

func TestConformance(t *testing.T) {
	for _, args := range []string{"7:0 99 512", "7:0 8 4096"} {
		t.Run(args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1000}}, Len: 320, Args: strings.Fields(args), NoDisk: unix.EINVAL,
			})
		})
	}
}

func build(length mapper.Sector, line string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", 1000)}
	}
	h := mappertest.NewHost(disks...)
	got, err := newTarget(ctx, h, mapper.Spec{Len: length, Args: strings.Fields(line)})
	if err != nil {
		return nil, h, err
	}
	return got.(*target), h, nil
}

func mustBuild(t testing.TB, length mapper.Sector, line string, disks ...mapper.Disk) (*target, *mappertest.Host) {
	t.Helper()
	tg, h, err := build(length, line, disks...)
	if err != nil {
		t.Fatal(err)
	}
	return tg, h
}

// say sends a message that must be taken.
func say(t testing.TB, tg *target, words string) string {
	t.Helper()
	reply, err := tg.Message(ctx, strings.Fields(words))
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return reply
}

// The reasons and the order of the checks are those of the kernel, see the scenario dust-arguments.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		len        mapper.Sector
		args, want string
	}{
		{100, "7:0 0", "Invalid argument count"},
		{100, "7:0 x 0", "Invalid block size parameter"},
		{100, "7:0 x 4294967296", "Invalid block size parameter"},
		{100, "7:0 x 511", "Block size must be at least 512"},
		{100, "7:0 x 513", "Block size must be a power of 2"},
		{100, "7:0 x 65536", "Block size is too large"},
		{8000000, "7:0 x 2147483648", "Block size is too large"},
		{100, "nosuch x 512", "Invalid device offset sector"},
		{100, "nosuch 0 512", "Device lookup failed"},
		{100, "4k 0 512", "Invalid block size parameter"},
	} {
		large := mappertest.NewDisk("4k", 1000)
		large.SetLimits(mapper.Limits{LogicalBlock: 4096})
		_, _, err := build(c.len, c.args, mappertest.NewDisk("7:0", 1000), large)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != unix.EINVAL {
			t.Errorf("%d %q: got %v (%v), want %q", c.len, c.args, err, mapper.Errno(err), c.want)
		}
	}
}

// Messages that are refused, and what the log gets.
func TestMessageRefusals(t *testing.T) {
	for _, c := range []struct {
		message, want string
		errno         unix.Errno
	}{
		{"hello", "unrecognized message 'hello' received", unix.EINVAL},
		{"Hello 1", "unrecognized message 'Hello' received", unix.EINVAL},
		{"hello 1 2", "unrecognized message 'hello' received", unix.EINVAL},
		{"removebadblock 1 2", "unrecognized message 'removebadblock' received", unix.EINVAL},
		{"addbadblock 1 2 3", "invalid number of arguments '4'", unix.EINVAL},
		{"QueryBlock", "QueryBlock requires an additional argument", unix.EINVAL},
		{"addbadblock x", "", unix.EINVAL},
		{"addbadblock 18446744073709551616", "", unix.EINVAL},
		{"addbadblock 1 x", "", unix.EINVAL},
		{"addbadblock 1 4294967297", "", unix.EINVAL},
		{"addbadblock 2000 256", "selected write fail count out of range", unix.EINVAL},
		{"hello 1001", "selected block value out of range", unix.EINVAL},
		{"addbadblock 7", "dust_add_block: block 7 already in badblocklist", unix.EINVAL},
		{"removebadblock 8", "dust_remove_block: block 8 not found in badblocklist", unix.EINVAL},
	} {
		tg, _ := mustBuild(t, 100, "7:0 0 512")
		say(t, tg, "addbadblock 7")
		_, err := tg.Message(ctx, strings.Fields(c.message))
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || err.Error() == "" || mapper.Errno(err) != c.errno {
			t.Errorf("%q: got %v, want %q", c.message, err, c.want)
		}
		if got := say(t, tg, "listbadblocks"); got != "7\n" {
			t.Errorf("%q changed the list: %q", c.message, got)
		}
	}
}

// When quiet, changes of the list and refusals to change it are not logged.
func TestQuiet(t *testing.T) {
	tg, h := mustBuild(t, 100, "7:0 0 512")
	say(t, tg, "quiet")
	say(t, tg, "enable")
	say(t, tg, "addbadblock 5")
	_, err := tg.Message(ctx, []string{"addbadblock", "5"})
	var arg *mapper.ArgError
	if !errors.As(err, &arg) || arg.Reason != "" || arg.Detail == "" {
		t.Errorf("a block that is bad already: %v", err)
	}
	if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 5, Count: 1, Data: make([]byte, 512)}); err != nil {
		t.Error(err)
	}
	if got, want := h.Log(), []string{"enabling read failures on bad sectors"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
	if got, _ := tg.Status(ctx, false); got != "7:0 fail_read_on_bad_block quiet" {
		t.Errorf("status %q", got)
	}
}

// A write that fails because of a bad block has no effect, and a flush touches no block.
func TestWritesAndFlushes(t *testing.T) {
	disk := mappertest.NewDisk("7:0", 1000)
	tg, _ := mustBuild(t, 100, "7:0 16 4096", disk)
	say(t, tg, "enable")
	say(t, tg, "addbadblock 2 1")
	if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil || say(t, tg, "countbadblocks") != "countbadblocks: 1 badblock(s) found" {
		t.Errorf("a flush: %v, %s", err, say(t, tg, "countbadblocks"))
	}
	w := mapper.Request{Op: mapper.OpWrite, Start: 4, Count: 1, Data: mappertest.Stamped(4, 1, 9)}
	if err := tg.Submit(ctx, w); !errors.Is(err, mapper.ErrIO) || disk.Counts().Writes != 0 {
		t.Errorf("the write that shall fail: %v, %d writes", err, disk.Counts().Writes)
	}
	if err := tg.Submit(ctx, w); err != nil || !slices.Equal(disk.Peek(20, 1), w.Data) {
		t.Errorf("the write after: %v", err)
	}
	if got := say(t, tg, "queryblock 2"); got != "dust_query_block: block 2 not found in badblocklist" {
		t.Error(got)
	}
	if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: 4, Count: 90}); !errors.Is(err, mapper.ErrNotSupported) {
		t.Errorf("write-zeroes past bad blocks: %v, want them done block by block", err)
	}
}

// The list agrees with a plain one through any changes.
func TestBlockList(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var l blockList
	plain := make(map[uint64]uint8)
	for i := range 60000 {
		b := rnd.Uint64N(8000)
		if i%20000 > 15000 {
			b = 1<<54 - rnd.Uint64N(10)
		}
		if rnd.IntN(3) == 0 || i > 40000 && rnd.IntN(8) != 0 {
			_, bad := plain[b]
			if l.remove(b) != bad {
				t.Fatalf("remove(%d): was it bad? %v", b, bad)
			}
			delete(plain, b)
			continue
		}
		l.set(b, uint8(i))
		plain[b] = uint8(i)
	}
	if l.count != len(plain) {
		t.Fatalf("count %d, want %d", l.count, len(plain))
	}
	var got []uint64
	l.all(func(b uint64) { got = append(got, b) })
	if len(got) != len(plain) || !slices.IsSorted(got) {
		t.Fatalf("%d blocks, want %d in ascending order", len(got), len(plain))
	}
	for _, b := range got {
		if n, bad := l.find(b); !bad || n != plain[b] {
			t.Fatalf("find(%d) = %d, %v; want %d", b, n, bad, plain[b])
		}
	}
}

// A million bad blocks are added, listed and cleared, and the list has a bound.
func TestManyBlocks(t *testing.T) {
	disk := mappertest.NewDisk("7:0", 1<<40)
	tg, _ := mustBuild(t, 1<<40, "7:0 0 512", disk)
	say(t, tg, "quiet")
	for i := range uint64(1 << 20) {
		tg.bad.set(i*3, 0)
	}
	if got := say(t, tg, "countbadblocks"); got != "countbadblocks: 1048576 badblock(s) found" {
		t.Error(got)
	}
	list := say(t, tg, "listbadblocks")
	if n := strings.Count(list, "\n"); n != 1<<20 || !strings.HasPrefix(list, "0\n3\n6\n") || !strings.HasSuffix(list, "\n"+strconv.Itoa((1<<20-1)*3)+"\n") {
		t.Errorf("a list of %d lines", n)
	}
	for i := uint64(1 << 20); tg.bad.count < maxBad; i++ {
		tg.bad.set(i*3, 0)
	}
	if _, err := tg.Message(ctx, []string{"addbadblock", "1"}); mapper.Errno(err) != unix.ENOMEM {
		t.Errorf("one more than there may be: %v, want ENOMEM", err)
	}
	if got := say(t, tg, "clearbadblocks"); got != "dust_clear_badblocks: badblocks cleared" {
		t.Error(got)
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(1000), "7:0 0 4096")
	f.Add(uint64(1)<<40, "7:0 18446744073709551615 1073741824")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		tg, _, err := build(mapper.Sector(length), line)
		if err != nil {
			return
		}
		table := tg.Table(true)
		again, _, err := build(mapper.Sector(length), strings.Join(table, " "))
		if err != nil || !slices.Equal(again.Table(true), table) || tg.block != 1<<tg.shift {
			t.Errorf("rebuilt from %q: %v", table, err)
		}
	})
}

// FuzzMessages: whatever is said, the list is in order and counted.
func FuzzMessages(f *testing.F) {
	f.Add("addbadblock 5;addbadblock 6 255;removebadblock 5;listbadblocks;quiet;enable")
	f.Add("AddBadBlock 1000;queryblock 18446744073709551615;clearbadblocks")
	f.Fuzz(func(t *testing.T, text string) {
		tg, _ := mustBuild(t, 100, "7:0 0 512")
		for _, m := range strings.Split(text, ";") {
			words := strings.Fields(m)
			if len(words) == 0 {
				continue // the core refuses it
			}
			_, err := tg.Message(ctx, words)
			var arg *mapper.ArgError
			if err != nil && (!errors.As(err, &arg) || err.Error() == "") {
				t.Errorf("%q: %v", m, err)
			}
		}
		n, last := 0, -1
		tg.bad.all(func(b uint64) {
			if int(b) <= last || b > 1000 {
				t.Errorf("%q: block %d after %d", text, b, last)
			}
			n, last = n+1, int(b)
		})
		if n != tg.bad.count {
			t.Errorf("%q: %d blocks, counted %d", text, n, tg.bad.count)
		}
	})
}

// Neither without bad blocks nor among many is there an allocation.
func TestSubmitDoesNotAllocate(t *testing.T) {
	tg, _ := mustBuild(t, 8000, "7:0 0 4096", mappertest.Null{Name: "7:0", Size: 8000})
	for _, before := range []string{"disable", "enable", "addbadblock 5"} {
		say(t, tg, before)
		for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
			r := mapper.Request{Op: op, Start: 16, Count: 8, Data: make([]byte, 4096)}
			if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
				t.Errorf("%s: %v allocations for a %s, want none", before, n, op)
			}
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []uint64{1, 1000, 1000000} {
		var l blockList
		for i := range n {
			l.set(i*5, 0)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := uint64(0); b.Loop(); i += 7919 {
				l.find(i % (n * 5))
			}
		})
	}
}
