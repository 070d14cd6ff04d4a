package aeskey

import (
	"errors"
	"fmt"
	"unsafe"
)

const blockSize = 16

// Misuse returns what is wrong with the arguments of a mode that sends src, a run of units of unit bytes each, to dst, with 16
// bytes of ivs for each unit. dst and src may be the same and must not overlap otherwise.
func Misuse(dst, src []byte, unit int, ivs []byte) error {
	switch {
	case unit <= 0 || unit%blockSize != 0:
		return fmt.Errorf("unit of %d bytes: want a positive multiple of %d", unit, blockSize)
	case len(src)%unit != 0:
		return fmt.Errorf("%d bytes are no whole number of units of %d", len(src), unit)
	case len(dst) != len(src):
		return fmt.Errorf("dst of %d bytes for a src of %d", len(dst), len(src))
	case len(ivs) != len(src)/unit*blockSize:
		return fmt.Errorf("IVs of %d bytes for %d units: want %d for each", len(ivs), len(src)/unit, blockSize)
	case len(src) == 0:
		return nil
	}
	d, s, n := uintptr(unsafe.Pointer(&dst[0])), uintptr(unsafe.Pointer(&src[0])), uintptr(len(src))
	if d != s && d < s+n && s < d+n {
		return errors.New("dst overlaps src")
	}
	return nil
}
