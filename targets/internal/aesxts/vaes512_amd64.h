// The body of encryptVAES512 and decryptVAES512, with AESROUND and AESLAST defined as the instructions of either way.
//
// AX keys, BX rounds, DI dst, SI src, R8 units left, R9 blocks of a unit, DX tweak of the unit; CX blocks left of the unit
// Z0-Z7    data, 4 blocks each; scratch in between
// Z8-Z15   tweaks of the next 32 blocks
// Z16-Z29  round keys 0 to 13, Z30 the last one, Z31 poly
//
// The tweak of block j is T * x^j in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, the lowest bit of the first byte being
// the coefficient of x^0: so in a register, lowest byte first, a multiplication by x is a shift to the left.
//
// A unit begins with T in all four blocks of a register. Shifted by 0, 1, 2 and 3 bits this is Z8; times x^4 it is Z9; and
// these two times x^8, x^16 and x^24, shifts by whole bytes, are the other three pairs, none waiting for another. From one
// chunk of 32 blocks to the next each register is multiplied by x^32, a shift by four bytes: its top 32 bits times poly
// come back at the bottom. What remains of a unit after its chunks goes four blocks at a time, then one to three
// of them through the mask K1; the multiplication is by x^4 there.

	VBROADCASTI32X4 poly512<>(SB), Z31
	LOADKEYS

unit:
	MOVQ            R9, CX
	VBROADCASTI32X4 (DX), Z0
	VPSRLVQ         shiftRight512<>(SB), Z0, Z1
	VPSLLVQ         shiftLeft512<>(SB), Z0, Z8
	CARRY(Z1, Z8, Z2)
	CMPQ            CX, $32
	JLT             four
	TIMESX4(Z8, Z9, Z1, Z2)
	TIMESBYTES(1, 15, Z8, Z10, Z0)
	TIMESBYTES(1, 15, Z9, Z11, Z1)
	TIMESBYTES(2, 14, Z8, Z12, Z2)
	TIMESBYTES(2, 14, Z9, Z13, Z3)
	TIMESBYTES(3, 13, Z8, Z14, Z4)
	TIMESBYTES(3, 13, Z9, Z15, Z5)

