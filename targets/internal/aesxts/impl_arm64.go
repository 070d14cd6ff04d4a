package aesxts

import "dmfs/targets/internal/aeskey"

const implARM64 implementation = "arm64"

// available returns what this processor can run, best first.
func available() []implementation {
	if aeskey.HasInstructions() {
		return []implementation{implARM64, implGeneric}
	}
	return []implementation{implGeneric}
}

// cryptUnits sends units of blocks blocks each through AES-XTS with the round keys for the way. tweaks are encrypted.
func cryptUnits(_ implementation, decrypt bool, keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte) {
	if decrypt {
		decryptARM64(keys, rounds, dst, src, units, blocks, tweaks)
		return
	}
	encryptARM64(keys, rounds, dst, src, units, blocks, tweaks)
}

// encryptTweaks encrypts n tweaks.
func encryptTweaks(_ implementation, keys *roundKeys, rounds int, dst, src *byte, n int) {
	tweaksARM64(keys, rounds, dst, src, n)
}

//go:noescape
func encryptARM64(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func decryptARM64(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)

//go:noescape
func tweaksARM64(keys *roundKeys, rounds int, dst, src *byte, n int)
