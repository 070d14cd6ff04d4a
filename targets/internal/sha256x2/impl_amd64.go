package sha256x2

import (
	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/cpu"
)

var supported = cpu.X86.HasAVX && cpuid.CPU.Supports(cpuid.SHA)

// Supported says whether this processor can do it.
func Supported() bool { return supported }

// compress takes whole blocks of two messages, of equal length, into their states.
func compress(s, t *state, x, y []byte) {
	compressSHA(s, t, &x[0], &y[0], len(x)/block)
}

//go:noescape
func compressSHA(s, t *state, x, y *byte, blocks int)
