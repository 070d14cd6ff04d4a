#include "textflag.h"

// Units with the AES instructions of ARMv8: eight blocks in flight. xts_arm64.h has the body of the two functions, the use of
// the registers and the arithmetic of the tweaks.

// LOADKEYS loads the round keys at R0, of which there are R1 and one: the first thirteen into V16 to V28, the last but one
// into V29 and the last into V30. What it loads beyond them is memory of the schedule and is not used. It overwrites R8.
#define LOADKEYS \
	MOVD   R0, R8; \
	VLD1.P 64(R8), [V16.B16, V17.B16, V18.B16, V19.B16]; \
	VLD1.P 64(R8), [V20.B16, V21.B16, V22.B16, V23.B16]; \
	VLD1.P 64(R8), [V24.B16, V25.B16, V26.B16, V27.B16]; \
	VLD1   (R8), [V28.B16]; \
	ADD    R1<<4, R0, R8; \
	SUB    $16, R8; \
	VLD1   (R8), [V29.B16, V30.B16]

// FORGETKEYS clears V16 to V30, so that no key is saved with the registers.
#define FORGETKEYS \
	VEOR V16.B16, V16.B16, V16.B16; \
	VEOR V17.B16, V17.B16, V17.B16; \
	VEOR V18.B16, V18.B16, V18.B16; \
	VEOR V19.B16, V19.B16, V19.B16; \
	VEOR V20.B16, V20.B16, V20.B16; \
	VEOR V21.B16, V21.B16, V21.B16; \
	VEOR V22.B16, V22.B16, V22.B16; \
	VEOR V23.B16, V23.B16, V23.B16; \
	VEOR V24.B16, V24.B16, V24.B16; \
	VEOR V25.B16, V25.B16, V25.B16; \
	VEOR V26.B16, V26.B16, V26.B16; \
	VEOR V27.B16, V27.B16, V27.B16; \
	VEOR V28.B16, V28.B16, V28.B16; \
	VEOR V29.B16, V29.B16, V29.B16; \
	VEOR V30.B16, V30.B16, V30.B16

// TWEAK copies the tweak in R9 and R10 to t and multiplies that in the registers by x: a shift to the left by one bit over both
// halves; R12 = 0x87 = x^128 comes in at the bottom for a bit shifted out at the top.
#define TWEAK(t) \
	VMOV R9, t.D[0]; \
	VMOV R10, t.D[1]; \
	AND  R10->63, R12, R11; \
	EXTR $63, R9, R10, R10; \
	EOR  R9<<1, R11, R9

// func encryptARM64(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// It encrypts units (>= 1) of blocks (>= 1) blocks each from src to dst, which are the same or do not overlap. tweaks
// has the encrypted tweak of the first block of each unit.
TEXT ·encryptARM64(SB), NOSPLIT, $0-56
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD dst+16(FP), R2
	MOVD src+24(FP), R3
	MOVD units+32(FP), R4
	MOVD blocks+40(FP), R5
	MOVD tweaks+48(FP), R6

#define AESROUND AESE
#define AESMIX AESMC
#include "xts_arm64.h"
#undef AESROUND
#undef AESMIX

// func decryptARM64(keys *roundKeys, rounds int, dst, src *byte, units, blocks int, tweaks *byte)
//
// As encryptARM64, the other way, with the round keys for decryption.
TEXT ·decryptARM64(SB), NOSPLIT, $0-56
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD dst+16(FP), R2
	MOVD src+24(FP), R3
	MOVD units+32(FP), R4
	MOVD blocks+40(FP), R5
	MOVD tweaks+48(FP), R6

#define AESROUND AESD
#define AESMIX AESIMC
#include "xts_arm64.h"
#undef AESROUND
#undef AESMIX

// func tweaksARM64(keys *roundKeys, rounds int, dst, src *byte, n int)
//
// It encrypts n (>= 1) single blocks from src to dst, which do not overlap: the tweaks. The processor overlaps the turns
// of the loop, since nothing carries over.
//
// R0 keys, R1 rounds, R2 dst, R3 src, R4 blocks left; V16-V30 round keys, V0 data.
TEXT ·tweaksARM64(SB), NOSPLIT, $0-40
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD dst+16(FP), R2
	MOVD src+24(FP), R3
	MOVD n+32(FP), R4
	LOADKEYS

one:
	VLD1.P 16(R3), [V0.B16]
	AESE   V16.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V17.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V18.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V19.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V20.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V21.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V22.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V23.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V24.B16, V0.B16
	AESMC  V0.B16, V0.B16
	CMP    $12, R1
	BLT    last
	AESE   V25.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V26.B16, V0.B16
	AESMC  V0.B16, V0.B16
	BEQ    last
	AESE   V27.B16, V0.B16
	AESMC  V0.B16, V0.B16
	AESE   V28.B16, V0.B16
	AESMC  V0.B16, V0.B16

last:
	AESE   V29.B16, V0.B16
	VEOR   V30.B16, V0.B16, V0.B16
	VST1.P [V0.B16], 16(R2)
	SUBS   $1, R4
	BNE    one
	FORGETKEYS
	RET
