#include "textflag.h"

// Units with VAES, VPCLMULQDQ and AVX-512 (F, BW, DQ): 32 blocks in flight, in eight registers of four blocks.
// vaes512_amd64.h has the body of the two functions, the use of the registers and the arithmetic of the tweaks.

// By how many bits the two halves of each block of a register are shifted to multiply block j by x^j.
DATA shiftLeft512<>+0x00(SB)/8, $0
DATA shiftLeft512<>+0x08(SB)/8, $0
DATA shiftLeft512<>+0x10(SB)/8, $1
DATA shiftLeft512<>+0x18(SB)/8, $1
DATA shiftLeft512<>+0x20(SB)/8, $2
DATA shiftLeft512<>+0x28(SB)/8, $2
DATA shiftLeft512<>+0x30(SB)/8, $3
DATA shiftLeft512<>+0x38(SB)/8, $3
GLOBL shiftLeft512<>(SB), RODATA|NOPTR, $64

// And the other way, to get the bits that this shifts out; a shift by 64 gives 0.
DATA shiftRight512<>+0x00(SB)/8, $64
DATA shiftRight512<>+0x08(SB)/8, $64
DATA shiftRight512<>+0x10(SB)/8, $63
DATA shiftRight512<>+0x18(SB)/8, $63
DATA shiftRight512<>+0x20(SB)/8, $62
DATA shiftRight512<>+0x28(SB)/8, $62
DATA shiftRight512<>+0x30(SB)/8, $61
DATA shiftRight512<>+0x38(SB)/8, $61
GLOBL shiftRight512<>(SB), RODATA|NOPTR, $64

// x^128 = x^7 + x^2 + x + 1 in the field of the tweaks; in the lower half of each block.
DATA poly512<>+0x00(SB)/8, $0x87
DATA poly512<>+0x08(SB)/8, $0
GLOBL poly512<>(SB), RODATA|NOPTR, $16

// LOADKEYS spreads the round keys at AX over Z16 (whitening) to Z29 and the last of BX rounds over Z30, each to all
// four blocks. What it loads beyond the last round key is memory of the schedule and is not used.
#define LOADKEYS \
	VBROADCASTI32X4 0x00(AX), Z16; \
	VBROADCASTI32X4 0x10(AX), Z17; \
	VBROADCASTI32X4 0x20(AX), Z18; \
	VBROADCASTI32X4 0x30(AX), Z19; \
	VBROADCASTI32X4 0x40(AX), Z20; \
	VBROADCASTI32X4 0x50(AX), Z21; \
	VBROADCASTI32X4 0x60(AX), Z22; \
	VBROADCASTI32X4 0x70(AX), Z23; \
	VBROADCASTI32X4 0x80(AX), Z24; \
	VBROADCASTI32X4 0x90(AX), Z25; \
	VBROADCASTI32X4 0xa0(AX), Z26; \
	VBROADCASTI32X4 0xb0(AX), Z27; \
	VBROADCASTI32X4 0xc0(AX), Z28; \
	VBROADCASTI32X4 0xd0(AX), Z29; \
	MOVQ            BX, CX; \
	SHLQ            $4, CX; \
	VBROADCASTI32X4 (AX)(CX*1), Z30

// FORGETKEYS clears Z16 to Z30, so that no key is saved with the registers.
#define FORGETKEYS \
	VPXORQ Z16, Z16, Z16; \
	VPXORQ Z17, Z17, Z17; \
	VPXORQ Z18, Z18, Z18; \
	VPXORQ Z19, Z19, Z19; \
	VPXORQ Z20, Z20, Z20; \
	VPXORQ Z21, Z21, Z21; \
	VPXORQ Z22, Z22, Z22; \
	VPXORQ Z23, Z23, Z23; \
	VPXORQ Z24, Z24, Z24; \
	VPXORQ Z25, Z25, Z25; \
	VPXORQ Z26, Z26, Z26; \
	VPXORQ Z27, Z27, Z27; \
	VPXORQ Z28, Z28, Z28; \
	VPXORQ Z29, Z29, Z29; \
	VPXORQ Z30, Z30, Z30

