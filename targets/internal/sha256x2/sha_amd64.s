#include "textflag.h"

// Two messages, message 0 in s and x, message 1 in t and y. Registers:
//
//	X0       four words of the schedule with their constants, as SHA256RNDS2 wants them
//	X1 X2    state of message 0: ABEF and CDGH
//	X3 X4    state of message 1
//	X5..X8   schedule of message 0, the last 16 words
//	X9..X12  schedule of message 1
//	X13      scratch
//	X14      the mask that turns words of a message round
//
// The states before a block are kept on the stack.

// ROUNDS does four rounds of one message, with the constants of group g.
#define ROUNDS(g, cur, abef, cdgh) \
	VPADDD   (16*g)(R8), cur, X0 \
	SHA256RNDS2 X0, abef, cdgh \
	PSHUFD   $0x0e, X0, X0 \
	SHA256RNDS2 X0, cdgh, abef

// NEXT finishes the four words of the schedule that follow cur; prev come before it.
#define NEXT(prev, cur, next) \
	VPALIGNR $4, prev, cur, X13 \
	PADDD    X13, next \
	SHA256MSG2 cur, next

// LOAD fetches four words of both messages.
#define LOAD(off, a, b) \
	MOVOU    off(SI), a \
	MOVOU    off(DX), b \
	PSHUFB   X14, a \
	PSHUFB   X14, b

// func compressSHA(s, t *state, x, y *byte, blocks int)
TEXT ·compressSHA(SB), NOSPLIT, $64-40
	MOVQ s+0(FP), DI
	MOVQ t+8(FP), BX
	MOVQ x+16(FP), SI
	MOVQ y+24(FP), DX
	MOVQ blocks+32(FP), CX
	LEAQ constants<>(SB), R8
	MOVOU swap<>(SB), X14

	// DCBA HGFE to ABEF CDGH (highest word first).
	MOVOU (DI), X1
	MOVOU 16(DI), X2
	PSHUFD $0xb1, X1, X1
	PSHUFD $0x1b, X2, X2
	MOVO X1, X13
	PALIGNR $8, X2, X1
	PBLENDW $0xf0, X13, X2
	MOVOU (BX), X3
	MOVOU 16(BX), X4
	PSHUFD $0xb1, X3, X3
	PSHUFD $0x1b, X4, X4
	MOVO X3, X13
	PALIGNR $8, X4, X3
	PBLENDW $0xf0, X13, X4

next:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X3, 32(SP)
	MOVOU X4, 48(SP)

	// Rounds 0 to 3.
	LOAD(0, X5, X9)
	ROUNDS(0, X5, X1, X2)
	ROUNDS(0, X9, X3, X4)

	// Rounds 4 to 7.
	LOAD(16, X6, X10)
	ROUNDS(1, X6, X1, X2)
	ROUNDS(1, X10, X3, X4)
	SHA256MSG1 X6, X5
	SHA256MSG1 X10, X9

	// Rounds 8 to 11.
	LOAD(32, X7, X11)
	ROUNDS(2, X7, X1, X2)
	ROUNDS(2, X11, X3, X4)
	SHA256MSG1 X7, X6
	SHA256MSG1 X11, X10

	// Rounds 12 to 15.
	LOAD(48, X8, X12)
	ROUNDS(3, X8, X1, X2)
	NEXT(X7, X8, X5)
	ROUNDS(3, X12, X3, X4)
	NEXT(X11, X12, X9)
	SHA256MSG1 X8, X7
	SHA256MSG1 X12, X11

	// Rounds 16 to 19.
	ROUNDS(4, X5, X1, X2)
	NEXT(X8, X5, X6)
	ROUNDS(4, X9, X3, X4)
	NEXT(X12, X9, X10)
	SHA256MSG1 X5, X8
	SHA256MSG1 X9, X12

	// Rounds 20 to 23.
	ROUNDS(5, X6, X1, X2)
	NEXT(X5, X6, X7)
	ROUNDS(5, X10, X3, X4)
	NEXT(X9, X10, X11)
	SHA256MSG1 X6, X5
	SHA256MSG1 X10, X9

	// Rounds 24 to 27.
	ROUNDS(6, X7, X1, X2)
	NEXT(X6, X7, X8)
	ROUNDS(6, X11, X3, X4)
	NEXT(X10, X11, X12)
	SHA256MSG1 X7, X6
	SHA256MSG1 X11, X10

	// Rounds 28 to 31.
	ROUNDS(7, X8, X1, X2)
	NEXT(X7, X8, X5)
	ROUNDS(7, X12, X3, X4)
	NEXT(X11, X12, X9)
	SHA256MSG1 X8, X7
	SHA256MSG1 X12, X11

	// Rounds 32 to 35.
	ROUNDS(8, X5, X1, X2)
	NEXT(X8, X5, X6)
	ROUNDS(8, X9, X3, X4)
	NEXT(X12, X9, X10)
	SHA256MSG1 X5, X8
	SHA256MSG1 X9, X12

	// Rounds 36 to 39.
	ROUNDS(9, X6, X1, X2)
	NEXT(X5, X6, X7)
	ROUNDS(9, X10, X3, X4)
	NEXT(X9, X10, X11)
	SHA256MSG1 X6, X5
	SHA256MSG1 X10, X9

	// Rounds 40 to 43.
	ROUNDS(10, X7, X1, X2)
	NEXT(X6, X7, X8)
	ROUNDS(10, X11, X3, X4)
	NEXT(X10, X11, X12)
	SHA256MSG1 X7, X6
	SHA256MSG1 X11, X10

	// Rounds 44 to 47.
	ROUNDS(11, X8, X1, X2)
	NEXT(X7, X8, X5)
	ROUNDS(11, X12, X3, X4)
	NEXT(X11, X12, X9)
	SHA256MSG1 X8, X7
	SHA256MSG1 X12, X11

	// Rounds 48 to 51.
	ROUNDS(12, X5, X1, X2)
	NEXT(X8, X5, X6)
	ROUNDS(12, X9, X3, X4)
	NEXT(X12, X9, X10)
	SHA256MSG1 X5, X8
	SHA256MSG1 X9, X12

	// Rounds 52 to 55.
	ROUNDS(13, X6, X1, X2)
	NEXT(X5, X6, X7)
	ROUNDS(13, X10, X3, X4)
	NEXT(X9, X10, X11)

	// Rounds 56 to 59.
	ROUNDS(14, X7, X1, X2)
	NEXT(X6, X7, X8)
	ROUNDS(14, X11, X3, X4)
	NEXT(X10, X11, X12)

	// Rounds 60 to 63.
	ROUNDS(15, X8, X1, X2)
	ROUNDS(15, X12, X3, X4)

	MOVOU 0(SP), X13
	PADDD X13, X1
	MOVOU 16(SP), X13
	PADDD X13, X2
	MOVOU 32(SP), X13
	PADDD X13, X3
	MOVOU 48(SP), X13
	PADDD X13, X4
	ADDQ $64, SI
	ADDQ $64, DX
	SUBQ $1, CX
	JNZ  next

	PSHUFD $0x1b, X1, X1
	PSHUFD $0xb1, X2, X2
	MOVO X1, X13
	PBLENDW $0xf0, X2, X1
	PALIGNR $8, X13, X2
	MOVOU X1, (DI)
	MOVOU X2, 16(DI)
	PSHUFD $0x1b, X3, X3
	PSHUFD $0xb1, X4, X4
	MOVO X3, X13
	PBLENDW $0xf0, X4, X3
	PALIGNR $8, X13, X4
	MOVOU X3, (BX)
	MOVOU X4, 16(BX)
	RET

// The bytes of each word turned round.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// The constants of the rounds.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256
