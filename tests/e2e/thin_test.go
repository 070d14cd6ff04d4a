package e2e

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// allocated returns st_blocks of a file, in sectors, which is what du shows.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks
}

// holes returns where data and holes of a file begin, in turns, data first, as far as its size.
func holes(t *testing.T, path string) []int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	var list []int64
	for at, whence := int64(0), unix.SEEK_DATA; at < st.Size(); whence = unix.SEEK_DATA + unix.SEEK_HOLE - whence {
		at, err = unix.Seek(int(f.Fd()), at, whence)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		must(t, err)
		if at < st.Size() {
			list = append(list, at)
		}
	}
	return list
}

// fillAt writes n bytes of fill to a file and makes them durable.
func fillAt(t *testing.T, path string, off int64, n int, fill byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{fill}, n), off)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

// What is mapped is what a mounted thin device shows as data, whatever it says of its size; what is discarded or deleted becomes a hole in the image
// below, unless a snapshot has it.
func TestThinSpace(t *testing.T) {
	b := newBench(t)
	const block, size = 64 << 10, 64 << 20
	meta, data := b.image("meta.img", 8192), b.image("data.img", size/512)
	b.mount("")
	b.control("create pool 0 131072 thin-pool " + meta + " " + data + " 128 0\nmessage pool 0 create_thin 0\ncreate vol 0 131072 thin pool 0\n")
	vol := b.mnt + "/vol"
	if got := holes(t, vol); len(got) != 0 || allocated(t, vol) != 0 {
		t.Errorf("a fresh device: data and holes at %v, %d sectors", got, allocated(t, vol))
	}
	fillAt(t, vol, 4*block, 2*block, 1)
	fillAt(t, vol, 10*block+5000, 100, 2)
	check := func(what, path string, want []int64, blocks int64) {
		t.Helper()
		got := holes(t, path)
		same := len(got) == len(want)
		for i := range got {
			same = same && got[i] == want[i]*block
		}
		if !same || allocated(t, path) != blocks*block/512 {
			t.Errorf("%s: data and holes at %v, want blocks %v; %d sectors, want %d blocks", what, got, want, allocated(t, path), blocks)
		}
	}
	check("written", vol, []int64{4, 6, 10, 11}, 3)
	before := allocated(t, data)
	punch := func(off, n int64) {
		t.Helper()
		f, err := os.OpenFile(vol, os.O_RDWR, 0)
		must(t, err)
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
		must(t, errors.Join(f.Sync(), f.Close()))
	}
	punch(4*block, block)
	check("with a hole", vol, []int64{5, 6, 10, 11}, 2)
	if after := allocated(t, data); after != before-block/512 {
		t.Errorf("a discarded block: the image has %d sectors, want %d", after, before-block/512)
	}
	b.control("suspend vol\nmessage pool 0 create_snap 1 0\nresume vol\ncreate snap 0 131072 thin pool 1\n")
	before = allocated(t, data)
	punch(0, size)
	check("all discarded", vol, nil, 0)
	check("the snapshot", b.mnt+"/snap", []int64{5, 6, 10, 11}, 2)
	if after := allocated(t, data); after != before {
		t.Errorf("blocks that a snapshot has: the image has %d sectors, want %d", after, before)
	}
	b.control("remove snap\nmessage pool 0 delete 1\n")
	if after := allocated(t, data); after != 0 {
		t.Errorf("all discarded and deleted: the image has %d sectors", after)
	}
}

// A thin device with an external origin, shorter than itself, shows it as data where nothing was written, and takes space only for what was.
func TestThinOrigin(t *testing.T) {
	b := newBench(t)
	const block = 64 << 10
	meta, data := b.image("meta.img", 8192), b.image("data.img", 131072)
	origin := b.image("origin.img", 20*128+7) // 20 blocks and some sectors
	fillAt(t, origin, 0, (20*128+7)*512, 7)
	b.mount("")
	b.control("create pool 0 131072 thin-pool " + meta + " " + data + " 128 0\nmessage pool 0 create_thin 0\n" +
		"create vol 0 65536 thin pool 0 " + origin + "\n")
	vol := b.mnt + "/vol"
	if got := holes(t, vol); len(got) != 2 || got[0] != 0 || got[1] != (20*128+7)*512 {
		t.Errorf("data and holes at %v, want 0 and the end of the origin", got)
	}
	fillAt(t, vol, 3*block+512, 512, 9)     // amid the origin
	fillAt(t, vol, 20*block+512*50, 512, 9) // in the block where it ends, after its end
	fillAt(t, vol, 40*block, 512, 9)        // far behind
	want := make([]byte, 65536*512)
	copy(want, bytes.Repeat([]byte{7}, (20*128+7)*512))
	for _, at := range []int{3*block + 512, 20*block + 512*50, 40 * block} {
		copy(want[at:], bytes.Repeat([]byte{9}, 512))
	}
	got, err := os.ReadFile(vol)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the device does not show the origin and what was written over it")
	}
	if got, want := allocated(t, data), int64(3*128); got != want {
		t.Errorf("the pool's image has %d sectors, want %d", got, want)
	}
	if got := holes(t, vol); len(got) != 4 || got[0] != 0 || got[1] != 21*block || got[2] != 40*block || got[3] != 41*block {
		t.Errorf("data and holes at %v, want blocks 0, 21, 40 and 41", got)
	}
	if left, err := os.ReadFile(origin); err != nil || bytes.Contains(left, []byte{9}) {
		t.Errorf("the origin was written to: %v", err)
	}
}
