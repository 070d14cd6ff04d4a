//go:build !amd64

package sha256x2

// Supported says whether this processor can do it.
func Supported() bool { return false }

func compress(*state, *state, []byte, []byte) { panic("sha256x2: not supported") }
