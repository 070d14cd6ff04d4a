package raid

import (
	"strings"

	"dmfs/mapper"
)

// Algorithms of md for the placement of parity, as superblocks store them in their layout field.
const (
	leftAsymmetric   = 0
	rightAsymmetric  = 1
	leftSymmetric    = 2
	rightSymmetric   = 3
	parityFirst      = 4
	parityLast       = 5
	zeroRestart      = 8
	nRestart         = 9
	nContinue        = 10
	leftAsymmetric6  = 16 // the last member is all Q, the others are a raid5
	rightAsymmetric6 = 17
	leftSymmetric6   = 18
	rightSymmetric6  = 19
	parityFirst6     = 20
)

// Formats of raid10, as dm-raid counts them.
const (
	formatDefault = iota
	formatNear
	formatOffset
	formatFar
)

// A raidType is a word that a table line may begin with.
type raidType struct {
	name   string
	level  uint32 // as superblocks store it
	layout uint32 // an algorithm; of raid10 a format
}

// parity returns how many members' worth of parity there are.
func (r *raidType) parity() int { return parityOf(r.level) }

var raidTypes = []raidType{
	{"raid0", 0, 0},
	{"raid1", 1, 0},
	{"raid10_far", 10, formatFar},
	{"raid10_offset", 10, formatOffset},
	{"raid10_near", 10, formatNear},
	{"raid10", 10, formatDefault},
	{"raid4", 5, parityFirst},
	{"raid5_n", 5, parityLast},
	{"raid5_ls", 5, leftSymmetric},
	{"raid5_rs", 5, rightSymmetric},
	{"raid5_la", 5, leftAsymmetric},
	{"raid5_ra", 5, rightAsymmetric},
	{"raid6_zr", 6, zeroRestart},
	{"raid6_nr", 6, nRestart},
	{"raid6_nc", 6, nContinue},
	{"raid6_n_6", 6, parityLast},
	{"raid6_ls_6", 6, leftSymmetric6},
	{"raid6_rs_6", 6, rightSymmetric6},
	{"raid6_la_6", 6, leftAsymmetric6},
	{"raid6_ra_6", 6, rightAsymmetric6},
}

// mdTypes are algorithms of md that the kernel's dm-raid has no word for, and tables therefore neither.
var mdTypes = []raidType{
	{"raid6_la", 6, leftAsymmetric},
	{"raid6_ra", 6, rightAsymmetric},
	{"raid6_ls", 6, leftSymmetric},
	{"raid6_rs", 6, rightSymmetric},
	{"raid6_0", 6, parityFirst},
	{"raid6_0_6", 6, parityFirst6},
}

// typeNamed returns the type of a list with that name, in any case, or nil.
func typeNamed(list []raidType, name string) *raidType {
	for i := range list {
		if strings.EqualFold(list[i].name, name) {
			return &list[i]
		}
	}
	return nil
}

// typeOf returns the name of a level and layout as superblocks store them, "" if there is none.
func typeOf(level, layout uint32) string {
	if level == 10 {
		return nameOf10(layout)
	}
	for i := range raidTypes {
		if raidTypes[i].level == level && raidTypes[i].layout == layout {
			return raidTypes[i].name
		}
	}
	return ""
}

// Bits of raid10's layout: near copies in the first byte, far copies in the second.
const (
	farShift    = 8
	offsetBit   = 1 << 16
	useFarSets  = 1 << 18
	knownLayout = 0xffff | offsetBit | useFarSets
)

func nameOf10(layout uint32) string {
	switch {
	case layout&offsetBit != 0:
		return "raid10_offset"
	case layout&0xff > 1:
		return "raid10"
	case layout>>farShift&0xff > 1:
		return "raid10_far"
	}
	return ""
}

// formatName returns what tables call the format of a raid10's layout.
func formatName(layout uint32) string {
	switch {
	case layout&offsetBit != 0:
		return "offset"
	case layout&0xff > 1:
		return "near"
	}
	return "far"
}

// layout10 returns raid10's layout of that many copies.
func layout10(format int, copies int, nearSets bool) uint32 {
	sets := uint32(useFarSets)
	if nearSets {
		sets = 0
	}
	switch format {
	case formatOffset:
		return offsetBit | sets | uint32(copies)<<farShift | 1
	case formatFar:
		return sets | uint32(copies)<<farShift | 1
	}
	return 1<<farShift | uint32(copies)
}

// done, as an offset of a resync or of a rebuild, says that it is complete.
const done = ^mapper.Sector(0)
