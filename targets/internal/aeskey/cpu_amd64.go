package aeskey

import "golang.org/x/sys/cpu"

// Package cpu looks into XCR0 for whether the system keeps the registers of AVX and AVX-512.

// HasInstructions reports whether the processor has instructions for AES.
func HasInstructions() bool { return cpu.X86.HasAES }

// HasVAES256 reports whether the processor has them for registers of 32 bytes, with AVX2 and VPCLMULQDQ.
func HasVAES256() bool {
	if !cpu.X86.HasAES || !cpu.X86.HasAVX2 {
		return false
	}
	// Package cpu knows of VAES and VPCLMULQDQ together with AVX-512 only.
	const vaes, vpclmulqdq = 0x200, 0x400
	ecx := cpuid7()
	return ecx&vaes != 0 && ecx&vpclmulqdq != 0
}

// HasVAES512 reports whether the processor has them for registers of 64 bytes, with AVX-512 F, BW, DQ and BMI2.
func HasVAES512() bool {
	return HasVAES256() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasBMI2
}

//go:noescape
func cpuid7() (ecx uint32)