// CARRY adds to r, whose 64-bit halves were shifted left on their own, what c caught of the bits shifted out: those
// of the lower half belong in the upper one, those of the upper half are above x^128 and come back times poly. c and
// tmp are overwritten.
#define CARRY(c, r, tmp) \
	VPCLMULQDQ $0x01, Z31, c, tmp; \
	VPSLLDQ    $8, c, c; \
	VPTERNLOGQ $0x96, tmp, c, r

// TIMESX4 sets to = from * x^4, for each block.
#define TIMESX4(from, to, c, tmp) \
	VPSRLQ $60, from, c; \
	VPSLLQ $4, from, to; \
	CARRY(c, to, tmp)

// TIMESBYTES sets to = from * x^(8*n), for each block: a shift by n bytes; the rest = 16-n bytes that it
// leaves standing are what is shifted out and comes back times poly. n is at most 7, so that they fit a half.
#define TIMESBYTES(n, rest, from, to, tmp) \
	VPSRLDQ    $rest, from, tmp; \
	VPSLLDQ    $n, from, to; \
	VPCLMULQDQ $0x00, Z31, tmp, tmp; \
	VPXORQ     tmp, to, to

// func encryptVAES512(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// It encrypts units (>= 1) of blocks (>= 1) blocks each from src to dst, which are the same or do not overlap. tweaks
// has the encrypted tweak of the first block of each unit.
TEXT ·encryptVAES512(SB), NOSPLIT, $0-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND VAESENC
#define AESLAST VAESENCLAST
#include "vaes512_amd64.h"
#undef AESROUND
#undef AESLAST

// func decryptVAES512(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// As encryptVAES512, the other way, with the round keys for decryption.
TEXT ·decryptVAES512(SB), NOSPLIT, $0-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND VAESDEC
#define AESLAST VAESDECLAST
#include "vaes512_amd64.h"
#undef AESROUND
#undef AESLAST

// func tweaksVAES512(keys *roundKeys, rounds int, dst, src *byte, n int)
//
// It encrypts n (>= 1) single blocks from src to dst, which do not overlap: the tweaks. Four at a time; the processor
// overlaps the turns of the loop, since nothing carries over. The last turn may have fewer blocks, in the mask K1.
//
// AX keys, BX rounds, DI dst, SI src, R8 blocks left; Z16-Z30 round keys, Z0 data.
TEXT ·tweaksVAES512(SB), NOSPLIT, $0-40
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ n+32(FP), R8
	LOADKEYS
	MOVL  $0xff, DX
	KMOVB DX, K1

four:
	CMPQ  R8, $4
	JGE   load
	LEAQ  (R8)(R8*1), CX
	MOVL  $1, DX
	SHLXL CX, DX, DX
	DECL  DX
	KMOVB DX, K1

load:
	VMOVDQU64.Z (SI), K1, Z0
	VPXORQ      Z16, Z0, Z0
	VAESENC     Z17, Z0, Z0
	VAESENC     Z18, Z0, Z0
	VAESENC     Z19, Z0, Z0
	VAESENC     Z20, Z0, Z0
	VAESENC     Z21, Z0, Z0
	VAESENC     Z22, Z0, Z0
	VAESENC     Z23, Z0, Z0
	VAESENC     Z24, Z0, Z0
	VAESENC     Z25, Z0, Z0
	CMPQ        BX, $12
	JLT         last
	VAESENC     Z26, Z0, Z0
	VAESENC     Z27, Z0, Z0
	JEQ         last
	VAESENC     Z28, Z0, Z0
	VAESENC     Z29, Z0, Z0

last:
	VAESENCLAST Z30, Z0, Z0
	VMOVDQU64   Z0, K1, (DI)
	ADDQ        $64, SI
	ADDQ        $64, DI
	SUBQ        $4, R8
	JGT         four
	FORGETKEYS
	VZEROUPPER
	RET
