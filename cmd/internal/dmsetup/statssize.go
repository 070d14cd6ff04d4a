package dmsetup

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeUnits are what --units takes: human-readable, sectors, bytes, and multiples of 1024 or, as capitals, of 1000.
const sizeUnits = "hHbBsSkKmMgGtTpPeE"

// unitBytes returns how many bytes a unit has; 1 for one that is none.
func unitBytes(unit byte) float64 {
	if unit == 's' || unit == 'S' {
		return 512
	}
	if i := strings.IndexByte("kmgtpe", unit); i >= 0 {
		return math.Pow(1024, float64(i+1))
	}
	if i := strings.IndexByte("KMGTPE", unit); i >= 0 {
		return math.Pow(1000, float64(i+1))
	}
	return 1
}

// parseSize parses a size with a unit, in sectors without one. The result is in sectors.
func parseSize(text string) (sectors uint64, ok bool) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	n, err := strconv.ParseUint(text[:digits], 10, 64)
	if err != nil {
		return 0, false
	}
	if digits == len(text) {
		return n, true
	}
	bytes := float64(n) * unitBytes(text[digits])
	if bytes >= math.MaxUint64 {
		return 0, false
	}
	return uint64(bytes) / 512, true
}

// sizeCell returns sectors in the unit that --units asks for. As with dmstats a unit that was asked for is not told again.
func (s *session) sizeCell(sectors uint64) cell {
	if sectors == 0 {
		return cell{"0", 0}
	}
	bytes := sectors * 512 // dmstats lets it wrap
	unit, suffix := byte('h'), true
	if s.opts.has("units") {
		unit = s.opts.get("units")[0]
		suffix = unit == 'h' || unit == 'H'
	}
	if unit == 'h' || unit == 'H' {
		unit = largestUnit(bytes, unit)
	}
	text := fmt.Sprintf("%.2f", float64(bytes)/unitBytes(unit))
	if strings.IndexByte("bBsS", unit) >= 0 {
		text = strconv.FormatUint(uint64(float64(bytes)/unitBytes(unit)), 10)
	}
	if suffix {
		text += string(unit)
	}
	return cell{text, sectors}
}

// largestUnit returns the largest unit of which there is one at least.
func largestUnit(bytes uint64, human byte) byte {
	units := "EPTGMK"
	if human == 'h' {
		units = "eptgmk"
	}
	for i := range len(units) {
		if float64(bytes) >= unitBytes(units[i]) {
			return units[i]
		}
	}
	return 'b'
}
