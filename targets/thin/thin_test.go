package thin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A bench is a manager with disks in memory.
type bench struct {
	t          testing.TB
	mgr        *mapper.Manager
	meta, data mapper.Disk
}

var ctx = context.Background()

// newBench makes a manager over disks, the first of them the metadata disk "7:0", the second the data disk "7:1".
func newBench(t testing.TB, disks ...mapper.Disk) *bench {
	g := new(mapper.Registry)
	for _, typ := range NewTypes() {
		g.Register(typ)
	}
	return &bench{t, mapper.NewManager(g, mapper.Options{Files: mappertest.NewFiles(disks...)}), disks[0], disks[1]}
}

// newDisks makes a bench with fresh disks of so many sectors.
func newDisks(t testing.TB, meta, data mapper.Sector) *bench {
	return newBench(t, mappertest.NewDisk("7:0", meta), mappertest.NewDisk("7:1", data), mappertest.NewDisk("7:2", 1000))
}

func (b *bench) create(name, table string) *mapper.Device {
	b.t.Helper()
	specs, err := mapper.ParseTable(table)
	if err == nil {
		var d *mapper.Device
		if d, err = b.mgr.Create(ctx, mapper.NewDevice{Name: name, Minor: -1, Table: specs}); err == nil {
			return d
		}
	}
	b.t.Fatalf("create %s: %v\n%s", name, err, b.mgr.Log().Text())
	return nil
}

func (b *bench) message(d *mapper.Device, words string) {
	b.t.Helper()
	if _, err := d.Message(ctx, 0, strings.Fields(words)); err != nil {
		b.t.Fatalf("message %s: %v", words, err)
	}
}

func (b *bench) status(d *mapper.Device) string {
	b.t.Helper()
	lines, err := d.Status(ctx, mapper.LiveSlot, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return lines[0].Params
}

func (b *bench) submit(d *mapper.Device, r mapper.Request) {
	b.t.Helper()
	if err := d.Submit(ctx, r); err != nil {
		b.t.Fatalf("%s of %d at %d: %v\n%s", r.Op, r.Count, r.Start, err, b.mgr.Log().Text())
	}
}

func (b *bench) write(d *mapper.Device, s, n mapper.Sector, serial uint64) {
	b.t.Helper()
	b.submit(d, mapper.Request{Op: mapper.OpWrite, Start: s, Count: n, Data: mappertest.Stamped(s, n, serial)})
}

// close removes all devices.
func (b *bench) close() {
	b.t.Helper()
	devices := b.mgr.BottomUp()
	for i := len(devices) - 1; i >= 0; i-- {
		if err := b.mgr.Remove(ctx, devices[i].Name(), mapper.RemoveOptions{}); err != nil {
			b.t.Fatalf("remove %s: %v", devices[i].Name(), err)
		}
	}
}

// checked compares the verdict of check with that of thin_check, where it is installed.
func checked(t testing.TB, meta mapper.Disk, tool bool) {
	t.Helper()
	_, err := check(ctx, meta)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	if !tool {
		return
	}
	if out, toolErr := thinCheck(t, meta); (toolErr == nil) != (err == nil) {
		t.Errorf("thin_check says %v, check %v\n%s", toolErr, err, out)
	}
}

// thinCheck runs thin_check.
func thinCheck(t testing.TB, meta mapper.Disk) (string, error) {
	t.Helper()
	path := dump(t, meta)
	out, err := exec.Command("thin_check", path).CombinedOutput()
	return string(out), err
}

// dump writes a disk to a file.
func dump(t testing.TB, d mapper.Disk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "meta")
	data := make([]byte, d.Sectors().Bytes())
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: d.Sectors(), Data: data}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needTool(t testing.TB, name string) {
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

const poolTable = "0 65536 thin-pool 7:0 7:1 128 0"

// The numbers are the kernel's.
func TestFreshPool(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	pool := b.create("pool", poolTable)
	if got, want := b.status(pool), "0 60/512 0/512 - rw discard_passdown queue_if_no_space - 128 "; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 65536 thin pool 0")
	b.write(thin, 100, 60, 1)
	if got, want := b.status(thin), "256 255"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
	b.close()
	needTool(t, "thin_check")
	checked(t, b.meta, true)
}

// Many operations at random on many devices, against a model of what each block of each device holds.
func TestRandomOperations(t *testing.T) {
	needTool(t, "thin_check")
	for _, skip := range []string{"", " 1 skip_block_zeroing", " 1 no_discard_passdown"} {
		t.Run(skip, func(t *testing.T) {
			b := newDisks(t, 16384, 65536)
			w := newWorkload(b, mappertest.Seed(t), poolTable+skip)
			for i := range 1500 {
				w.step()
				if i%500 == 499 {
					w.verify()
				}
			}
			w.finish()
			checked(t, b.meta, true)
		})
	}
}

// An eager context fails the test if anybody asks for Done.
type eager struct {
	context.Context
	t *testing.T
}

func (c eager) Done() <-chan struct{} {
	c.t.Error("asked for Done without having to wait")
	return nil
}

// Requests that need not wait do not ask for Done: first writes, broken sharing, discards, flushes.
func TestNoWait(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	d := b.create("t", "0 65536 thin pool 0")
	target := func(r mapper.Request) {
		t.Helper()
		if err := d.Submit(eager{ctx, t}, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		target(mapper.Request{Op: mapper.OpWrite, Start: 100, Count: 8, Data: mappertest.Stamped(100, 8, 1)})
		target(mapper.Request{Op: mapper.OpRead, Start: 100, Count: 8, Data: make([]byte, 4096)})
		target(mapper.Request{Op: mapper.OpFlush})
		target(mapper.Request{Op: mapper.OpDiscard, Start: 128, Count: 1280})
		b.message(pool, "create_snap 1 0")
		target(mapper.Request{Op: mapper.OpWrite, Start: 0, Count: 128, Data: mappertest.Stamped(0, 128, 2)})
		b.message(pool, "delete 1")
	}
	b.close()
}

func ExampleNewTypes() {
	for _, t := range NewTypes() {
		fmt.Println(t.Name)
	}
	// Output:
	// thin-pool
	// thin
}
