package aescbc

import "dmfs/targets/internal/aeskey"

const (
	implVAES512 implementation = "vaes512"
	implAESNI   implementation = "aesni"
)

// available returns what this processor and the system can run, best first.
func available() (all []implementation) {
	if aeskey.HasVAES512() {
		all = append(all, implVAES512)
	}
	if aeskey.HasInstructions() {
		all = append(all, implAESNI)
	}
	return append(all, implGeneric)
}

// lanes is how many units are encrypted at a time.
const lanes = 8

// encryptUnits is Encrypt with AES-NI, of at least one unit.
func (s *schedules) encryptUnits(dst, src []byte, unit int, ivs []byte) {
	for units := len(src) / unit; ; {
		n := min(units, lanes)
		encryptAESNI(&s.encrypt, s.rounds, &dst[0], &src[0], unit, n, &ivs[0])
		if units -= n; units == 0 {
			return
		}
		dst, src, ivs = dst[n*unit:], src[n*unit:], ivs[n*BlockSize:]
	}
}

// batchBytes is what a goroutine does without a chance to be preempted: some 50 µs of work at most.
const batchBytes = 256 << 10

// decryptUnits is Decrypt with AES-NI or VAES, of at least one unit.
func (s *schedules) decryptUnits(impl implementation, dst, src []byte, unit int, ivs []byte) {
	most := max(1, batchBytes/unit)
	for units := len(src) / unit; ; {
		n := min(units, most)
		if impl == implVAES512 {
			decryptVAES512(&s.decrypt, s.rounds, &dst[0], &src[0], n, unit/BlockSize, &ivs[0])
		} else {
			decryptAESNI(&s.decrypt, s.rounds, &dst[0], &src[0], n, unit/BlockSize, &ivs[0])
		}
		if units -= n; units == 0 {
			return
		}
		dst, src, ivs = dst[n*unit:], src[n*unit:], ivs[n*BlockSize:]
	}
}

//go:noescape
func encryptAESNI(keys *aeskey.RoundKeys, rounds int, dst, src *byte, unit, lanes int, ivs *byte)

//go:noescape
func decryptAESNI(keys *aeskey.RoundKeys, rounds int, dst, src *byte, units, blocks int, ivs *byte)

//go:noescape
func decryptVAES512(keys *aeskey.RoundKeys, rounds int, dst, src *byte, units, blocks int, ivs *byte)
