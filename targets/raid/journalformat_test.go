package raid

import (
	"bytes"
	"context"
	"encoding/hex"
	"reflect"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// kernelMetas are what is used of meta blocks that Linux 6.1.176 wrote for a raid5 with chunks of 64 sectors.
var kernelMetas = []struct {
	hex  string
	want metaBlock
}{
	{
		"09c53364efb2d4af0100000020000000bdfc47bc000000004017000000000000",
		metaBlock{seq: 0xbc47fcbd, position: 0x1740},
	},
	{
		"09c5336418f795a301000000480000002e8e314d00000000680000000000000000000000080000003812000000000000737274340100000008000000380900000000000073727434",
		metaBlock{seq: 0x4d318e2e, position: 0x68, payloads: []payload{
			{kind: kindData, at: 0x1238, sums: []uint32{0x34747273}}, {kind: kindParity, at: 0x938, sums: []uint32{0x34747273}},
		}},
	},
	{
		"09c533643a7620ac01000000340000006efc47bc00000000a8070000000000000000000008000000f8160000000000000761ea1f",
		metaBlock{seq: 0xbc47fc6e, position: 0x7a8, payloads: []payload{{kind: kindData, at: 0x16f8, sums: []uint32{0x1fea6107}}}},
	},
	{
		"09c53364afc732de0100000034000000a3fc47bc0000000048140000000000000100000008000000e00e00000000000042ab0c67",
		metaBlock{seq: 0xbc47fca3, position: 0x1448, payloads: []payload{{kind: kindParity, at: 0xee0, sums: []uint32{0x670cab42}}}},
	},
	{
		"09c53364acc1c0e70100000030000000b8fc47bc0000000018170000000000000200000008000000200e000000000000",
		metaBlock{seq: 0xbc47fcb8, position: 0x1718, payloads: []payload{{kind: kindFlush, stripes: []mapper.Sector{0xe20}}}},
	},
}

func kernelMeta(t testing.TB, i int) []byte {
	t.Helper()
	b, err := hex.DecodeString(kernelMetas[i].hex)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, journalBlock-len(b))...)
}

// encodeMeta writes a meta block, of which we write no flushes.
func encodeMeta(m metaBlock) (b []byte, ok bool) {
	b = make([]byte, journalBlock)
	var w metaWriter
	w.begin(b, m.seq, m.position, m.tag)
	for _, p := range m.payloads {
		if p.kind == kindFlush {
			return nil, false
		}
		w.add(p.kind, p.at, p.sums...)
	}
	w.end()
	return b, true
}

// Meta blocks of the kernel are read, and ours are the same byte by byte.
func TestKernelMetas(t *testing.T) {
	for i, c := range kernelMetas {
		b := kernelMeta(t, i)
		got, err := decodeMeta(b)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("block %d: %+v, %v, want %+v", i, got, err, c.want)
		}
		if again, ok := encodeMeta(got); ok && !bytes.Equal(again, b) {
			t.Errorf("block %d is encoded to\n%x", i, again[:100])
		}
		b[900]++
		if _, err := decodeMeta(b); err == nil {
			t.Errorf("block %d: taken with a wrong checksum", i)
		}
	}
}

// seal gives a block the checksum that it should have.
func seal(b []byte) {
	copy(b[4:8], make([]byte, 4))
	sum := blockSum(b)
	b[4], b[5], b[6], b[7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
}

// FuzzJournal: whatever the journal says, an array is refused, or starts and can be written to and closed; and what is decoded is encoded to the same.
func FuzzJournal(f *testing.F) {
	for i := range kernelMetas {
		f.Add(kernelMeta(f, i), kernelMeta(f, (i+1)%len(kernelMetas)), true)
	}
	s := withJournal(setup(3, 1024, 2048, "raid5_ls 16", "nosync", false), writeback, journalLeast)
	f.Fuzz(func(t *testing.T, first, second []byte, sealed bool) {
		log := make([]byte, 4*journalBlock)
		copy(log, first[:min(len(first), journalBlock)])
		copy(log[journalBlock:], second[:min(len(second), journalBlock)])
		if sealed {
			seal(log[:journalBlock])
			seal(log[journalBlock : 2*journalBlock])
		}
		if m, err := decodeMeta(log[:journalBlock]); err == nil {
			if again, ok := encodeMeta(m); ok {
				if m2, err := decodeMeta(again); err != nil || !reflect.DeepEqual(m, m2) {
					t.Fatalf("%+v became %+v: %v", m, m2, err)
				}
			}
		}
		disks := make(map[string]mapper.Disk)
		for _, d := range s.Disks {
			disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
		}
		if err := disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(int64(len(log))), Data: log}); err != nil {
			t.Fatal(err)
		}
		tg, err := start(context.Background(), &mappertest.Host{Disks: disks}, s.Len, s.Args)
		if err != nil {
			return
		}
		if err := submit(tg, mapper.Request{Op: mapper.OpWrite, Start: 3, Count: 40, Data: mappertest.Stamped(3, 40, 1)}); err != nil {
			t.Fatal(err)
		}
		if err := stop(context.Background(), tg); err != nil {
			t.Fatal(err)
		}
	})
}
