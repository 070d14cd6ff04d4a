package serpent

// The S-boxes and their inverses on 32 nibbles at a time: bit i of a, b, c and d is nibble i, a its lowest bit. Each bit of the result is
// the sum of products that the tables of the specification come to (their algebraic normal form); the test compares
// all of them with the tables.

func sbox0(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	abc := ab & c
	acd := ac & d
	bcd := bc & d
	return ^(a ^ ab ^ c ^ ac ^ bc ^ abc ^ d ^ acd ^ bcd),
		^(a ^ ac ^ bc ^ abc ^ bd ^ acd ^ bcd),
		b ^ ab ^ ac ^ abc ^ d ^ bd ^ bcd,
		a ^ b ^ c ^ d ^ ad
}

func inverse0(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(ab ^ c ^ bc ^ ad ^ bd ^ abd ^ cd ^ acd ^ bcd),
		a ^ b ^ c ^ ac ^ bd ^ acd ^ bcd,
		^(a ^ b ^ ab ^ c ^ d),
		^(a ^ bc ^ d ^ abd ^ cd ^ acd ^ bcd)
}

func sbox1(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(a ^ b ^ bc ^ ad ^ cd ^ acd ^ bcd),
		^(a ^ ab ^ c ^ ac ^ d ^ bd ^ abd ^ acd ^ bcd),
		^(b ^ ab ^ c ^ d),
		^(b ^ ac ^ d ^ ad ^ abd ^ acd ^ bcd)
}

func inverse1(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	abc := ab & c
	acd := ac & d
	bcd := bc & d
	return ^(a ^ b ^ ab ^ abc ^ bd ^ acd ^ bcd),
		b ^ c ^ abc ^ d ^ ad ^ bd ^ acd ^ bcd,
		^(a ^ b ^ ac ^ bc ^ abc ^ d ^ acd),
		a ^ c ^ d ^ bd
}

func sbox2(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	return b ^ c ^ ac ^ d,
		a ^ b ^ c ^ bc ^ abc ^ ad ^ abd ^ cd ^ acd,
		a ^ b ^ bc ^ d ^ bd ^ abd ^ cd ^ acd,
		^(a ^ b ^ c ^ abc ^ bd)
}

func inverse2(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	return a ^ b ^ c ^ bc ^ bd,
		b ^ ab ^ c ^ ad ^ abd ^ cd ^ acd,
		^(a ^ ab ^ c ^ d ^ ad ^ bd ^ abd ^ acd),
		^(ab ^ bc ^ abc ^ d ^ acd)
}

func sbox3(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return a ^ b ^ bc ^ d ^ ad ^ cd ^ acd ^ bcd,
		a ^ b ^ ac ^ ad ^ abd ^ cd ^ acd,
		a ^ ab ^ c ^ abc ^ d ^ bd ^ abd,
		a ^ b ^ ab ^ c ^ ac ^ abc ^ d ^ cd ^ acd
}

func inverse3(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return a ^ c ^ bc ^ d ^ ad ^ bd ^ bcd,
		b ^ c ^ bc ^ abc ^ d ^ ad ^ acd ^ bcd,
		ab ^ ac ^ bc ^ ad ^ bd ^ abd ^ cd ^ acd,
		a ^ b ^ c ^ ac ^ abc ^ ad ^ abd ^ cd
}

func sbox4(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(b ^ ab ^ c ^ d ^ ad ^ bd),
		a ^ ac ^ bc ^ d ^ bd ^ cd ^ acd ^ bcd,
		a ^ ab ^ c ^ bc ^ abc ^ bd ^ abd ^ cd ^ bcd,
		a ^ b ^ c ^ bc ^ ad ^ bd ^ abd
}

func inverse4(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	return ^(a ^ b ^ c ^ d ^ ad ^ abd ^ cd ^ acd),
		ab ^ c ^ ac ^ d ^ ad ^ acd,
		^(a ^ b ^ ab ^ c ^ ac ^ abc ^ d ^ bd ^ abd),
		b ^ ab ^ c ^ ad ^ abd ^ cd
}

func sbox5(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(b ^ ab ^ c ^ d ^ ad ^ bd),
		^(a ^ ab ^ c ^ d ^ bd ^ abd ^ cd),
		^(b ^ ac ^ d ^ abd ^ cd ^ acd ^ bcd),
		^(a ^ b ^ c ^ abc ^ d ^ ad ^ acd)
}

func inverse5(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	return a ^ bc ^ d ^ abd,
		a ^ b ^ ac ^ bc ^ abc ^ d ^ ad ^ abd,
		a ^ ab ^ c ^ bd ^ abd ^ acd,
		^(b ^ ab ^ c ^ abc ^ ad)
}

func sbox6(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	bcd := bc & d
	return ^(a ^ b ^ c ^ ac ^ bc ^ abc ^ d ^ abd ^ bcd),
		^(b ^ c ^ ad),
		^(a ^ ab ^ c ^ bc ^ abc ^ bd ^ abd ^ cd ^ bcd),
		b ^ ab ^ c ^ ac ^ abc ^ d ^ cd ^ bcd
}

func inverse6(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	bcd := bc & d
	return ^(a ^ ab ^ ac ^ bc ^ abc ^ d ^ abd ^ bcd),
		^(b ^ c ^ ac ^ d),
		^(a ^ b ^ bc ^ bd ^ abd ^ cd ^ bcd),
		^(b ^ ab ^ c ^ bc ^ abc ^ d ^ ad ^ abd ^ cd ^ bcd)
}

func sbox7(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(ab ^ c ^ ad ^ bd ^ cd ^ acd ^ bcd),
		b ^ ab ^ c ^ ac ^ bc ^ d ^ ad ^ abd ^ acd,
		a ^ b ^ c ^ abc ^ d ^ ad ^ bd ^ abd ^ bcd,
		a ^ b ^ c ^ ac ^ abc ^ ad
}

func inverse7(a, b, c, d uint32) (w, x, y, z uint32) {
	ab := a & b
	ac := a & c
	bc := b & c
	ad := a & d
	bd := b & d
	cd := c & d
	abc := ab & c
	abd := ab & d
	acd := ac & d
	bcd := bc & d
	return ^(a ^ b ^ bc ^ bd ^ abd ^ cd ^ bcd),
		^(a ^ c ^ bc ^ d ^ ad ^ bd ^ acd ^ bcd),
		b ^ ac ^ d ^ abd ^ cd ^ acd,
		ab ^ c ^ abc ^ ad ^ bd ^ abd
}
