package raid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/raid/md"
)

// An mdKind is an array of md that a test makes.
type mdKind struct {
	version       string
	level         int
	layout        uint32
	chunk         mapper.Sector
	members, data int // data: how many members' worth
	bitmap        bool
	region        mapper.Sector // of the bitmap
	short         mapper.Sector // how much less than mdMost is used of a member
}

const mdMost = 512 // sectors used of a member, at most

func (k mdKind) dev() mapper.Sector { return mdMost - k.short }

func (k mdKind) String() string {
	s := fmt.Sprintf("%s level %d layout %#x", k.version, k.level, k.layout)
	if k.bitmap {
		s += fmt.Sprintf(" bitmap %d", k.region)
	}
	if k.short > 0 {
		s += fmt.Sprintf(" %d sectors of %d members", k.dev(), k.members)
	}
	return s
}

func (k mdKind) array() mapper.Sector {
	if k.level == 10 && k.layout>>farShift == 1 {
		return k.dev() / k.chunk * mapper.Sector(k.members) / mapper.Sector(k.layout&0xff) * k.chunk
	}
	return k.dev() * mapper.Sector(k.data)
}

// mdKinds have the levels and versions, with a bitmap and without.
var mdKinds = []mdKind{
	{"1.2", 1, 0, 0, 2, 1, true, 64, 0}, {"0.90", 1, 0, 0, 3, 1, false, 0, 0},
	{"1.0", 5, leftSymmetric, 16, 3, 2, false, 0, 0}, {"1.2", 5, leftSymmetric, 16, 4, 3, true, 64, 0}, {"0.90", 5, rightAsymmetric, 16, 3, 2, false, 0, 0},
	{"1.1", 6, leftSymmetric, 16, 4, 2, true, 64, 0}, {"1.2", 6, leftAsymmetric, 16, 5, 3, false, 0, 0}, {"1.2", 6, rightSymmetric, 16, 4, 2, false, 0, 0},
	{"1.2", 6, rightAsymmetric, 16, 4, 2, false, 0, 0}, {"1.2", 6, parityFirst, 16, 4, 2, true, 64, 0}, {"1.2", 6, nContinue, 16, 4, 2, false, 0, 0},
	{"1.2", 6, parityFirst6, 16, 4, 2, false, 0, 0},
	{"1.2", 4, 0, 16, 3, 2, false, 0, 0}, {"1.2", 10, 0x102, 16, 4, 2, true, 64, 0}, {"1.2", 10, 0x201, 16, 4, 2, false, 0, 0}, {"1.2", 10, 0x10201, 16, 4, 2, false, 0, 0},
	{"1.2", 5, leftSymmetric, 32, 3, 2, true, 8, 0}, {"1.2", 10, 0x102, 32, 3, 0, true, 8, 32}, {"1.1", 10, 0x102, 16, 5, 0, false, 0, 20},
	{"0.90", 10, 0x103, 16, 4, 0, false, 0, 16},
}

// places returns where superblock, data and bitmap are on a member, and how large that is.
func (k mdKind) places() (super, data, bitmap, size mapper.Sector) {
	switch k.version {
	case "0.90":
		return 1024, 0, 1032, 1024 + 128
	case "1.0":
		return 1024, 0, 1016, 1040
	case "1.1":
		return 0, 128, 8, 128 + mdMost
	}
	return 8, 128, 16, 128 + mdMost
}