chunk:
	VMOVDQU64  0x00(SI), Z0
	VMOVDQU64  0x40(SI), Z1
	VMOVDQU64  0x80(SI), Z2
	VMOVDQU64  0xc0(SI), Z3
	VMOVDQU64  0x100(SI), Z4
	VMOVDQU64  0x140(SI), Z5
	VMOVDQU64  0x180(SI), Z6
	VMOVDQU64  0x1c0(SI), Z7
	ADDQ       $512, SI
	VPTERNLOGQ $0x96, Z8, Z16, Z0
	VPTERNLOGQ $0x96, Z9, Z16, Z1
	VPTERNLOGQ $0x96, Z10, Z16, Z2
	VPTERNLOGQ $0x96, Z11, Z16, Z3
	VPTERNLOGQ $0x96, Z12, Z16, Z4
	VPTERNLOGQ $0x96, Z13, Z16, Z5
	VPTERNLOGQ $0x96, Z14, Z16, Z6
	VPTERNLOGQ $0x96, Z15, Z16, Z7

	AESROUND   Z17, Z0, Z0
	AESROUND   Z17, Z1, Z1
	AESROUND   Z17, Z2, Z2
	AESROUND   Z17, Z3, Z3
	AESROUND   Z17, Z4, Z4
	AESROUND   Z17, Z5, Z5
	AESROUND   Z17, Z6, Z6
	AESROUND   Z17, Z7, Z7

	AESROUND   Z18, Z0, Z0
	AESROUND   Z18, Z1, Z1
	AESROUND   Z18, Z2, Z2
	AESROUND   Z18, Z3, Z3
	AESROUND   Z18, Z4, Z4
	AESROUND   Z18, Z5, Z5
	AESROUND   Z18, Z6, Z6
	AESROUND   Z18, Z7, Z7

	AESROUND   Z19, Z0, Z0
	AESROUND   Z19, Z1, Z1
	AESROUND   Z19, Z2, Z2
	AESROUND   Z19, Z3, Z3
	AESROUND   Z19, Z4, Z4
	AESROUND   Z19, Z5, Z5
	AESROUND   Z19, Z6, Z6
	AESROUND   Z19, Z7, Z7

	AESROUND   Z20, Z0, Z0
	AESROUND   Z20, Z1, Z1
	AESROUND   Z20, Z2, Z2
	AESROUND   Z20, Z3, Z3
	AESROUND   Z20, Z4, Z4
	AESROUND   Z20, Z5, Z5
	AESROUND   Z20, Z6, Z6
	AESROUND   Z20, Z7, Z7

	AESROUND   Z21, Z0, Z0
	AESROUND   Z21, Z1, Z1
	AESROUND   Z21, Z2, Z2
	AESROUND   Z21, Z3, Z3
	AESROUND   Z21, Z4, Z4
	AESROUND   Z21, Z5, Z5
	AESROUND   Z21, Z6, Z6
	AESROUND   Z21, Z7, Z7

	AESROUND   Z22, Z0, Z0
	AESROUND   Z22, Z1, Z1
	AESROUND   Z22, Z2, Z2
	AESROUND   Z22, Z3, Z3
	AESROUND   Z22, Z4, Z4
	AESROUND   Z22, Z5, Z5
	AESROUND   Z22, Z6, Z6
	AESROUND   Z22, Z7, Z7

	AESROUND   Z23, Z0, Z0
	AESROUND   Z23, Z1, Z1
	AESROUND   Z23, Z2, Z2
	AESROUND   Z23, Z3, Z3
	AESROUND   Z23, Z4, Z4
	AESROUND   Z23, Z5, Z5
	AESROUND   Z23, Z6, Z6
	AESROUND   Z23, Z7, Z7

	AESROUND   Z24, Z0, Z0
	AESROUND   Z24, Z1, Z1
	AESROUND   Z24, Z2, Z2
	AESROUND   Z24, Z3, Z3
	AESROUND   Z24, Z4, Z4
	AESROUND   Z24, Z5, Z5
	AESROUND   Z24, Z6, Z6
	AESROUND   Z24, Z7, Z7

	AESROUND   Z25, Z0, Z0
	AESROUND   Z25, Z1, Z1
	AESROUND   Z25, Z2, Z2
	AESROUND   Z25, Z3, Z3
	AESROUND   Z25, Z4, Z4
	AESROUND   Z25, Z5, Z5
	AESROUND   Z25, Z6, Z6
	AESROUND   Z25, Z7, Z7
	CMPQ       BX, $12
	JLT        last

	AESROUND   Z26, Z0, Z0
	AESROUND   Z26, Z1, Z1
	AESROUND   Z26, Z2, Z2
	AESROUND   Z26, Z3, Z3
	AESROUND   Z26, Z4, Z4
	AESROUND   Z26, Z5, Z5
	AESROUND   Z26, Z6, Z6
	AESROUND   Z26, Z7, Z7

	AESROUND   Z27, Z0, Z0
	AESROUND   Z27, Z1, Z1
	AESROUND   Z27, Z2, Z2
	AESROUND   Z27, Z3, Z3
	AESROUND   Z27, Z4, Z4
	AESROUND   Z27, Z5, Z5
	AESROUND   Z27, Z6, Z6
	AESROUND   Z27, Z7, Z7
	JEQ        last

	AESROUND   Z28, Z0, Z0
	AESROUND   Z28, Z1, Z1
	AESROUND   Z28, Z2, Z2
	AESROUND   Z28, Z3, Z3
	AESROUND   Z28, Z4, Z4
	AESROUND   Z28, Z5, Z5
	AESROUND   Z28, Z6, Z6
	AESROUND   Z28, Z7, Z7

	AESROUND   Z29, Z0, Z0
	AESROUND   Z29, Z1, Z1
	AESROUND   Z29, Z2, Z2
	AESROUND   Z29, Z3, Z3
	AESROUND   Z29, Z4, Z4
	AESROUND   Z29, Z5, Z5
	AESROUND   Z29, Z6, Z6
	AESROUND   Z29, Z7, Z7

