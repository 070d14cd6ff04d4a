package mappertest

import (
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
