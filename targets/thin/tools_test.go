package thin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/pdata"
)

// tool runs a program of thin-provisioning-tools.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// load reads a file into a disk called 7:0.
func load(t *testing.T, path string, sectors mapper.Sector) *mappertest.Disk {
	t.Helper()
	data, err := os.ReadFile(path)
	must2(t, err)
	d := mappertest.NewDisk("7:0", sectors)
	must2(t, d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(int64(len(data))), Data: data}))
	return d
}

// What we write, thin_dump says and thin_restore writes again; we open that, it holds the same, and thin_dump says the same of it after.
// thin_repair, thin_rmap and thin_delta read it, too.
func TestTools(t *testing.T) {
	needTool(t, "thin_restore")
	b := newDisks(t, 16384, 65536)
	w := newWorkload(b, mappertest.Seed(t), poolTable)
	for range 600 {
		w.step()
	}
	for len(w.thins) < 2 {
		w.create()
	}
	if w.held {
		w.metadataSnapshot()
	}
	w.finish()
	file := dump(t, b.meta)
	before := tool(t, "thin_dump", file)
	xml := filepath.Join(t.TempDir(), "xml")
	must2(t, os.WriteFile(xml, []byte(before), 0o600))
	restored := filepath.Join(t.TempDir(), "restored")
	for _, how := range [][]string{{"thin_restore", "-i", xml, "-o", restored}, {"thin_repair", "-i", file, "-o", restored}} {
		must2(t, os.WriteFile(restored, make([]byte, b.meta.Sectors().Bytes()), 0o600))
		tool(t, how[0], how[1:]...)
		disk := load(t, restored, b.meta.Sectors())
		again := newBench(t, disk, b.data)
		old := w.b
		w.b = again
		w.pool = again.create("pool", poolTable)
		w.verify()
		again.close()
		w.b = old
		for _, v := range w.thins {
			v.dev = nil
		}
		if after := tool(t, "thin_dump", dump(t, disk)); after != before {
			t.Errorf("%s: thin_dump says something else:\n%s\nbefore:\n%s", how[0], after, before)
		}
		checked(t, disk, true)
	}
	tool(t, "thin_rmap", "--region", "0..512", file)
	var ids []string
	for id := range w.thins {
		ids = append(ids, fmt.Sprint(id))
	}
	tool(t, "thin_delta", "--thin1", ids[0], "--thin2", ids[1], file)
}

// A held metadata snapshot stays what it was while I/O runs.
func TestHeldSnapshot(t *testing.T) {
	needTool(t, "thin_dump")
	b := newDisks(t, 16384, 65536)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 1")
	b.message(pool, "create_thin 2")
	d := b.create("t", "0 65536 thin pool 1")
	b.write(d, 0, 3000, 1)
	b.message(pool, "reserve_metadata_snap")
	before := tool(t, "thin_dump", "-m", dump(t, b.meta))
	b.write(d, 5000, 3000, 2)
	b.message(pool, "create_snap 3 1")
	b.write(d, 0, 3000, 3)
	b.message(pool, "delete 2")
	file := dump(t, b.meta)
	if after := tool(t, "thin_dump", "-m", file); after != before {
		t.Errorf("the held snapshot changed:\n%s\nbefore:\n%s", after, before)
	}
	tool(t, "thin_delta", "-m", "--thin1", "1", "--thin2", "2", file)
	checked(t, b.meta, true)
	b.message(pool, "release_metadata_snap")
	b.close()
	checked(t, b.meta, true)
}

// Blocks of the metadata are damaged in turn. The pool refuses to open, or serves what it can, and never shows wrong data nor makes
// things worse: what check says is what thin_check says.
func TestDamage(t *testing.T) {
	needTool(t, "thin_check")
	rnd := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
	b := newDisks(t, 4096, 65536)
	w := newWorkload(b, mappertest.Seed(t), poolTable)
	for range 300 {
		w.step()
	}
	w.finish()
	sound := b.meta.(*mappertest.Disk)
	compared := 0
	for block := mapper.Sector(0); block < sound.Sectors()/8; block++ {
		if bytes.Equal(sound.Peek(block*8, 8), make([]byte, pdata.BlockSize)) {
			continue
		}
		if block != 0 && rnd.IntN(4) != 0 {
			continue
		}
		how := []string{"flip", "swap", "zero"}[rnd.IntN(3)]
		meta := sound.Clone()
		damage(meta, block, how, rnd)
		_, err := check(ctx, meta)
		if rnd.IntN(4) == 0 || block == 0 {
			compared++
			if out, toolErr := thinCheck(t, meta); (toolErr == nil) != (err == nil) {
				t.Errorf("thin_check says %v, check %v\n%s", toolErr, err, out)
			}
		}
		useDamaged(t, w, meta, b.data.(*mappertest.Disk).Clone())
		if t.Failed() {
			t.Fatalf("this was with block %d: %s", block, how)
		}
	}
	if compared == 0 {
		t.Error("nothing was compared with thin_check")
	}
}

