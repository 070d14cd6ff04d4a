package aesxts

import "dmfs/targets/internal/aeskey"

type roundKeys = aeskey.RoundKeys

// schedules is all that is secret about a Cipher. It holds no pointers, since it may lie where the garbage collector does not
// look.
type schedules struct {
	rounds                  int // 10, 12 or 14; 0 once wiped
	encrypt, decrypt, tweak roundKeys
}

func (s *schedules) expand(data, tweak []byte) {
	s.rounds = aeskey.Rounds(data)
	aeskey.Expand(&s.encrypt, data)
	aeskey.Invert(&s.decrypt, &s.encrypt, s.rounds)
	aeskey.Expand(&s.tweak, tweak)
}
