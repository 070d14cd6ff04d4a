package powercut

import (
	"context"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

const (
	defaultCache = 131072  // sectors
	maxCache     = 1 << 24 // sectors
)

// A config is what a table line says.
type config struct {
	disk          mapper.Disk
	start, length mapper.Sector // of the range of disk
	block         mapper.Sector // sectors in a block
	cacheSectors  mapper.Sector
	supplyName    string
	seed          uint64
	given         map[string]bool // features
}

// parse reads a table line and opens its disk.
func parse(ctx context.Context, h mapper.Host, s mapper.Spec) (config, error) {
	c := config{length: s.Len, cacheSectors: defaultCache, given: make(map[string]bool)}
	if len(s.Args) < 2 {
		return c, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET [NFEATURES FEATURE*]", len(s.Args))
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return c, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", s.Args[1])
	}
	c.start = mapper.Sector(start)
	if len(s.Args) > 2 {
		if err := c.parseFeatures(s.Args[2], s.Args[3:]); err != nil {
			return c, err
		}
	}
	var err error
	if c.disk, err = args.Open(ctx, h, s.Args[0], "Device lookup failed"); err != nil {
		return c, err
	}
	block := c.disk.Limits().LogicalSectors()
	if !c.given["sector_size"] {
		c.block = block
	}
	switch {
	case c.block < block:
		return c, mapper.BadArg("Invalid sector_size", "%d: want at least the logical block of %s, %d bytes",
			c.block.Bytes(), mapper.DiskName(c.disk), block.Bytes())
	case c.cacheSectors < c.block:
		return c, mapper.BadArg("Invalid cache_sectors", "%d: want at least a block, %d sectors", c.cacheSectors, c.block)
	}
	return c, nil
}

// parseFeatures reads the features, of which there are count words.
func (c *config) parseFeatures(count string, words []string) error {
	if n, ok := args.Uint32(count); !ok || uint64(n) != uint64(len(words)) {
		return mapper.BadArg("Invalid feature count", "%q: %d words follow", count, len(words))
	}
	for ; len(words) > 0; words = words[2:] {
		name := words[0]
		if len(words) == 1 {
			return mapper.BadArg("Invalid feature", "%q: want a feature and its value", name)
		}
		if c.given[name] {
			return mapper.BadArg("Invalid feature", "%s is given twice", name)
		}
		if err := c.feature(name, words[1]); err != nil {
			return err
		}
		c.given[name] = true
	}
	return nil
}

func (c *config) feature(name, value string) error {
	n, isNumber := args.Uint64(value)
	switch name {
	case "seed":
		if !isNumber {
			return mapper.BadArg("Invalid seed", "%q: want a number below 2^64", value)
		}
		c.seed = n
	case "cache_sectors":
		if !isNumber || n == 0 || n > maxCache {
			return mapper.BadArg("Invalid cache_sectors", "%q: want 1 to %d", value, maxCache)
		}
		c.cacheSectors = mapper.Sector(n)
	case "sector_size":
		if !isNumber || n < mapper.SectorSize || n > 4096 || n&(n-1) != 0 {
			return mapper.BadArg("Invalid sector_size", "%q: want 512, 1024, 2048 or 4096", value)
		}
		c.block = mapper.SectorsOf(int64(n))
	case "supply":
		if value == "" || mapper.QuoteArg(value) != value || len(value) > 64 {
			return mapper.BadArg("Invalid supply", "%q: want a name of at most 64 bytes without blanks, quotes and separators", value)
		}
		c.supplyName = value
	default:
		return mapper.BadArg("Invalid feature", "%q: want seed, cache_sectors, sector_size or supply", name)
	}
	return nil
}

// Table returns DISK OFFSET and the features that were given, in the order of the manual.
func (c *config) Table(bool) []string {
	words := []string{mapper.DiskName(c.disk), strconv.FormatUint(uint64(c.start), 10)}
	var features []string
	for _, f := range []struct{ name, value string }{
		{"seed", strconv.FormatUint(c.seed, 10)},
		{"cache_sectors", strconv.FormatUint(uint64(c.cacheSectors), 10)},
		{"sector_size", strconv.FormatInt(c.block.Bytes(), 10)},
		{"supply", c.supplyName},
	} {
		if c.given[f.name] {
			features = append(features, f.name, f.value)
		}
	}
	if len(features) > 0 {
		words = append(append(words, strconv.Itoa(len(features))), features...)
	}
	return words
}

// Areas returns the one range.
func (c *config) Areas() []mapper.Area {
	return []mapper.Area{{Disk: c.disk, Start: c.start, Len: c.length}}
}

// Hints makes the blocks those that are never torn, and tells of the cache.
func (c *config) Hints(l *mapper.Limits) {
	l.VolatileCache = true
	l.LogicalBlock = max(l.LogicalBlock, int(c.block.Bytes()))
	*l = l.Normal()
	l.DiscardGranularity = max(l.DiscardGranularity, c.block)
	l.MaxDiscard -= l.MaxDiscard % c.block
	l.MaxWriteZeroes -= l.MaxWriteZeroes % c.block
}
