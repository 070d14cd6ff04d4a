package thin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// withPool is a target for tests: the thin device 0 of a pool of its own. Its arguments are METADATA DATA [COUNT FEATURE*].
var withPool = mapper.Type{Name: "thin", Version: [3]int{1, 22, 0}, New: newWithPool}

// lonePool is the target thin-pool, of which there may be several with one device number, on different disks.
var lonePool = mapper.Type{Name: "thin-pool", New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	f := familyOn(ctx, h, s.Args)
	return f.newPoolTarget(ctx, h, s)
}}

// families are those of the disks that the kit has made.
var families sync.Map

// familyOn returns a family for the first disk of args, always the same, as if it were alone in its mount.
func familyOn(ctx context.Context, h mapper.Host, args []string) *family {
	fresh := &family{byNumber: make(map[string]*pool), byMeta: make(map[mapper.Disk]*pool)}
	if len(args) == 0 {
		return fresh
	}
	d, err := h.Open(ctx, args[0])
	if err != nil {
		return fresh
	}
	f, _ := families.LoadOrStore(d, fresh)
	return f.(*family)
}

// A pooled is a thin device together with its pool.
type pooled struct {
	*target
	pool *poolTarget
}

func newWithPool(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) < 2 {
		return nil, mapper.BadArg("Invalid argument count", "")
	}
	f := familyOn(ctx, h, s.Args)
	args := append([]string{s.Args[0], s.Args[1], "128", "0"}, s.Args[2:]...)
	p, err := f.newPoolTarget(ctx, h, mapper.Spec{Len: 4096, Type: "thin-pool", Args: args})
	if err != nil {
		return nil, err
	}
	var below mapper.Limits
	p.Hints(&below)
	shut := p.pool.isShut()
	if shut { // the pool of a thin device is in use before it
		p.pool.open()
	}
	t, err := f.newThin(ctx, poolHost{h}, mapper.Spec{Len: s.Len, Type: "thin", Args: []string{"pool", "0"}})
	if shut {
		err = errors.Join(err, p.pool.close(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &pooled{t, p}, nil
}

// A poolHost has a mapped device, the pool.
type poolHost struct{ mapper.Host }

func (h poolHost) Open(ctx context.Context, name string) (mapper.Disk, error) {
	if name == "pool" {
		return poolDevice{}, nil
	}
	return h.Host.Open(ctx, name)
}

// A poolDevice stands for the mapped device of a pool.
type poolDevice struct{ mappertest.Null }

func (poolDevice) Minor() uint32    { return 0 }
func (poolDevice) DiskName() string { return "253:0" }

func (t *pooled) Table(bool) []string {
	words := t.pool.Table(false)
	return slices.Delete(words, 2, 4)
}

func (t *pooled) PreResume(ctx context.Context) error { return t.pool.PreResume(ctx) }
func (t *pooled) Areas() []mapper.Area                { return t.pool.Areas() }

func (t *pooled) Resume() {
	t.pool.Resume()
	t.target.Resume()
}

func (t *pooled) PostSuspend(ctx context.Context) error { return t.pool.PostSuspend(ctx) }

func (t *pooled) Close() error { return errors.Join(t.target.Close(), t.pool.Close()) }

// prepare makes a pool with the thin device 0 on the disks.
func prepare(ctx context.Context, disks map[string]mapper.Disk) error {
	g := new(mapper.Registry)
	for _, typ := range NewTypes() {
		g.Register(typ)
	}
	m := mapper.NewManager(g, mapper.Options{Files: mappertest.NewFiles(disks["7:0"], disks["7:1"])})
	specs, err := mapper.ParseTable("0 4096 thin-pool 7:0 7:1 128 0")
	if err != nil {
		return err
	}
	d, err := m.Create(ctx, mapper.NewDevice{Name: "pool", Minor: -1, Table: specs})
	if err != nil {
		return err
	}
	if _, err := d.Message(ctx, 0, []string{"create_thin", "0"}); err != nil {
		return err
	}
	return m.Remove(ctx, "pool", mapper.RemoveOptions{})
}

func TestConformance(t *testing.T) {
	disks := []mappertest.DiskSpec{{Name: "7:0", Sectors: 2048, NoFlush: true}, {Name: "7:1", Sectors: 4096}}
	for _, features := range []string{"0", "1 no_discard_passdown", "1 ignore_discard"} {
		t.Run("thin, "+features, func(t *testing.T) {
			mappertest.TestTarget(t, &withPool, mappertest.Setup{
				Disks: disks, Len: 1000, Args: append([]string{"7:0", "7:1"}, strings.Fields(features)...), Prepare: prepare, FlushesMore: true,
			})
		})
	}
	t.Run("thin-pool", func(t *testing.T) {
		mappertest.TestTarget(t, &lonePool, mappertest.Setup{
			Disks: disks, Len: 1024, Args: []string{"7:0", "7:1", "128", "0"}, Prepare: nil, FlushesMore: true,
		})
	})
}

func FuzzArgs(f *testing.F) {
	f.Add(uint64(4096), "7:0 7:1 128 0")
	f.Add(uint64(1)<<62, "7:0 7:1 2097152 18446744073709551615 5 skip_block_zeroing no_space_timeout:0 read_only ignore_discard error_if_no_space")
	f.Add(uint64(0), "7:1 7:0 384 1 1 no_space_timeout:4294967295")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 2048), mappertest.NewDisk("7:1", 4096))
		words, err := mapper.SplitArgs(line)
		if err != nil {
			return
		}
		typ := NewTypes()[0]
		got, err := typ.New(ctx, h, mapper.Spec{Len: mapper.Sector(length), Args: words})
		if err != nil {
			return
		}
		table := got.(mapper.Tabler).Table(true)
		again, err := NewTypes()[0].New(ctx, h, mapper.Spec{Len: mapper.Sector(length), Args: table})
		if err != nil || !slices.Equal(again.(mapper.Tabler).Table(true), table) {
			t.Errorf("rebuilt from %q: %v", table, err)
		}
	})
}

