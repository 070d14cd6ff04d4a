#include "textflag.h"

// Units with VAES, VPCLMULQDQ and AVX2, for processors without AVX-512: 16 blocks in flight, in eight registers of
// two blocks. vaes256_amd64.h has the body of the two functions, the use of the registers and the arithmetic of the tweaks.

// By how many bits the two halves of each block of a register are shifted to multiply block j by x^j.
DATA shiftLeft256<>+0x00(SB)/8, $0
DATA shiftLeft256<>+0x08(SB)/8, $0
DATA shiftLeft256<>+0x10(SB)/8, $1
DATA shiftLeft256<>+0x18(SB)/8, $1
GLOBL shiftLeft256<>(SB), RODATA|NOPTR, $32

// And the other way, to get the bits that this shifts out; a shift by 64 gives 0.
DATA shiftRight256<>+0x00(SB)/8, $64
DATA shiftRight256<>+0x08(SB)/8, $64
DATA shiftRight256<>+0x10(SB)/8, $63
DATA shiftRight256<>+0x18(SB)/8, $63
GLOBL shiftRight256<>(SB), RODATA|NOPTR, $32

// x^128 = x^7 + x^2 + x + 1 in the field of the tweaks; in the lower half of each block.
DATA poly256<>+0x00(SB)/8, $0x87
DATA poly256<>+0x08(SB)/8, $0
GLOBL poly256<>(SB), RODATA|NOPTR, $16

// CARRY adds to r, whose 64-bit halves were shifted left on their own, what c caught of the bits shifted out: those
// of the lower half belong in the upper one, those of the upper half are above x^128 and come back times poly. c and
// tmp are overwritten.
#define CARRY(c, r, tmp) \
	VPCLMULQDQ $0x01, Y15, c, tmp; \
	VPSLLDQ    $8, c, c; \
	VPXOR      tmp, r, r; \
	VPXOR      c, r, r

// PAIR makes Y8 the tweaks of the first two blocks of a unit, T and T * x, from T at p.
#define PAIR(p) \
	VBROADCASTI128 p, Y9; \
	VPSRLVQ        shiftRight256<>(SB), Y9, Y10; \
	VPSLLVQ        shiftLeft256<>(SB), Y9, Y8; \
	CARRY(Y10, Y8, Y11)

// NEXTPAIR multiplies both tweaks in Y8 by x^2.
#define NEXTPAIR \
	VPSRLQ $62, Y8, Y9; \
	VPSLLQ $2, Y8, Y8; \
	CARRY(Y9, Y8, Y10)

// func encryptVAES256(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// It encrypts units (>= 1) of blocks (>= 1) blocks each from src to dst, which are the same or do not overlap. tweaks
// has the encrypted tweak of the first block of each unit. The frame holds the tweaks of twice 16 blocks, aligned to 32.
TEXT ·encryptVAES256(SB), NOSPLIT, $544-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND VAESENC
#define AESLAST VAESENCLAST
#include "vaes256_amd64.h"
#undef AESROUND
#undef AESLAST

// func decryptVAES256(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// As encryptVAES256, the other way, with the round keys for decryption.
TEXT ·decryptVAES256(SB), NOSPLIT, $544-56
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ units+32(FP), R8
	MOVQ blocks+40(FP), R9
	MOVQ tweaks+48(FP), DX

#define AESROUND VAESDEC
#define AESLAST VAESDECLAST
#include "vaes256_amd64.h"
#undef AESROUND
#undef AESLAST
