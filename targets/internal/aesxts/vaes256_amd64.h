// The body of encryptVAES256 and decryptVAES256, with AESROUND and AESLAST defined as the instructions of either way.
//
// AX keys, BX last round key, DI dst, SI src, R8 units left, R9 blocks of a unit, DX tweak of the unit, CX blocks left
// of the unit, R10 eight pairs of tweaks in the frame, R11 key of the round, R12 the eight pairs after them
// Y0-Y7 data, 2 blocks each, Y8 tweaks of the next two blocks, Y9-Y11 scratch, Y13 round key, Y14 round key 0, Y15 poly
//
// The tweak of block j is T * x^j in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, the lowest bit of the first byte being
// the coefficient of x^0: so in a register, lowest byte first, a multiplication by x is a shift to the left.
//
// NEXTPAIR makes each pair from the one before. That is a chain, so it runs between the rounds of the 16 blocks before, one
// pair a round: the tweaks wait in the frame when their blocks come. Those of the next unit are made during the last
// blocks of a unit, if the unit is a multiple of 16 blocks. What else remains of a unit goes two blocks at a time, then one.

	LEAQ           31(SP), R10
	ANDQ           $~31, R10
	LEAQ           256(R10), R12
	SHLQ           $4, BX
	ADDQ           AX, BX
	VBROADCASTI128 poly256<>(SB), Y15
	VBROADCASTI128 (AX), Y14

unit:
	PAIR((DX))
	MOVQ R9, CX
	CMPQ CX, $16
	JLT  two
	VMOVDQA Y8, 0x00(R10)
	NEXTPAIR
	VMOVDQA Y8, 0x20(R10)
	NEXTPAIR
	VMOVDQA Y8, 0x40(R10)
	NEXTPAIR
	VMOVDQA Y8, 0x60(R10)
	NEXTPAIR
	VMOVDQA Y8, 0x80(R10)
	NEXTPAIR
	VMOVDQA Y8, 0xa0(R10)
	NEXTPAIR
	VMOVDQA Y8, 0xc0(R10)
	NEXTPAIR
	VMOVDQA Y8, 0xe0(R10)
	NEXTPAIR

chunk:
	SUBQ $16, CX
	JNE  load
	CMPQ R8, $1
	JEQ  load
	PAIR(16(DX))

load:
	VPXOR 0x00(SI), Y14, Y0
	VPXOR 0x20(SI), Y14, Y1
	VPXOR 0x40(SI), Y14, Y2
	VPXOR 0x60(SI), Y14, Y3
	VPXOR 0x80(SI), Y14, Y4
	VPXOR 0xa0(SI), Y14, Y5
	VPXOR 0xc0(SI), Y14, Y6
	VPXOR 0xe0(SI), Y14, Y7
	VPXOR 0x00(R10), Y0, Y0
	VPXOR 0x20(R10), Y1, Y1
	VPXOR 0x40(R10), Y2, Y2
	VPXOR 0x60(R10), Y3, Y3
	VPXOR 0x80(R10), Y4, Y4
	VPXOR 0xa0(R10), Y5, Y5
	VPXOR 0xc0(R10), Y6, Y6
	VPXOR 0xe0(R10), Y7, Y7
	ADDQ  $256, SI

	VBROADCASTI128 0x10(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0x00(R12)
	NEXTPAIR

	VBROADCASTI128 0x20(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0x20(R12)
	NEXTPAIR

	VBROADCASTI128 0x30(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0x40(R12)
	NEXTPAIR

	VBROADCASTI128 0x40(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0x60(R12)
	NEXTPAIR

	VBROADCASTI128 0x50(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0x80(R12)
	NEXTPAIR

	VBROADCASTI128 0x60(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0xa0(R12)
	NEXTPAIR

	VBROADCASTI128 0x70(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0xc0(R12)
	NEXTPAIR

	VBROADCASTI128 0x80(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	VMOVDQA        Y8, 0xe0(R12)
	NEXTPAIR

	VBROADCASTI128 0x90(AX), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	LEAQ           0xa0(AX), R11
	CMPQ           R11, BX
	JEQ            last

round:
	VBROADCASTI128 (R11), Y13
	AESROUND       Y13, Y0, Y0
	AESROUND       Y13, Y1, Y1
	AESROUND       Y13, Y2, Y2
	AESROUND       Y13, Y3, Y3
	AESROUND       Y13, Y4, Y4
	AESROUND       Y13, Y5, Y5
	AESROUND       Y13, Y6, Y6
	AESROUND       Y13, Y7, Y7
	ADDQ           $16, R11
	CMPQ           R11, BX
	JNE            round

last:
	VBROADCASTI128 (R11), Y13
	AESLAST        Y13, Y0, Y0
	AESLAST        Y13, Y1, Y1
	AESLAST        Y13, Y2, Y2
	AESLAST        Y13, Y3, Y3
	AESLAST        Y13, Y4, Y4
	AESLAST        Y13, Y5, Y5
	AESLAST        Y13, Y6, Y6
	AESLAST        Y13, Y7, Y7
	VPXOR          0x00(R10), Y0, Y0
	VPXOR          0x20(R10), Y1, Y1
	VPXOR          0x40(R10), Y2, Y2
	VPXOR          0x60(R10), Y3, Y3
	VPXOR          0x80(R10), Y4, Y4
	VPXOR          0xa0(R10), Y5, Y5
	VPXOR          0xc0(R10), Y6, Y6
	VPXOR          0xe0(R10), Y7, Y7
	VMOVDQU        Y0, 0x00(DI)
	VMOVDQU        Y1, 0x20(DI)
	VMOVDQU        Y2, 0x40(DI)
	VMOVDQU        Y3, 0x60(DI)
	VMOVDQU        Y4, 0x80(DI)
	VMOVDQU        Y5, 0xa0(DI)
	VMOVDQU        Y6, 0xc0(DI)
	VMOVDQU        Y7, 0xe0(DI)
	ADDQ           $256, DI
	XCHGQ          R10, R12
	CMPQ           CX, $16
	JGE            chunk
	TESTQ          CX, CX
	JNE            after
	ADDQ           $16, DX
	MOVQ           R9, CX
	DECQ           R8
	JNE            chunk
	JMP            done

after:
	VMOVDQA (R10), Y8

two:
	CMPQ    CX, $2
	JLT     one
	VMOVDQU (SI), Y0
	JMP     whiten

one:
	VMOVDQU (SI), X0

whiten:
	VPXOR Y14, Y0, Y0
	VPXOR Y8, Y0, Y0
	LEAQ  16(AX), R11

roundTwo:
	VBROADCASTI128 (R11), Y13
	AESROUND       Y13, Y0, Y0
	ADDQ           $16, R11
	CMPQ           R11, BX
	JNE            roundTwo
	VBROADCASTI128 (R11), Y13
	AESLAST        Y13, Y0, Y0
	VPXOR          Y8, Y0, Y0
	CMPQ           CX, $2
	JLT            storeOne
	VMOVDQU        Y0, (DI)
	ADDQ           $32, SI
	ADDQ           $32, DI
	SUBQ           $2, CX
	JEQ            next
	NEXTPAIR
	JMP            two

storeOne:
	VMOVDQU X0, (DI)
	ADDQ    $16, SI
	ADDQ    $16, DI

next:
	ADDQ $16, DX
	DECQ R8
	JNE  unit

done:
	VPXOR Y13, Y13, Y13
	VPXOR Y14, Y14, Y14
	VZEROUPPER
	RET
