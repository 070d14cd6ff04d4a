package aeskey

import "golang.org/x/sys/cpu"

// HasInstructions reports whether the processor has instructions for AES.
func HasInstructions() bool { return cpu.ARM64.HasAES }
