package md

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dmfs/mapper"
)

// image returns the disk of a file in testdata: a line with its size, then lines with an offset and what is there.
func image(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disk []byte
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var at, size int
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "size %d", &size); err == nil {
			disk = make([]byte, size)
		} else if !strings.HasPrefix(line, "#") {
			where, what, _ := strings.Cut(line, " ")
			b, err := hex.DecodeString(what)
			if _, e := fmt.Sscanf(where, "%x", &at); err != nil || e != nil {
				t.Fatal(line, err, e)
			}
			copy(disk[at:], b)
		}
	}
	return disk
}

func TestRead(t *testing.T) {
	for name, want := range map[string]Super{
		"0.90":       {Version: "0.90", At: 6016, Level: 1, Members: 2, Dev: 6016, Size: 6016, Events: 1},
		"1.0":        {Version: "1.0", At: 6128, Name: "oracle:corp", Level: 5, Layout: 2, Chunk: 128, Members: 3, Dev: 6016, Size: 6112, Events: 2},
		"1.1":        {Version: "1.1", Name: "oracle:corp", Level: 6, Layout: 2, Chunk: 128, Members: 4, Dev: 4096, Data: 2048, Size: 4096, Events: 2},
		"1.2":        {Version: "1.2", At: 8, Name: "oracle:corp", Level: 10, Layout: 0x102, Chunk: 128, Members: 4, Dev: 4096, Data: 2048, Size: 4096, Events: 2},
		"1.2-bitmap": {Version: "1.2", At: 8, Name: "oracle:corp", Level: 5, Layout: 2, Chunk: 128, Members: 3, Dev: 4096, Data: 2048, Size: 4096, Events: 2, Bitmap: 16},
		"linear":     {Version: "1.2", At: 8, Name: "oracle:corp", Level: Linear, Members: 2, Data: 2048, Size: 4096},
		"raid0":      {Version: "1.2", At: 8, Name: "oracle:corp", Level: 0, Chunk: 128, Members: 3, Data: 2048, Size: 4096},
	} {
		disk := image(t, name)
		s, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := *s
		got.raw, got.features, got.Array, got.Disk = nil, 0, [16]byte{}, [16]byte{}
		want.Resync, want.Recovered = Done, Done
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, want)
		}
	}
}

// A change of nothing gives the bytes that were there; one of something is read back, and mdadm reads it, too.
func TestApply(t *testing.T) {
	for _, name := range []string{"0.90", "1.0", "1.1", "1.2", "1.2-bitmap"} {
		t.Run(name, func(t *testing.T) {
			disk := image(t, name)
			s, err := Read(bytes.NewReader(disk), int64(len(disk)))
			if err != nil {
				t.Fatal(err)
			}
			made := time.Unix(int64(le.Uint32(s.raw[192:])), 0)
			if name == "0.90" {
				made = time.Unix(int64(s.word(32)), 0)
			}
			before := bytes.Clone(s.raw)
			s.Apply(Change{Events: s.Events, Resync: s.Resync, Recovered: s.Recovered, Time: made})
			if !bytes.Equal(before, s.raw) {
				t.Errorf("nothing was changed, and\n%x became\n%x", before, s.raw)
			}
			failed := make([]bool, s.Members)
			failed[1] = true
			recovered := mapper.Sector(128)
			if name == "0.90" {
				recovered = Done
			}
			s.Apply(Change{Events: 77, Resync: 0, Recovered: recovered, Failed: failed, Time: made.Add(time.Hour)})
			copy(disk[s.At.Bytes():], s.Bytes(512))
			again, err := Read(bytes.NewReader(disk), int64(len(disk)))
			if err != nil {
				t.Fatal(err)
			}
			if again.Events != 77 || again.Resync != 0 || again.Recovered != recovered || again.Role != 0 || again.Number != s.Number {
				t.Errorf("read back: %+v", again)
			}
			examine(t, disk, "Events : 77", "State : active", "Checksum : ", " - correct")
		})
	}
}

