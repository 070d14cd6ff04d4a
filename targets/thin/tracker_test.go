package thin

import (
	"maps"
	"slices"
	"sync"

	"dmfs/mapper"
)

// A tracker knows what each sector of each device may hold after a power cut. A flush of a device, or a commit of the pool, makes
// the last version the only one for what was complete before.
type tracker struct {
	mu   sync.Mutex
	may  map[DevID]map[mapper.Sector][]uint64
	gone map[DevID]bool
}

func newTracker() *tracker {
	return &tracker{may: make(map[DevID]map[mapper.Sector][]uint64), gone: make(map[DevID]bool)}
}

// begin notes that a sector is being written; done is part of flushed.
func (k *tracker) begin(id DevID, s mapper.Sector, serial uint64) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	have := k.may[id][s]
	if len(have) == 0 {
		have = []uint64{0}
	}
	k.may[id][s] = append(slices.Clip(have), serial)
}

// committed settles all devices: a commit of the pool flushes the data disk, too.
func (k *tracker) committed() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sectors := range k.may {
		settle(sectors)
	}
	clear(k.gone)
}

// flushed settles a device. Others may have changes that a flush of this one need not make durable.
func (k *tracker) flushed(id DevID) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	settle(k.may[id])
}

// settle leaves of what each sector may hold the newest.
func settle(sectors map[mapper.Sector][]uint64) {
	for s, serials := range sectors {
		sectors[s] = serials[len(serials)-1:]
		if sectors[s][0] == anything {
			delete(sectors, s) // unmapped for good
		}
	}
}

// appears notes that a device may be there, with the contents of origin, if it is not nil.
func (k *tracker) appears(id DevID, origin *volume) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone[id] = true
	k.may[id] = make(map[mapper.Sector][]uint64)
	if origin != nil {
		k.may[id] = maps.Clone(k.may[origin.id])
	}
}

// vanishes notes that a device is being deleted; with done it is gone.
func (k *tracker) vanishes(id DevID, done bool) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone[id] = true
	if done {
		delete(k.may, id)
		delete(k.gone, id)
	}
}

// snapshot returns what may be there.
func (k *tracker) snapshot() map[DevID]map[mapper.Sector][]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[DevID]map[mapper.Sector][]uint64, len(k.may))
	for id, sectors := range k.may {
		all[id] = maps.Clone(sectors)
	}
	return all
}
