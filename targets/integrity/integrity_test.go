package integrity

import (
	"context"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

const (
	key16 = "00112233445566778899aabbccddeeff"
	key32 = key16 + key16
)

// setup returns a setup of a device of 800 sectors. line is what follows the disk.
func setup(line string, limits mapper.Limits) mappertest.Setup {
	s := mappertest.Setup{
		Disks: []mappertest.DiskSpec{{Name: "1:1", Sectors: 8192, Limits: limits}},
		Len:   800, Args: append([]string{"1:1"}, strings.Fields(line)...), Kind: mappertest.Stores, FlushesMore: true,
	}
	if strings.Contains(line, " J ") {
		s.Disks[0].NoFlush = true // a commit is written with FUA
	}
	if strings.Contains(line, "meta_device") {
		s.Disks = append(s.Disks, mappertest.DiskSpec{Name: "1:2", Sectors: 1024, Limits: limits, NoFlush: s.Disks[0].NoFlush})
	}
	s.Prepare = func(ctx context.Context, disks map[string]mapper.Disk) error {
		var list []mapper.Disk
		for _, d := range disks {
			list = append(list, d)
		}
		x := open(nil, s.Len, s.Args, list...)
		defer x.close()
		return x.write(0, s.Len, 0)
	}
	return s
}

// A device is a target that runs.
type device struct {
	*target
	host   *mappertest.Host
	length mapper.Sector
}

// try makes a target and starts it.
func try(length mapper.Sector, args []string, disks ...mapper.Disk) (*device, error) {
	h := mappertest.NewHost(disks...)
	made, err := newTarget(ctx, h, mapper.Spec{Len: length, Type: "integrity", Args: args})
	if err != nil {
		return nil, err
	}
	x := &device{made.(*target), h, length}
	if err := x.PreResume(ctx); err != nil {
		x.Close()
		return nil, err
	}
	x.Resume()
	return x, nil
}

// open is try where nothing is to fail.
func open(t testing.TB, length mapper.Sector, args []string, disks ...mapper.Disk) *device {
	x, err := try(length, args, disks...)
	if err != nil {
		if t == nil {
			panic(err)
		}
		t.Fatal(err)
	}
	return x
}

func (x *device) close() {
	x.PreSuspend(false)
	if err := x.PostSuspend(ctx); err != nil {
		panic(err)
	}
	x.Close()
}

func (x *device) write(s, n mapper.Sector, serial uint64) error {
	return x.each(mapper.Request{Op: mapper.OpWrite, Start: s, Count: n, Data: mappertest.Stamped(s, n, serial)})
}

func (x *device) read(s, n mapper.Sector) ([]byte, error) {
	p := make([]byte, n.Bytes())
	return p, x.each(mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: p})
}

// each submits r in pieces as the limits ask.
func (x *device) each(r mapper.Request) error {
	var l mapper.Limits
	x.Hints(&l)
	for r.Count > 0 {
		n := min(r.Count, l.Split-r.Start%l.Split)
		if err := x.Submit(ctx, r.Slice(0, n)); err != nil {
			return err
		}
		r = r.Slice(n, r.Count-n)
	}
	return nil
}

func TestTarget(t *testing.T) {
	for name, line := range map[string]string{
		"J":           "0 - J 2 internal_hash:crc32c interleave_sectors:64",
		"J one":       "8 - J 3 internal_hash:sha1 journal_sectors:1 commit_time:1",
		"J mac crypt": "0 - J 5 internal_hash:crc32c journal_mac:hmac(sha256):" + key32 + " journal_crypt:ctr(aes):" + key32 + " fix_hmac journal_sectors:300",
		"J cbc":       "0 - J 3 internal_hash:sha256 journal_crypt:cbc(aes):" + key16 + " journal_sectors:300",
		"J meta":      "0 - J 3 internal_hash:crc32c meta_device:1:2 journal_sectors:300",
		"J block":     "0 - J 4 internal_hash:crc32c block_size:4096 buffer_sectors:1 fix_padding",
		"B":           "0 - B 3 internal_hash:crc32c sectors_per_bit:8 bitmap_flush_interval:1",
		"B meta":      "0 - B 3 internal_hash:hmac(sha256):00 meta_device:1:2 legacy_recalculate",
		"J discards":  "0 - J 3 internal_hash:crc32c allow_discards journal_sectors:200",
		"B discards":  "0 - B 2 internal_hash:crc32c allow_discards",
		"J no hash":   "0 8 J 1 journal_sectors:400",
	} {
		t.Run(name, func(t *testing.T) { mappertest.TestTarget(t, &Type, setup(line, mapper.Limits{})) })
	}
}
