package mappertest

import (
	"math/rand/v2"
	"os"
	"strconv"
)

// Cuts returns how many states after power cuts a test looks at: few, or what DMFS_CRASHES says, which make crash sets.
func Cuts(few int) int {
	if n, err := strconv.Atoi(os.Getenv("DMFS_CRASHES")); err == nil {
		return n
	}
	return few
}

// CutSeed draws a seed for Power.Cut: often one that loses or keeps all.
func CutSeed(rnd *rand.Rand) uint64 {
	switch rnd.IntN(4) {
	case 0:
		return LoseAll
	case 1:
		return KeepAll
	}
	return rnd.Uint64()
}
