package mappertest

import (
	"slices"

	"dmfs/mapper"
)

// unit returns how many sectors share a tag; 1 if there are no tags. d.mu is held.
func (d *Disk) unit() mapper.Sector {
	return max(1, mapper.SectorsOf(int64(d.limits.Tags.Unit)))
}

// loadTags fills r.Tags. d.mu is held.
func (d *Disk) loadTags(r mapper.Request) {
	n := d.limits.Tags.Size
	for i, s := 0, r.Start; i < len(r.Tags); i, s = i+n, s+d.unit() {
		tag := r.Tags[i : i+n]
		if copy(tag, d.tags[s]) == 0 {
			clear(tag)
		}
	}
}

// storeTags keeps a copy of r.Tags. d.mu is held.
func (d *Disk) storeTags(r mapper.Request) {
	n := d.limits.Tags.Size
	for i, s := 0, r.Start; i < len(r.Tags); i, s = i+n, s+d.unit() {
		d.tags[s] = slices.Clone(r.Tags[i : i+n])
	}
}

// grain returns how many sectors a power cut keeps or loses as one: those that share a tag are written together
// with it, as a journal does.
func (d *Disk) grain() mapper.Sector {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.unit()
}

// peekGrain returns a copy of what the grain at s holds, its tag at the end.
func (d *Disk) peekGrain(s mapper.Sector) []byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	size := d.unit().Bytes()
	buf := make([]byte, size, int(size)+d.limits.Tags.Size)
	d.load(s, buf)
	return append(buf, d.tags[s]...)
}

// pokeGrain puts back what peekGrain returned.
func (d *Disk) pokeGrain(s mapper.Sector, held []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := d.unit().Bytes()
	d.store(s, held[:size])
	if tag := held[size:]; len(tag) > 0 {
		d.tags[s] = slices.Clone(tag)
	} else {
		delete(d.tags, s)
	}
}
