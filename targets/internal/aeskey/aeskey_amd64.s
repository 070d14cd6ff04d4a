#include "textflag.h"

// func subWord(w uint32) uint32
//
// It puts each byte of w through the S-box: the last round of AES with a key of zeroes, where shifting
// rows does nothing since all columns are equal.
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL       w+0(FP), AX
	MOVL       AX, X0
	PSHUFD     $0, X0, X0
	PXOR       X1, X1
	AESENCLAST X1, X0
	MOVL       X0, ret+8(FP)
	PXOR       X0, X0
	RET

// func invMixColumns(dst, src *[16]byte)
TEXT ·invMixColumns(SB), NOSPLIT, $0-16
	MOVQ   dst+0(FP), DI
	MOVQ   src+8(FP), SI
	MOVOU  (SI), X0
	AESIMC X0, X0
	MOVOU  X0, (DI)
	PXOR   X0, X0
	RET

// func cpuid7() (ecx uint32)
//
// It returns this register of CPUID leaf 7, which the processor must have.
TEXT ·cpuid7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
