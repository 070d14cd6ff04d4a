package dust

import (
	"cmp"
	"slices"
)

// maxBad is how many bad blocks there may be.
const maxBad = 1 << 22

// runLength is how many entries a run of a blockList has at most.
const runLength = 512

// An entry is a bad block and how many writes of it fail: block<<8 | writes. Blocks of a disk have at most 55 bits.
type entry uint64

func (e entry) block() uint64 { return uint64(e >> 8) }

// A blockList is a set of bad blocks in ascending order, in runs that are not empty. The zero value is empty.
type blockList struct {
	runs  [][]entry
	count int
}

// place returns where the entry of b is, or where it would go.
func (l *blockList) place(b uint64) (run, i int, found bool) {
	run, found = slices.BinarySearchFunc(l.runs, b, func(r []entry, b uint64) int { return cmp.Compare(r[0].block(), b) })
	if found {
		return run, 0, true
	}
	if run > 0 {
		run-- // the last run that begins before b
	}
	if len(l.runs) == 0 {
		return 0, 0, false
	}
	i, found = slices.BinarySearchFunc(l.runs[run], b, func(e entry, b uint64) int { return cmp.Compare(e.block(), b) })
	return run, i, found
}

// find returns how many writes of b fail, and whether it is bad.
func (l *blockList) find(b uint64) (writes uint8, bad bool) {
	run, i, found := l.place(b)
	if !found {
		return 0, false
	}
	return uint8(l.runs[run][i]), true
}

// set makes b bad, and the next writes of it fail.
func (l *blockList) set(b uint64, writes uint8) {
	e := entry(b<<8 | uint64(writes))
	run, i, found := l.place(b)
	if found {
		l.runs[run][i] = e
		return
	}
	l.count++
	if len(l.runs) == 0 {
		l.runs = [][]entry{{e}}
		return
	}
	r := slices.Insert(l.runs[run], i, e)
	l.runs[run] = r
	if len(r) > runLength {
		half := slices.Clone(r[runLength/2:])
		l.runs[run] = slices.Clip(r[:runLength/2])
		l.runs = slices.Insert(l.runs, run+1, half)
	}
}

// remove makes b good and reports whether it was bad.
func (l *blockList) remove(b uint64) bool {
	run, i, found := l.place(b)
	if !found {
		return false
	}
	l.count--
	l.runs[run] = slices.Delete(l.runs[run], i, i+1)
	if len(l.runs[run]) == 0 {
		l.runs = slices.Delete(l.runs, run, run+1)
	}
	return true
}

// all calls f for each bad block in ascending order.
func (l *blockList) all(f func(b uint64)) {
	for _, r := range l.runs {
		for _, e := range r {
			f(e.block())
		}
	}
}
