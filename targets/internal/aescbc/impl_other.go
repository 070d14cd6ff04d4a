//go:build !amd64

package aescbc

// available returns what this processor can run.
func available() []implementation { return []implementation{implGeneric} }

func (s *schedules) encryptUnits([]byte, []byte, int, []byte) {
	panic("aescbc: no assembly for this processor")
}

func (s *schedules) decryptUnits(implementation, []byte, []byte, int, []byte) {
	panic("aescbc: no assembly for this processor")
}
