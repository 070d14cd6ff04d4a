package mappertest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seed returns the seed of a random test: DMFS_SEED from the environment, or a new one. If the test fails, it
// logs how to repeat it.
func Seed(t testing.TB) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("DMFS_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: DMFS_SEED=%d go test -run '%s'", seed, t.Name())
		}
	})
	return seed
}