func damage(d *mappertest.Disk, block mapper.Sector, how string, rnd *rand.Rand) {
	data := bytes.Clone(d.Peek(block*8, 8))
	switch how {
	case "flip":
		data[rnd.IntN(len(data))] ^= 1 << rnd.IntN(8)
	case "swap":
		other := 1 + mapper.Sector(rnd.IntN(30))
		for i := range mapper.Sector(8) {
			copy(data[i.Bytes():], d.Peek(other*8+i, 1))
		}
	case "zero":
		clear(data)
	}
	for i := range mapper.Sector(8) {
		d.Poke(block*8+i, data[i.Bytes():][:mapper.SectorSize])
	}
}

// useDamaged uses a pool as if nothing was wrong. Errors are to be expected; wrong data are not.
func useDamaged(t *testing.T, w *workload, meta, data *mappertest.Disk) {
	t.Helper()
	b := newBench(t, meta, data)
	specs, err := mapper.ParseTable(poolTable)
	must2(t, err)
	pool, err := b.mgr.Create(ctx, mapper.NewDevice{Name: "pool", Minor: -1, Table: specs})
	if err != nil || len(w.thins) == 0 {
		return
	}
	blank := b.status(pool)
	if strings.HasPrefix(blank, "0 60/512 0/512") {
		b.close()
		return // the superblock was zeroed: a fresh pool, as the kernel makes one
	}
	for _, v := range w.thins {
		specs, err := mapper.ParseTable(fmt.Sprintf("0 %d thin pool %d", w.size, v.id))
		must2(t, err)
		d, err := b.mgr.Create(ctx, mapper.NewDevice{Name: fmt.Sprint("t", v.id), Minor: -1, Table: specs})
		if err != nil {
			continue
		}
		buf := make([]byte, mapper.SectorSize)
		for s := mapper.Sector(0); s < w.size; s += w.block / 2 {
			if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: s, Count: 1, Data: buf}); err != nil {
				continue
			}
			want := mappertest.CheckZero(buf, s)
			if v.data[s] != 0 {
				want = mappertest.CheckStamp(buf, s, v.data[s])
			}
			if want != nil {
				t.Errorf("device %d: %v", v.id, want)
				return
			}
		}
		_ = d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 128, Count: 1, Data: buf})
		_ = d.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: 1280, Count: 1280})
		_ = d.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
	}
	_, _ = pool.Message(ctx, 0, []string{"create_thin", "5000"})
	_, _ = pool.Message(ctx, 0, []string{"create_snap", "5001", "5000"})
	if s := b.status(pool); s == "" {
		t.Error("no status")
	}
	b.close()
}

// The uuid that thin_restore has put into the superblock is there after commits, and in a held snapshot.
func TestUUIDStays(t *testing.T) {
	needTool(t, "thin_restore")
	dir := t.TempDir()
	xml, img := filepath.Join(dir, "xml"), filepath.Join(dir, "img")
	const uuid = "0123456789abcdef"
	must2(t, os.WriteFile(xml, []byte(`<superblock uuid="`+uuid+`" time="0" transaction="0" data_block_size="128" nr_data_blocks="512"></superblock>`), 0o600))
	const sectors = 4096
	must2(t, os.WriteFile(img, make([]byte, sectors*mapper.SectorSize), 0o600))
	tool(t, "thin_restore", "-i", xml, "-o", img)
	b := newBench(t, load(t, img, sectors), mappertest.NewDisk("7:1", 65536))
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	b.message(pool, "reserve_metadata_snap")
	held, err := strconv.Atoi(strings.Fields(b.status(pool))[3])
	must2(t, err)
	b.close()
	for _, block := range []mapper.Sector{0, mapper.Sector(held)} {
		data := make([]byte, pdata.BlockSize)
		must2(t, b.meta.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: block * pdata.BlockSectors, Count: pdata.BlockSectors, Data: data}))
		if got := string(data[0x10:0x20]); got != uuid {
			t.Errorf("block %d: uuid %q, want %q", block, got, uuid)
		}
	}
}
