package integrity

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// kernelImages calls f with the options and the disk of every image of testdata.
func kernelImages(t *testing.T, f func(args []string, image []byte)) {
	t.Helper()
	text, err := os.ReadFile("testdata/options")
	if err != nil {
		t.Fatal(err)
	}
	for i, options := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		packed, err := os.Open(fmt.Sprintf("testdata/live-%d.gz", i+1))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		image, err := io.ReadAll(z)
		packed.Close()
		if err != nil {
			t.Fatal(err)
		}
		f(append([]string{"1:1", "0"}, strings.Fields(options)...), image)
	}
}

func diskOf(t testing.TB, image []byte) *mappertest.Disk {
	t.Helper()
	d := mappertest.NewDisk("1:1", mapper.SectorsOf(int64(len(image))))
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: d.Sectors(), Data: image}); err != nil {
		t.Fatal(err)
	}
	return d
}

// repeated returns n bytes of a line, again and again.
func repeated(text string, n int) []byte {
	return bytes.Repeat([]byte(text+"\n"), n/len(text)+1)[:n]
}

// What the kernel had acknowledged when it was killed is there, whatever the mode and however the journal is protected. See testdata/live.sh.
func TestKernelCrashed(t *testing.T) {
	kernelImages(t, func(args []string, image []byte) {
		d := diskOf(t, image)
		for range 2 { // the second time after it was closed
			x := open(t, 800, args, d)
			check := func(block int, want []byte) {
				got, err := x.read(mapper.Sector(block)*8, mapper.SectorsOf(int64(len(want))))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q: block %d: %.30q, %v; want %.30q", args, block, got, err, want)
				}
			}
			for _, k := range []int{0, 1, 2, 3, 4, 5} {
				check(k*7+1, repeated(fmt.Sprint("write ", k), 4096))
			}
			check(2, repeated("again", 20480))
			x.close()
		}
	})
}

// The same writes leave the same bytes on the disk as in the kernel, in the modes where nothing depends on the time.
func TestSameBytes(t *testing.T) {
	same := 0
	kernelImages(t, func(args []string, image []byte) {
		if args[3] == "B" || !strings.Contains(strings.Join(args, " "), "_sectors:") {
			return
		}
		d := diskOf(t, make([]byte, len(image)))
		h := mappertest.NewHost(d)
		made, err := newTarget(ctx, h, mapper.Spec{Len: 800, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		x := &device{made.(*target), h, 800}
		copy(x.line.salt[:], image[48:]) // which is by chance
		if err := x.PreResume(ctx); err != nil {
			t.Fatal(err)
		}
		used := 6 + (40+x.geometry.sectionEntries-1)/x.geometry.sectionEntries // sections; a commit leaves the rest of its last one unused
		if x.line.mode == 'J' && x.geometry.sections <= 2*used {
			x.Close() // it is written back in between, at a time that nobody knows
			return
		}
		x.Resume()
		put := func(block int, data []byte) {
			if err := x.each(mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(block) * 8, Count: mapper.SectorsOf(int64(len(data))), Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		flush := func() {
			if err := x.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
		}
		for k := range 6 {
			put(k*7+1, repeated(fmt.Sprint("write ", k), 4096))
			flush()
		}
		for k := range 5 {
			put(2+k, repeated("again", 20480)[k*4096:][:4096])
		}
		flush()
		x.back.group.Stop()
		got := make([]byte, len(image))
		if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: d.Sectors(), Data: got}); err != nil {
			t.Fatal(err)
		}
		for s := 0; s < len(got); s += mapper.SectorSize {
			if !bytes.Equal(got[s:s+mapper.SectorSize], image[s:s+mapper.SectorSize]) {
				t.Errorf("%q: sector %d is not as the kernel wrote it", args, s/mapper.SectorSize)
				break
			}
		}
		same++
		x.close()
	})
	if same == 0 {
		t.Error("nothing was compared")
	}
	t.Logf("%d disks are the same", same)
}
