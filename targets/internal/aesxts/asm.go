//go:build amd64 || arm64

package aesxts

// Encrypted tweaks are made for a batch of units, which is also what a goroutine does without a chance to be preempted:
// some 50 µs of work at most.
const (
	batchUnits = 64
	batchBytes = 256 << 10
)

// crypt is Encrypt and Decrypt with an implementation in assembly. The lengths have been checked.
func (s *schedules) crypt(impl implementation, dst, src []byte, unit int, tweaks []byte, decrypt bool) {
	keys := &s.encrypt
	if decrypt {
		keys = &s.decrypt
	}
	var encrypted [batchUnits * BlockSize]byte
	most := max(1, min(batchUnits, batchBytes/unit))
	for units := len(src) / unit; units > 0; {
		n := min(units, most)
		encryptTweaks(impl, &s.tweak, s.rounds, &encrypted[0], &tweaks[0], n)
		cryptUnits(impl, decrypt, keys, s.rounds, &dst[0], &src[0], n, unit/BlockSize, &encrypted[0])
		if units -= n; units > 0 {
			dst, src, tweaks = dst[n*unit:], src[n*unit:], tweaks[n*BlockSize:]
		}
	}
}
