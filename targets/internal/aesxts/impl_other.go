//go:build !amd64 && !arm64

package aesxts

// available returns what this processor can run.
func available() []implementation { return []implementation{implGeneric} }

func (s *schedules) crypt(implementation, []byte, []byte, int, []byte, bool) {
	panic("aesxts: no assembly for this processor")
}
