package mapper

import (
	"testing"
	"testing/quick"
)

func TestStack(t *testing.T) {
	fine := Limits{LogicalBlock: 512, OptIO: 3 * 4096, MaxDiscard: 100, MaxWriteZeroes: 50, DiscardGranularity: 1}
	coarse := Limits{LogicalBlock: 4096, PhysicalBlock: 8192, OptIO: 2 * 4096, MaxWriteZeroes: 70, DiscardGranularity: 8, VolatileCache: true, ReadOnly: true}
	want := Limits{
		LogicalBlock: 4096, PhysicalBlock: 8192, MinIO: 8192, OptIO: 6 * 4096,
		MaxDiscard: 0, MaxWriteZeroes: 50, DiscardGranularity: 8, VolatileCache: true, ReadOnly: true,
	}
	if got := fine.Stack(coarse); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := coarse.Stack(fine); got != want {
		t.Errorf("the other way round: got  %+v\nwant %+v", got, want)
	}
	if got := (Limits{Split: 8}).Stack(Limits{Split: 16}); got.Split != 8 {
		t.Errorf("Split of the disk below came through: %d", got.Split)
	}
}

func TestZeroLimitsAreNoRestriction(t *testing.T) {
	if got, want := (Limits{}).Normal(), (Limits{LogicalBlock: 512, PhysicalBlock: 512, MinIO: 512}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (Limits{}).LogicalSectors(); got != 1 {
		t.Errorf("a block of %d sectors", got)
	}
}

// Optimal sizes stack to a common multiple, or, if that is beyond reason, to the larger; never to nonsense.
func TestOptimalSize(t *testing.T) {
	f := func(a, b uint16) bool {
		x, y := int(a)<<SectorShift, int(b)<<SectorShift
		got := Limits{OptIO: x}.Stack(Limits{OptIO: y}).OptIO
		if x == 0 || y == 0 {
			return got == max(x, y)
		}
		return got == max(x, y) || got > 0 && got%x == 0 && got%y == 0
	}
	if err := quick.Check(f, nil); err != nil {
		t.Error(err)
	}
	const huge = 1<<62 + 1<<SectorShift
	if got := (Limits{OptIO: huge}).Stack(Limits{OptIO: huge - 512}).OptIO; got != huge {
		t.Errorf("got %d, want the larger", got)
	}
}
