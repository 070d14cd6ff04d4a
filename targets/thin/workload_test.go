package thin

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A workload does to a pool what users do, by chance, and knows what each block of each device must hold. It tests single sectors: the first of
// each block and the one amid it are stamped with a serial of their own.
type workload struct {
	b      *bench
	rnd    *rand.Rand
	pool   *mapper.Device
	thins  map[DevID]*volume
	serial uint64
	size   mapper.Sector // of a volume
	block  mapper.Sector
	held   bool
	trans  uint64
	track  *tracker // nil without power cuts
}

// A volume is a thin device, active or not, and what it holds: 0 for a sector that reads as zeroes.
type volume struct {
	id   DevID
	dev  *mapper.Device // nil if not active
	data map[mapper.Sector]uint64
}

// anything stands for what a discarded sector holds as long as the discard is not durable.
const anything = ^uint64(0)

const workloadBlocks = 96 // of a volume

func newWorkload(b *bench, seed uint64, table string) *workload {
	w := &workload{b: b, rnd: rand.New(rand.NewPCG(seed, 7)), thins: make(map[DevID]*volume), block: 128, size: workloadBlocks * 128}
	w.pool = b.create("pool", table)
	return w
}

func (w *workload) pick() *volume {
	ids := slices.Sorted(maps.Keys(w.thins))
	if len(ids) == 0 {
		return nil
	}
	return w.thins[ids[w.rnd.IntN(len(ids))]]
}

// activate makes the device of v.
func (w *workload) activate(v *volume) *mapper.Device {
	if v.dev == nil {
		v.dev = w.b.create(fmt.Sprintf("t%d", v.id), fmt.Sprintf("0 %d thin pool %d", w.size, v.id))
	}
	return v.dev
}

func (w *workload) deactivate(v *volume) {
	if v.dev != nil {
		if err := w.b.mgr.Remove(ctx, v.dev.Name(), mapper.RemoveOptions{}); err != nil {
			w.b.t.Fatal(err)
		}
		v.dev = nil
	}
}

// step does one thing.
func (w *workload) step() {
	v := w.pick()
	switch n := w.rnd.IntN(100); {
	case v == nil || n < 4 && len(w.thins) < 12:
		w.create()
	case n < 9 && len(w.thins) < 12:
		w.snapshot(v)
	case n < 11:
		w.remove(v)
	case n < 20:
		w.discard(v)
	case n < 24:
		w.flush(v)
	case n < 25:
		w.metadataSnapshot()
	case n < 26:
		w.trans++
		w.b.message(w.pool, fmt.Sprintf("set_transaction_id %d %d", w.trans-1, w.trans))
	case n < 30:
		w.deactivate(v)
	default:
		w.write(v)
	}
}

func (w *workload) newID() DevID {
	for {
		if id := DevID(w.rnd.IntN(1000)); w.thins[id] == nil {
			return id
		}
	}
}

func (w *workload) create() {
	id := w.newID()
	w.track.appears(id, nil)
	w.b.message(w.pool, fmt.Sprintf("create_thin %d", id))
	w.track.committed()
	w.thins[id] = &volume{id: id, data: make(map[mapper.Sector]uint64)}
}

func (w *workload) snapshot(v *volume) {
	id := w.newID()
	if v.dev != nil {
		must(w.b, v.dev.Suspend(ctx, false))
	}
	w.track.appears(id, v)
	w.b.message(w.pool, fmt.Sprintf("create_snap %d %d", id, v.id))
	w.track.committed()
	if v.dev != nil {
		must(w.b, v.dev.Resume(ctx, mapper.ResumeOptions{}))
	}
	w.thins[id] = &volume{id: id, data: maps.Clone(v.data)}
}

func must(b *bench, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (w *workload) remove(v *volume) {
	w.deactivate(v)
	w.track.vanishes(v.id, false)
	w.b.message(w.pool, fmt.Sprintf("delete %d", v.id))
	w.track.vanishes(v.id, true)
	w.track.committed()
	delete(w.thins, v.id)
}

func (w *workload) metadataSnapshot() {
	if w.held {
		w.b.message(w.pool, "release_metadata_snap")
	} else {
		w.b.message(w.pool, "reserve_metadata_snap")
	}
	w.held = !w.held
	w.track.committed()
}

func (w *workload) flush(v *volume) {
	w.b.submit(w.activate(v), mapper.Request{Op: mapper.OpFlush})
	w.track.flushed(v.id)
}

func (w *workload) discard(v *volume) {
	from := mapper.Sector(w.rnd.IntN(workloadBlocks))
	n := 1 + mapper.Sector(w.rnd.IntN(workloadBlocks-int(from)))
	op := mapper.OpDiscard
	if w.rnd.IntN(2) == 0 {
		op = mapper.OpWriteZeroes
	}
	for s := from * w.block; s < (from+n)*w.block; s += w.block / 2 {
		w.track.begin(v.id, s, map[mapper.Op]uint64{mapper.OpDiscard: anything}[op])
	}
	w.b.submit(w.activate(v), mapper.Request{Op: op, Start: from * w.block, Count: n * w.block})
	for s := from * w.block; s < (from+n)*w.block; s += w.block / 2 {
		delete(v.data, s)
	}
}

// write writes a sector at the beginning or amid a block, or a few blocks whole.
func (w *workload) write(v *volume) {
	w.serial++
	at := mapper.Sector(w.rnd.IntN(workloadBlocks)) * w.block
	n := mapper.Sector(1)
	switch w.rnd.IntN(4) {
	case 0:
		n = min(w.size-at, w.block*mapper.Sector(1+w.rnd.IntN(3)))
	case 1:
		at += w.block / 2
	}
	r := mapper.Request{Op: mapper.OpWrite, Start: at, Count: n, Data: mappertest.Stamped(at, n, w.serial)}
	if w.rnd.IntN(20) == 0 {
		r.Flags = mapper.FlagFUA
	}
	first := (at + w.block/2 - 1) / (w.block / 2) * (w.block / 2)
	for s := first; s < at+n; s += w.block / 2 {
		w.track.begin(v.id, s, w.serial)
	}
	w.b.submit(w.activate(v), r)
	for s := first; s < at+n; s += w.block / 2 {
		v.data[s] = w.serial
	}
}

// verify reads all that is known.
func (w *workload) verify() {
	for _, v := range w.thins {
		for s := mapper.Sector(0); s < w.size; s += w.block / 2 {
			if err := w.check(v, s, v.data[s]); err != nil {
				w.b.t.Fatalf("device %d: %v", v.id, err)
			}
		}
	}
}

func (w *workload) check(v *volume, s mapper.Sector, serial uint64) error {
	var buf [mapper.SectorSize]byte
	if err := w.activate(v).Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: s, Count: 1, Data: buf[:]}); err != nil {
		return err
	}
	if serial == 0 {
		if w.skips() {
			return nil
		}
		return mappertest.CheckZero(buf[:], s)
	}
	return mappertest.CheckStamp(buf[:], s, serial)
}

// skips reports whether a new block may hold anything.
func (w *workload) skips() bool {
	for _, l := range w.pool.Table(mapper.LiveSlot, false, false) {
		if l.Params != "" && containsWord(l.Params, "skip_block_zeroing") {
			return true
		}
	}
	return false
}

func containsWord(line, word string) bool {
	words, err := mapper.SplitArgs(line)
	return err == nil && slices.Contains(words, word)
}

func (w *workload) finish() {
	w.verify()
	w.b.close()
	for _, v := range w.thins {
		v.dev = nil
	}
}