// No message panics, or does more than it says.
func FuzzMessage(f *testing.F) {
	for _, m := range []string{"create_thin 0", "create_snap 1 0", "delete 0", "set_transaction_id 0 1", "reserve_metadata_snap", "release_metadata_snap", ""} {
		f.Add(m, m)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		b := newDisks(t, 2048, 4096)
		pool := b.create("pool", "0 4096 thin-pool 7:0 7:1 128 0")
		for _, m := range []string{first, second} {
			_, _ = pool.Message(ctx, 0, strings.Fields(m))
		}
		b.close()
		checked(t, b.meta, false)
	})
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		words string
		want  string // as the table shows them, or the reason
	}{
		{"", "0"},
		{"0", "0"},
		{"2 error_if_no_space skip_block_zeroing", "2 skip_block_zeroing error_if_no_space"},
		{"1 no_space_timeout:0", "1 no_space_timeout:0"},
		{"1 no_space_timeout:x", "Unrecognised pool feature requested"},
		{"1 no_space_timeout:99999999999", "Unrecognised pool feature requested"},
		{"5 skip_block_zeroing ignore_discard no_discard_passdown read_only no_space_timeout:5", "5 skip_block_zeroing ignore_discard no_discard_passdown read_only no_space_timeout:5"},
		{"5 skip_block_zeroing ignore_discard no_discard_passdown read_only error_if_no_space", "Invalid number of pool feature arguments"},
		{"6 no_space_timeout:1", "Invalid number of pool feature arguments"},
	} {
		f, err := parseFeatures(strings.Fields(c.words))
		got := strings.Join(f.words(), " ")
		var arg *mapper.ArgError
		if errors.As(err, &arg) {
			got = arg.Reason
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.words, got, c.want)
		}
	}
}