// format writes the superblock of a member, and its bitmap.
func (k mdKind) format(ctx context.Context, disk mapper.Disk, place int, events uint64) error {
	super, data, bitmap, _ := k.places()
	le, b := binary.LittleEndian, make([]byte, 4096)
	put := func(at int, v uint32) { le.PutUint32(b[at:], v) }
	put(0, 0xa92b4efc)
	copy(b[16:], "array's identity")
	sumAt, n := 216, 256+2*k.members
	if k.version == "0.90" {
		for word, v := range map[int]uint32{
			2: 90, 5: 7, 7: uint32(k.level), 8: uint32(k.dev()) / 2, 10: uint32(k.members), 33: 1, 39: uint32(events), 41: uint32(events), 43: 1<<32 - 1,
			64: k.layout, 65: uint32(k.chunk.Bytes()), 992: uint32(place), 995: uint32(place), 996: 6,
		} {
			put(4*word, v)
		}
		for i := range k.members {
			for word, v := range []uint32{uint32(i), 7, uint32(i), uint32(i), 6} {
				put(4*(128+32*i+word), v)
			}
		}
		sumAt, n = 4*38, 4096
	} else {
		put(4, 1)
		put(72, uint32(k.level))
		put(76, k.layout)
		put(80, uint32(k.dev()))
		put(88, uint32(k.chunk))
		put(92, uint32(k.members))
		put(128, uint32(data))
		put(136, mdMost)
		put(144, uint32(super))
		put(160, uint32(place))
		le.PutUint64(b[200:], events)
		le.PutUint64(b[208:], ^uint64(0))
		put(220, uint32(k.members))
		for i := range k.members {
			le.PutUint16(b[256+2*i:], uint16(i))
		}
		if k.bitmap {
			put(8, 1)
			put(96, uint32(bitmap-super))
		}
	}
	sum := uint64(0)
	for at := 0; at < n; at += 4 {
		sum += uint64(le.Uint32(b[at:]))
	}
	put(sumAt, uint32(sum)+uint32(sum>>32))
	write := func(at mapper.Sector, p []byte) error {
		return disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: at, Count: mapper.SectorsOf(int64(len(p))), Data: p})
	}
	err := write(super, b)
	if k.bitmap {
		page := make([]byte, 512)
		sync := k.dev()
		if k.level == 10 {
			sync = k.array()
		}
		(&bitmapSuper{events: events, cleared: events, sectors: sync, regionBytes: uint32(k.region.Bytes()), sleep: 5}).encode(page)
		copy(page[8:], "array's identity")
		clear(b)
		copy(b, page)
		err = errors.Join(err, write(bitmap, b))
	}
	return err
}

// setup describes the array for the conformance suite.
func (k mdKind) setup() mappertest.Setup {
	_, _, _, size := k.places()
	s := mappertest.Setup{Len: k.array(), FlushesMore: true, Args: []string{fmt.Sprint(k.members)}}
	for i := range k.members {
		name := fmt.Sprintf("7:%d", i)
		s.Disks = append(s.Disks, mappertest.DiskSpec{Name: name, Sectors: size})
		s.Args = append(s.Args, name)
	}
	s.Prepare = func(ctx context.Context, disks map[string]mapper.Disk) error {
		var err error
		for i, d := range s.Disks {
			err = errors.Join(err, k.format(ctx, disks[d.Name], i, 5))
		}
		return err
	}
	return s
}

func TestMDConformance(t *testing.T) {
	for _, k := range mdKinds {
		if k.version == "1.2" && k.level == 6 && !k.bitmap {
			continue // as the others
		}
		t.Run(k.String(), func(t *testing.T) {
			s := k.setup()
			s.Args = append([]string{"force"}, s.Args...) // power is cut, and members fail
			mappertest.TestTarget(t, &MDType, s)
		})
	}
}

// startMD makes the target and resumes it.
func startMD(disks map[string]mapper.Disk, length mapper.Sector, readOnly bool, args ...string) (*mdArray, error) {
	h := &mappertest.Host{Disks: disks, RO: readOnly}
	got, err := newMD(context.Background(), h, mapper.Spec{Len: length, Type: "md", Args: args})
	if err != nil {
		return nil, err
	}
	x := got.(*mdArray)
	if err := x.PreResume(context.Background()); err != nil {
		return nil, err
	}
	x.Resume()
	return x, nil
}

