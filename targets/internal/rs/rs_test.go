package rs

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// encode appends the parity to data, by dividing by the generator as the definition says.
func encode(data []byte, roots int) []byte {
	generator := []byte{1} // the highest power first
	for i := range roots {
		next := make([]byte, len(generator)+1)
		for j, c := range generator {
			next[j] ^= c
			next[j+1] ^= mul(c, power(i))
		}
		generator = next
	}
	rest := append(bytes.Clone(data), make([]byte, roots)...)
	for i := range data {
		if c := rest[i]; c != 0 {
			for j, g := range generator {
				rest[i+j] ^= mul(c, g)
			}
		}
	}
	return append(bytes.Clone(data), rest[len(data):]...)
}

func TestField(t *testing.T) {
	for a := range 256 {
		if a > 0 && (mul(byte(a), div(1, byte(a))) != 1 || exp[log[a]] != byte(a)) {
			t.Fatalf("%d has no inverse", a)
		}
	}
	if mul(0x80, 2) != 0x1d || mul(0, 7) != 0 || power(255) != 1 {
		t.Error("the field is another")
	}
}

// As many errors and erasures as the parity allows are corrected, at any place; with more a word is refused or made another valid one.
func TestDecode(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for roots := 2; roots <= 24; roots++ {
		d := NewDecoder(roots)
		for range 200 {
			data := make([]byte, WordSize-roots)
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			word := encode(data, roots)
			erasures := rnd.IntN(roots + 1)
			errors := rnd.IntN((roots-erasures)/2 + 1)
			bad := bytes.Clone(word)
			places := rnd.Perm(WordSize)[:erasures+errors]
			for i, at := range places {
				if i < erasures && i%3 == 0 {
					continue // an erasure that is right after all
				}
				bad[at] ^= byte(1 + rnd.IntN(255))
			}
			if err := d.Decode(bad, places[:erasures]); err != nil || !bytes.Equal(bad, word) {
				t.Fatalf("%d roots, %d erasures, %d errors: %v", roots, erasures, errors, err)
			}
		}
		word := encode(make([]byte, WordSize-roots), roots)
		for _, at := range rnd.Perm(WordSize)[:roots+1] {
			word[at] ^= byte(1 + rnd.IntN(255))
		}
		bad := bytes.Clone(word)
		if err := d.Decode(bad, nil); err != nil && !bytes.Equal(bad, word) {
			t.Errorf("%d roots: a word that is refused was changed", roots)
		} else if err == nil && !d.syndrome(bad) {
			t.Errorf("%d roots: what was made of a word with too many errors is not valid", roots)
		}
	}
}

func TestRefuses(t *testing.T) {
	d := NewDecoder(2)
	if err := d.Decode(make([]byte, 254), nil); err != ErrTooMany {
		t.Errorf("a short word: %v", err)
	}
	if err := d.Decode(make([]byte, WordSize), []int{1, 2, 3}); err != ErrTooMany {
		t.Errorf("more erasures than parity: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(make([]byte, 253), 2), 2, []byte{1})
	f.Fuzz(func(t *testing.T, word []byte, roots int, erasures []byte) {
		if roots < 1 || roots > 254 {
			return
		}
		places := make([]int, 0, len(erasures))
		seen := make(map[byte]bool)
		for _, e := range erasures {
			if e < WordSize && !seen[e] {
				seen[e] = true
				places = append(places, int(e))
			}
		}
		before := bytes.Clone(word)
		d := NewDecoder(roots)
		if err := d.Decode(word, places); err != nil && !bytes.Equal(word, before) {
			t.Fatal("a word that is refused was changed")
		} else if err == nil && !d.syndrome(word) {
			t.Fatal("the result is not valid")
		}
	})
}
