//go:build !amd64 && !arm64

package aeskey

// HasInstructions reports whether the processor has instructions for AES that we use.
func HasInstructions() bool { return false }

// Expand must not be called.
func Expand(*RoundKeys, []byte) { panic("aeskey: no assembly for this processor") }

// Invert must not be called.
func Invert(_, _ *RoundKeys, _ int) { panic("aeskey: no assembly for this processor") }