// newMDArray makes an array on disks of its own, and starts it.
func newMDArray(t *testing.T, k mdKind) (s mappertest.Setup, disks map[string]mapper.Disk, x *mdArray) {
	t.Helper()
	s, disks = k.setup(), make(map[string]mapper.Disk)
	for _, d := range s.Disks {
		disks[d.Name] = mappertest.NewFaulty(mappertest.NewDisk(d.Name, d.Sectors))
	}
	if err := s.Prepare(context.Background(), disks); err != nil {
		t.Fatal(err)
	}
	x, err := startMD(disks, s.Len, false, s.Args...)
	if err != nil {
		t.Fatal(err)
	}
	return s, disks, x
}

// writeMD writes to all of an array.
func writeMD(t *testing.T, x *mdArray, serial uint64) {
	t.Helper()
	n := x.spec.Len
	if err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpWrite, Count: n, Data: mappertest.Stamped(0, n, serial)}); err != nil {
		t.Fatal(err)
	}
}

// endMD wants all of an array to hold a write, and stops it.
func endMD(t *testing.T, x *mdArray, serial uint64) {
	t.Helper()
	n := x.spec.Len
	got := make([]byte, n.Bytes())
	err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpRead, Count: n, Data: got})
	if err := errors.Join(err, stopMD(x)); err != nil {
		t.Fatal(err)
	}
	if i := firstDifference(got, mappertest.Stamped(0, n, serial)); i >= 0 {
		t.Errorf("sector %d is not what was written", i)
	}
}

func stopMD(x *mdArray) error {
	x.PreSuspend(false)
	return errors.Join(x.PostSuspend(context.Background()), x.Close())
}

func superOf(t *testing.T, d mapper.Disk) *md.Super {
	t.Helper()
	s, err := md.Read(sectorReader{context.Background(), d}, d.Sectors().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Superblocks say that an array is in use before it is written to, and that it is clean after. A member that failed is known to the others, and
// is refused when it comes back.
func TestMDSuperblocks(t *testing.T) {
	for _, k := range mdKinds {
		t.Run(k.String(), func(t *testing.T) {
			s, disks, x := newMDArray(t, k)
			if superOf(t, disks["7:0"]).Resync != md.Done {
				t.Error("it says that it is in use, and nothing was written")
			}
			writeMD(t, x, 1)
			for name, d := range disks {
				if superOf(t, d).Resync == md.Done {
					t.Errorf("%s says that it is clean while the array is written to", name)
				}
			}
			last := fmt.Sprintf("7:%d", k.members-1)
			if !x.now.Load().failed(&x.now.Load().members[k.members-1]) {
				t.Fatal("the array cannot do without its last member")
			}
			writeMD(t, x, 2)
			if err := stopMD(x); err != nil {
				t.Fatal(err)
			}
			for name, d := range disks {
				s := superOf(t, d)
				switch {
				case name == last:
				case s.Resync != md.Done:
					t.Errorf("%s says that it is in use after it was closed", name)
				case s.Present()[k.members-1]:
					t.Errorf("%s does not know that %s failed", name, last)
				}
			}
			if _, err := startMD(disks, s.Len, false, s.Args...); err == nil || !strings.Contains(err.Error(), last) {
				t.Errorf("the member that failed comes back: %v", err)
			}
			rest := append([]string{fmt.Sprint(k.members - 1)}, s.Args[1:k.members]...)
			if _, err := startMD(disks, s.Len, false, rest...); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("member %d is missing", k.members-1)) {
				t.Errorf("it is written to without a member: %v", err)
			}
			for _, force := range [][]string{nil, {"force"}} {
				y, err := startMD(disks, s.Len, force == nil, append(force, rest...)...)
				if err != nil {
					t.Fatal(err)
				}
				endMD(t, y, 2)
				for _, name := range rest[1:] {
					if superOf(t, disks[name]).Resync != md.Done {
						t.Errorf("%s says that it is in use after the array, without a member, was closed", name)
					}
				}
			}
		})
	}
}
