#include "textflag.h"

// CBC with AES-NI and SSE2 alone, eight blocks in flight. For decryption these follow each other in a unit; for encryption,
// where each block needs the one before, they are of eight units.

// func encryptAESNI(keys *aeskey.RoundKeys, rounds int, dst, src *byte, unit, lanes int, ivs *byte)
//
// It encrypts lanes (1 to 8) units of unit (>= 16) bytes each from src to dst, which are the same or do not overlap.
// Lanes beyond the last unit repeat it: they read what it reads, before anything is written there, and write the same.
//
// AX keys, BX last round key, CX key of the round (first: IV of the lane), DX bytes left of the unit, SI src, DI dst
// R8-R15 where the units begin
// X0-X7 the last block of each unit, X10 scratch, X11 round key, X12 round key 0
TEXT ·encryptAESNI(SB), NOSPLIT, $0-56
	MOVQ  keys+0(FP), AX
	MOVQ  rounds+8(FP), BX
	MOVQ  src+24(FP), SI
	MOVQ  unit+32(FP), DX
	MOVQ  ivs+48(FP), CX
	SHLQ  $4, BX
	ADDQ  AX, BX
	MOVOU (AX), X12
	XORQ  R8, R8
	MOVOU (CX), X0

	LEAQ    (R8)(DX*1), R9
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $1
	CMOVQLE R8, R9
	CMOVQGT DI, CX
	MOVOU   (CX), X1

	LEAQ    (R9)(DX*1), R10
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $2
	CMOVQLE R9, R10
	CMOVQGT DI, CX
	MOVOU   (CX), X2

	LEAQ    (R10)(DX*1), R11
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $3
	CMOVQLE R10, R11
	CMOVQGT DI, CX
	MOVOU   (CX), X3

	LEAQ    (R11)(DX*1), R12
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $4
	CMOVQLE R11, R12
	CMOVQGT DI, CX
	MOVOU   (CX), X4

	LEAQ    (R12)(DX*1), R13
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $5
	CMOVQLE R12, R13
	CMOVQGT DI, CX
	MOVOU   (CX), X5

	LEAQ    (R13)(DX*1), R14
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $6
	CMOVQLE R13, R14
	CMOVQGT DI, CX
	MOVOU   (CX), X6

	LEAQ    (R14)(DX*1), R15
	LEAQ    16(CX), DI
	CMPQ    lanes+40(FP), $7
	CMOVQLE R14, R15
	CMOVQGT DI, CX
	MOVOU   (CX), X7

	MOVQ dst+16(FP), DI

block:
	MOVOU (SI)(R8*1), X10
	PXOR  X12, X0
	PXOR  X10, X0
	MOVOU (SI)(R9*1), X10
	PXOR  X12, X1
	PXOR  X10, X1
	MOVOU (SI)(R10*1), X10
	PXOR  X12, X2
	PXOR  X10, X2
	MOVOU (SI)(R11*1), X10
	PXOR  X12, X3
	PXOR  X10, X3
	MOVOU (SI)(R12*1), X10
	PXOR  X12, X4
	PXOR  X10, X4
	MOVOU (SI)(R13*1), X10
	PXOR  X12, X5
	PXOR  X10, X5
	MOVOU (SI)(R14*1), X10
	PXOR  X12, X6
	PXOR  X10, X6
	MOVOU (SI)(R15*1), X10
	PXOR  X12, X7
	PXOR  X10, X7
	LEAQ  16(AX), CX

round:
	MOVOU      (CX), X11
	AESENC     X11, X0
	AESENC     X11, X1
	AESENC     X11, X2
	AESENC     X11, X3
	AESENC     X11, X4
	AESENC     X11, X5
	AESENC     X11, X6
	AESENC     X11, X7
	ADDQ       $16, CX
	CMPQ       CX, BX
	JNE        round
	MOVOU      (CX), X11
	AESENCLAST X11, X0
	AESENCLAST X11, X1
	AESENCLAST X11, X2
	AESENCLAST X11, X3
	AESENCLAST X11, X4
	AESENCLAST X11, X5
	AESENCLAST X11, X6
	AESENCLAST X11, X7
	MOVOU      X0, (DI)(R8*1)
	MOVOU      X1, (DI)(R9*1)
	MOVOU      X2, (DI)(R10*1)
	MOVOU      X3, (DI)(R11*1)
	MOVOU      X4, (DI)(R12*1)
	MOVOU      X5, (DI)(R13*1)
	MOVOU      X6, (DI)(R14*1)
	MOVOU      X7, (DI)(R15*1)
	ADDQ       $16, SI
	ADDQ       $16, DI
	SUBQ       $16, DX
	JNE        block
	PXOR       X11, X11
	PXOR       X12, X12
	RET

