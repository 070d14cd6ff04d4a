package aesxts

import "dmfs/targets/internal/aeskey"

const (
	implVAES512 implementation = "vaes512"
	implVAES256 implementation = "vaes256"
	implAESNI   implementation = "aesni"
)

// available returns what this processor and the system can run, best first.
func available() (all []implementation) {
	if aeskey.HasVAES512() {
		all = append(all, implVAES512)
	}
	if aeskey.HasVAES256() {
		all = append(all, implVAES256)
	}
	if aeskey.HasInstructions() {
		all = append(all, implAESNI)
	}
	return append(all, implGeneric)
}

// cryptUnits sends units of blocks blocks each through AES-XTS with the round keys for the way. tweaks are encrypted.
func cryptUnits(impl implementation, decrypt bool, keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte) {
	switch {
	case impl == implVAES512 && decrypt:
		decryptVAES512(keys, rounds, dst, src, units, blocks, tweaks)
	case impl == implVAES512:
		encryptVAES512(keys, rounds, dst, src, units, blocks, tweaks)
	case impl == implVAES256 && decrypt:
		decryptVAES256(keys, rounds, dst, src, units, blocks, tweaks)
	case impl == implVAES256:
		encryptVAES256(keys, rounds, dst, src, units, blocks, tweaks)
	case decrypt:
		decryptAESNI(keys, rounds, dst, src, units, blocks, tweaks)
	default:
		encryptAESNI(keys, rounds, dst, src, units, blocks, tweaks)
	}
}

// encryptTweaks encrypts n tweaks.
func encryptTweaks(impl implementation, keys *roundKeys, rounds int, dst, src *byte, n int) {
	if impl == implVAES512 {
		tweaksVAES512(keys, rounds, dst, src, n)
		return
	}
	tweaksAESNI(keys, rounds, dst, src, n)
}

//go:noescape
func encryptVAES512(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func decryptVAES512(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func tweaksVAES512(keys *roundKeys, rounds int, dst, src *byte, n int)

//go:noescape
func encryptVAES256(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func decryptVAES256(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func encryptAESNI(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func decryptAESNI(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func tweaksAESNI(keys *roundKeys, rounds int, dst, src *byte, n int)
