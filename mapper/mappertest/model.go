package mappertest

import (
	"fmt"
	"slices"
	"sync"

	"dmfs/mapper"
)

// Serials with a meaning in a model.
const (
	zeroSerial uint64 = 0          // the sector holds zeroes
	anySerial  uint64 = ^uint64(0) // nobody knows: never written, discarded, or a write failed
)

// A model knows what each sector of a device must read as, and what it may read as after a power cut.
// It may be used concurrently.
type model struct {
	mu    sync.Mutex
	now   []uint64   // by sector: the serial that a read must show
	after [][]uint64 // by sector: the serials that may be found after a power cut, without repeats
}

// newModel returns the model of n sectors of unknown contents.
func newModel(n mapper.Sector) *model {
	m := &model{now: make([]uint64, n), after: make([][]uint64, n)}
	for i := range m.now {
		m.now[i], m.after[i] = anySerial, []uint64{anySerial}
	}
	return m
}

// begin notes that a request that gives n sectors from s on the serial is under way.
func (m *model) begin(s, n mapper.Sector, serial uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := s; i < s+n; i++ {
		m.now[i] = anySerial
		if !slices.Contains(m.after[i], serial) {
			m.after[i] = append(m.after[i], serial)
		}
	}
}

// done notes that the request that begin announced has succeeded; durable is true for a write with FUA.
func (m *model) done(s, n mapper.Sector, serial uint64, durable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := s; i < s+n; i++ {
		m.now[i] = serial
		if durable {
			m.after[i] = []uint64{serial}
		}
	}
}

// failed notes that the request that begin announced has failed: its sectors are unspecified.
func (m *model) failed(s, n mapper.Sector) { m.begin(s, n, anySerial) }

// flushed notes that a flush has succeeded that began when the contents were as they are.
func (m *model) flushed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, serial := range m.now {
		if serial != anySerial {
			m.after[i] = []uint64{serial}
		}
	}
}

// afterCut returns the model of the device after a power cut at this moment.
func (m *model) afterCut() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newModel(mapper.Sector(len(m.now)))
	for i := range m.after {
		c.after[i] = slices.Clone(m.after[i])
		if len(c.after[i]) == 1 {
			c.now[i] = c.after[i][0]
		}
	}
	return c
}

// check returns an error if buf, read from sector s on, is not what the model says. With loose set it may be
// anything that is allowed after a power cut.
func (m *model) check(buf []byte, s mapper.Sector, loose bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for off := 0; off < len(buf); off += mapper.SectorSize {
		i := s + mapper.SectorsOf(int64(off))
		allowed := m.now[i : i+1]
		if loose {
			allowed = m.after[i]
		}
		if sector := buf[off:][:mapper.SectorSize]; !holdsAny(sector, i, allowed) {
			return fmt.Errorf("sector %d holds %s, want %d of write %v (0: zeroes)", i, Describe(sector), i, allowed)
		}
	}
	return nil
}

// holdsAny reports whether the contents of sector i are those of one of the serials.
func holdsAny(sector []byte, i mapper.Sector, serials []uint64) bool {
	for _, serial := range serials {
		switch {
		case serial == anySerial:
			return true
		case serial == zeroSerial:
			if allZero(sector) {
				return true
			}
		case hasStamp(sector, i, serial):
			return true
		}
	}
	return false
}

// known calls f for each run of sectors whose contents are known.
func (m *model) known(loose bool, f func(s, n mapper.Sector)) {
	isKnown := func(i int) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if loose {
			return !slices.Contains(m.after[i], anySerial)
		}
		return m.now[i] != anySerial
	}
	for i := 0; i < len(m.now); i++ {
		first := i
		for i < len(m.now) && isKnown(i) {
			i++
		}
		if i > first {
			f(mapper.Sector(first), mapper.Sector(i-first))
		}
	}
}