// examine has mdadm look at a disk, and wants it to say all of that.
func examine(t *testing.T, disk []byte, want ...string) {
	t.Helper()
	mdadm, err := exec.LookPath("mdadm")
	if err != nil {
		t.Skip("needs mdadm (package mdadm)")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(mdadm, "--examine", file).CombinedOutput()
	for _, w := range want {
		if err != nil || !strings.Contains(string(out), w) {
			t.Errorf("mdadm --examine says, %v:\n%swant %q", err, out, w)
		}
	}
}

// What is damaged, or cannot be, is refused, with the reason.
func TestReadRefused(t *testing.T) {
	change := func(name string, f func(b []byte, s *Super)) error {
		disk := image(t, name)
		s, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			t.Fatal(err)
		}
		f(disk[s.At.Bytes():], s)
		_, err = Read(bytes.NewReader(disk), int64(len(disk)))
		return err
	}
	sealed := func(f func(b []byte)) func([]byte, *Super) {
		return func(b []byte, s *Super) {
			f(b)
			s.raw = b[:len(s.raw)]
			if s.Version == "0.90" {
				s.putWord(38, s.sumOld())
			} else {
				le.PutUint32(b[216:], s.sumNew())
			}
		}
	}
	put := func(at int, v uint32) func([]byte, *Super) { return sealed(func(b []byte) { le.PutUint32(b[at:], v) }) }
	for _, c := range []struct {
		image, want string
		f           func(b []byte, s *Super)
	}{
		{"1.2", "damaged", func(b []byte, _ *Super) { b[200]++ }},
		{"0.90", "damaged", func(b []byte, _ *Super) { b[160]++ }},
		{"1.2", "version 2", put(4, 2)},
		{"0.90", "version 0.91", put(8, 91)},
		{"1.2", "lies elsewhere", put(144, 16)},
		{"1.2", "at most 1920 fit", func(b []byte, _ *Super) { le.PutUint32(b[220:], 1921) }},
		{"1.2", "being reshaped", put(8, reshapes)},
		{"1.2", "bad blocks", put(8, hasBadBlocks)},
		{"1.2", "journal: take it away with mdadm --fail and --remove, and then write resync to md/consistency_policy", put(8, hasJournal)},
		{"1.2", "partial parity log", put(8, hasPPL)},
		{"1.2", "cluster", put(8, clustered)},
		{"1.2", "features 0x80000000", put(8, 1<<31)},
		{"1.2", "level 7", put(72, 7)},
		{"1.2", "0 members", put(92, 0)},
		{"1.2", "300 members", put(92, 300)},
		{"1.2", "chunks of no length", put(88, 0)},
		{"1.2", "power of two", put(88, 129)},
		{"1.2", "is it whole?", put(136, 1<<30)},
		{"1.2", "is it whole?", put(128, 1<<30)},
		{"1.2", "is it whole?", put(80, 1<<30)},
		{"1.2", "no length", put(80, 0)},
		{"1.2", "lies in the data", put(128, 4)},
		{"1.2-bitmap", "a bitmap at", put(96, 0xffff0000)},
		{"1.2-bitmap", "a bitmap at", put(96, 2100)},
		{"1.2", "member 9 of 4", sealed(func(b []byte) { b[newSize] = 9 })},
	} {
		if err := change(c.image, c.f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.image, err, c.want)
		}
	}
	for _, size := range []int{0, 511, 4096, 64 << 10, 1 << 20} {
		if _, err := Read(bytes.NewReader(make([]byte, size)), int64(size)); !errors.Is(err, ErrNone) {
			t.Errorf("%d bytes of zeroes: %v", size, err)
		}
	}
}

// FuzzFormat reads superblocks by chance, and writes what it could read. Nothing panics, and what is written is read the same.
func FuzzFormat(f *testing.F) {
	for _, name := range []string{"0.90", "1.0", "1.1", "1.2", "1.2-bitmap"} {
		disk := image(f, name)
		s, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.raw, s.Version == "0.90", uint64(s.At))
	}
	f.Fuzz(func(t *testing.T, raw []byte, old bool, at uint64) {
		b := make([]byte, newMost)
		copy(b, raw)
		s := &Super{raw: b}
		if old {
			le.PutUint32(b[4*38:], s.sumOld())
		} else {
			le.PutUint32(b[220:], min(le.Uint32(b[220:]), 4*mostNew))
			le.PutUint32(b[216:], s.sumNew())
		}
		const sectors = 6144
		where := places(sectors)
		version := []string{"1.0", "1.1", "1.2"}[at%3]
		if old {
			version = "0.90"
		}
		disk := make([]byte, mapper.Sector(sectors).Bytes())
		copy(disk[where[version].Bytes():], b)
		got, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			return
		}
		got.Apply(Change{Events: got.Events + 1, Resync: 0, Recovered: Done, Failed: make([]bool, got.Members)})
		copy(disk[got.At.Bytes():], got.Bytes(512))
		if again, err := Read(io.NewSectionReader(bytes.NewReader(disk), 0, int64(len(disk))), int64(len(disk))); err != nil || again.Events != got.Events {
			t.Errorf("what was written is not read: %v", err)
		}
	})
}
