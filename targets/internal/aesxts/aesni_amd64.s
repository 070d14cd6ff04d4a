#include "textflag.h"

// Units with AES-NI and SSE2 alone: eight blocks in flight. aesni_amd64.h has the body of the two functions, the use of
// the registers and the arithmetic of the tweaks.

// What the sign bits of the two halves of a tweak, each spread over 32 bits, are worth in the other half.
DATA carry128<>+0x00(SB)/8, $0x87
DATA carry128<>+0x08(SB)/8, $0x01
GLOBL carry128<>(SB), RODATA|NOPTR, $16

// NEXTTWEAK multiplies X8 by x: both halves are doubled, and the bits shifted out, spread to masks, select what they are
// worth: that of the lower half is bit 0 of the upper one, that of the upper half is x^128 = 0x87.
#define NEXTTWEAK \
	PSHUFD $0x13, X8, X10; \
	PADDQ  X8, X8; \
	PSRAL  $31, X10; \
	PAND   X9, X10; \
	PXOR   X10, X8

// func encryptAESNI(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// It encrypts units (>= 1) of blocks (>= 1) blocks each from src to dst, which are the same or do not overlap. tweaks
// has the encrypted tweak of the first block of each unit. The frame holds the tweaks of twice eight blocks, aligned to 16.
TEXT ·encryptAESNI(SB), NOSPLIT, $272-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND AESENC
#define AESLAST AESENCLAST
#include "aesni_amd64.h"
#undef AESROUND
#undef AESLAST

// func decryptAESNI(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// As encryptAESNI, the other way, with the round keys for decryption.
TEXT ·decryptAESNI(SB), NOSPLIT, $272-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND AESDEC
#define AESLAST AESDECLAST
#include "aesni_amd64.h"
#undef AESROUND
#undef AESLAST

// func tweaksAESNI(keys *roundKeys, rounds int, dst, src *byte, n int)
//
// It encrypts n (>= 1) single blocks from src to dst, which do not overlap: the tweaks. The processor overlaps the turns
// of the loop, since nothing carries over.
//
// AX key 1, BX last round key, CX key of the round, DI dst, SI src, R8 blocks left; X0 data, X1 key.
TEXT ·tweaksAESNI(SB), NOSPLIT, $0-40
	MOVQ  keys+0(FP), AX
	MOVQ  rounds+8(FP), BX
	MOVQ  dst+16(FP), DI
	MOVQ  src+24(FP), SI
	MOVQ  n+32(FP), R8
	SHLQ  $4, BX
	ADDQ  AX, BX
	ADDQ  $16, AX

one:
	MOVOU (SI), X0
	MOVOU -16(AX), X1
	PXOR  X1, X0
	MOVQ  AX, CX

round:
	MOVOU      (CX), X1
	AESENC     X1, X0
	ADDQ       $16, CX
	CMPQ       CX, BX
	JNE        round
	MOVOU      (CX), X1
	AESENCLAST X1, X0
	MOVOU      X0, (DI)
	ADDQ       $16, SI
	ADDQ       $16, DI
	DECQ       R8
	JNE        one
	PXOR       X1, X1
	RET