last:
	AESLAST    Z30, Z0, Z0
	AESLAST    Z30, Z1, Z1
	AESLAST    Z30, Z2, Z2
	AESLAST    Z30, Z3, Z3
	AESLAST    Z30, Z4, Z4
	AESLAST    Z30, Z5, Z5
	AESLAST    Z30, Z6, Z6
	AESLAST    Z30, Z7, Z7

	VPXORQ     Z8, Z0, Z0
	VPXORQ     Z9, Z1, Z1
	VPXORQ     Z10, Z2, Z2
	VPXORQ     Z11, Z3, Z3
	VPXORQ     Z12, Z4, Z4
	VPXORQ     Z13, Z5, Z5
	VPXORQ     Z14, Z6, Z6
	VPXORQ     Z15, Z7, Z7

	VMOVDQU64  Z0, 0x00(DI)
	VMOVDQU64  Z1, 0x40(DI)
	VMOVDQU64  Z2, 0x80(DI)
	VMOVDQU64  Z3, 0xc0(DI)
	VMOVDQU64  Z4, 0x100(DI)
	VMOVDQU64  Z5, 0x140(DI)
	VMOVDQU64  Z6, 0x180(DI)
	VMOVDQU64  Z7, 0x1c0(DI)
	ADDQ       $512, DI
	SUBQ       $32, CX
	JEQ        next
	TIMESBYTES(4, 12, Z8, Z8, Z0)
	TIMESBYTES(4, 12, Z9, Z9, Z1)
	TIMESBYTES(4, 12, Z10, Z10, Z2)
	TIMESBYTES(4, 12, Z11, Z11, Z3)
	TIMESBYTES(4, 12, Z12, Z12, Z4)
	TIMESBYTES(4, 12, Z13, Z13, Z5)
	TIMESBYTES(4, 12, Z14, Z14, Z6)
	TIMESBYTES(4, 12, Z15, Z15, Z7)
	CMPQ       CX, $32
	JGE        chunk

four:
	MOVL  $0xff, R10
	CMPQ  CX, $4
	JGE   masked
	LEAQ  (CX)(CX*1), R11
	MOVL  $1, R10
	SHLXL R11, R10, R10
	DECL  R10

masked:
	KMOVB       R10, K1
	VMOVDQU64.Z (SI), K1, Z0
	VPTERNLOGQ  $0x96, Z8, Z16, Z0
	AESROUND    Z17, Z0, Z0
	AESROUND    Z18, Z0, Z0
	AESROUND    Z19, Z0, Z0
	AESROUND    Z20, Z0, Z0
	AESROUND    Z21, Z0, Z0
	AESROUND    Z22, Z0, Z0
	AESROUND    Z23, Z0, Z0
	AESROUND    Z24, Z0, Z0
	AESROUND    Z25, Z0, Z0
	CMPQ        BX, $12
	JLT         lastFour
	AESROUND    Z26, Z0, Z0
	AESROUND    Z27, Z0, Z0
	JEQ         lastFour
	AESROUND    Z28, Z0, Z0
	AESROUND    Z29, Z0, Z0

lastFour:
	AESLAST   Z30, Z0, Z0
	VPXORQ    Z8, Z0, Z0
	VMOVDQU64 Z0, K1, (DI)
	CMPQ      CX, $4
	JLE       partial
	ADDQ      $64, SI
	ADDQ      $64, DI
	SUBQ      $4, CX
	TIMESX4(Z8, Z9, Z1, Z2)
	VMOVDQA64 Z9, Z8
	JMP       four

partial:
	SHLQ $4, CX
	ADDQ CX, SI
	ADDQ CX, DI

next:
	ADDQ $16, DX
	DECQ R8
	JNE  unit
	FORGETKEYS
	VZEROUPPER
	RET