// func decryptAESNI(keys *aeskey.RoundKeys, rounds int, dst, src *byte, units, blocks int, ivs *byte)
//
// It decrypts units (>= 1) of blocks (>= 1) blocks each from src to dst, which are the same or do not overlap. Where they are the
// same, a block is read for its successor before it is overwritten.
//
// AX keys, BX last round key, DI dst, SI src, R8 units left, R9 blocks of a unit, DX IV of the unit, CX blocks left of the unit,
// R11 key of the round
// X0-X7 data, X8 encrypted block before them, X9 encrypted block before those that follow, X10 scratch, X11 round key,
// X12 round key 0
TEXT ·decryptAESNI(SB), NOSPLIT, $0-56
	MOVQ  keys+0(FP), AX
	MOVQ  rounds+8(FP), BX
	MOVQ  dst+16(FP), DI
	MOVQ  src+24(FP), SI
	MOVQ  units+32(FP), R8
	MOVQ  blocks+40(FP), R9
	MOVQ  ivs+48(FP), DX
	SHLQ  $4, BX
	ADDQ  AX, BX
	MOVOU (AX), X12

unit:
	MOVOU (DX), X8
	MOVQ  R9, CX
	SUBQ  $8, CX
	JLT   rest

eight:
	MOVOU 0x00(SI), X0
	MOVOU 0x10(SI), X1
	MOVOU 0x20(SI), X2
	MOVOU 0x30(SI), X3
	MOVOU 0x40(SI), X4
	MOVOU 0x50(SI), X5
	MOVOU 0x60(SI), X6
	MOVOU 0x70(SI), X7
	MOVO  X7, X9
	PXOR  X12, X0
	PXOR  X12, X1
	PXOR  X12, X2
	PXOR  X12, X3
	PXOR  X12, X4
	PXOR  X12, X5
	PXOR  X12, X6
	PXOR  X12, X7
	LEAQ  16(AX), R11

round:
	MOVOU      (R11), X11
	AESDEC     X11, X0
	AESDEC     X11, X1
	AESDEC     X11, X2
	AESDEC     X11, X3
	AESDEC     X11, X4
	AESDEC     X11, X5
	AESDEC     X11, X6
	AESDEC     X11, X7
	ADDQ       $16, R11
	CMPQ       R11, BX
	JNE        round
	MOVOU      (R11), X11
	AESDECLAST X11, X0
	AESDECLAST X11, X1
	AESDECLAST X11, X2
	AESDECLAST X11, X3
	AESDECLAST X11, X4
	AESDECLAST X11, X5
	AESDECLAST X11, X6
	AESDECLAST X11, X7
	PXOR       X8, X0
	MOVOU      0x00(SI), X10
	PXOR       X10, X1
	MOVOU      0x10(SI), X10
	PXOR       X10, X2
	MOVOU      0x20(SI), X10
	PXOR       X10, X3
	MOVOU      0x30(SI), X10
	PXOR       X10, X4
	MOVOU      0x40(SI), X10
	PXOR       X10, X5
	MOVOU      0x50(SI), X10
	PXOR       X10, X6
	MOVOU      0x60(SI), X10
	PXOR       X10, X7
	MOVOU      X0, 0x00(DI)
	MOVOU      X1, 0x10(DI)
	MOVOU      X2, 0x20(DI)
	MOVOU      X3, 0x30(DI)
	MOVOU      X4, 0x40(DI)
	MOVOU      X5, 0x50(DI)
	MOVOU      X6, 0x60(DI)
	MOVOU      X7, 0x70(DI)
	MOVO       X9, X8
	ADDQ       $128, SI
	ADDQ       $128, DI
	SUBQ       $8, CX
	JGE        eight

rest:
	ADDQ $8, CX
	JEQ  next

one:
	MOVOU (SI), X0
	MOVO  X0, X9
	PXOR  X12, X0
	LEAQ  16(AX), R11

roundOne:
	MOVOU      (R11), X11
	AESDEC     X11, X0
	ADDQ       $16, R11
	CMPQ       R11, BX
	JNE        roundOne
	MOVOU      (R11), X11
	AESDECLAST X11, X0
	PXOR       X8, X0
	MOVOU      X0, (DI)
	MOVO       X9, X8
	ADDQ       $16, SI
	ADDQ       $16, DI
	DECQ       CX
	JNE        one

next:
	ADDQ $16, DX
	DECQ R8
	JNE  unit
	PXOR X11, X11
	PXOR X12, X12
	RET
