package verity

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/internal/rs"
)

// A fec is the error correction: parity of Reed-Solomon codes over the data blocks and, behind them, those of the tree. The covered
// blocks are a table of columns of rounds blocks each, column by column; a code word has one byte of each column, all of the same row, and
// then its parity. So a lost block is one byte in each of its code words, and so is each of its neighbours far away:
//
//	            column 0   column 1            column 254-roots
//	row 0       block 0    block rounds    …                      parity of row 0
//	row 1       block 1    block rounds+1  …                      parity of row 1
//
// The parity lies row by row, and within a row byte by byte of the blocks, roots bytes for each.
type fec struct {
	disk    mapper.Disk
	start   uint64 // block of the disk where the parity begins
	blocks  uint64 // covered, as the table line says
	roots   int
	rounds  uint64
	covered uint64 // blocks: data and tree at least

	turn    chan struct{} // holds a token while a block is repaired: that takes the memory of a row
	decoder *rs.Decoder
}

// options of error correction, and what they need
const (
	leastRoots = 2
	mostRoots  = 24
)

// parseFEC reads an option of error correction and its value; ok is false if word is none.
func (c *config) parseFEC(ctx context.Context, h mapper.Host, word, value string) (ok bool, err error) {
	reason := "Invalid " + word
	switch word {
	case "use_fec_from_device":
		c.fec.disk, err = args.Open(ctx, h, value, "FEC device lookup failed")
	case "fec_roots":
		n, isNumber := args.ScanUint32(value)
		if !isNumber || n < leastRoots || n > mostRoots {
			err = mapper.BadArg(reason, "%q: want a number from %d to %d", value, leastRoots, mostRoots)
		}
		c.fec.roots = int(n)
	case "fec_blocks", "fec_start":
		n, isNumber := args.Uint64(value)
		if !isNumber || n > uint64(mapper.MaxSectors)/largestBlock {
			err = mapper.BadArg(reason, "%q: want a number of blocks", value)
		}
		if word == "fec_start" {
			c.fec.start = n
		} else {
			c.fec.blocks = n
		}
	default:
		return false, nil
	}
	return true, err
}

// prepare checks the options against each other and the disks.
func (f *fec) prepare(c *config, t *tree) error {
	if f.disk == nil {
		if f.roots != 0 || f.blocks != 0 || f.start != 0 {
			return mapper.BadArg("Unrecognized verity feature request", "fec_roots, fec_blocks and fec_start go with use_fec_from_device")
		}
		return nil
	}
	if f.roots == 0 {
		return mapper.BadArg("Missing fec_roots", "want the number that veritysetup was told, 2 if it was not")
	}
	if f.blocks < c.blocks {
		return mapper.BadArg("Invalid fec_blocks", "%d: there are %d data blocks", f.blocks, c.blocks)
	}
	if c.dataBlock != c.hashBlock {
		return mapper.BadArg("Block sizes must match to use FEC", "%d and %d bytes", c.dataBlock.Bytes(), c.hashBlock.Bytes())
	}
	f.covered = max(f.blocks, c.blocks+t.end-c.start)
	columns := uint64(rs.WordSize - f.roots)
	f.rounds = (f.covered + columns - 1) / columns
	block := c.dataBlock
	if f.disk.Limits().LogicalSectors() > block {
		return mapper.BadArg("Invalid FEC device block size", "%s has blocks of %d bytes", mapper.DiskName(f.disk), f.disk.Limits().LogicalBlock)
	}
	if have, end := uint64(f.disk.Sectors()/block), f.start+f.rounds*uint64(f.roots); have < end {
		return &mapper.ArgError{Reason: "FEC device is too small", Errno: unix.E2BIG,
			Detail: fmt.Sprintf("%s has %d blocks, the parity ends at %d", mapper.DiskName(f.disk), have, end)}
	}
	f.decoder, f.turn = rs.NewDecoder(f.roots), make(chan struct{}, 1)
	return nil
}

// words returns the options for listings.
func (f *fec) words() []string {
	if f.disk == nil {
		return nil
	}
	return strings.Fields(fmt.Sprintf("use_fec_from_device %s fec_blocks %d fec_start %d fec_roots %d", mapper.DiskName(f.disk), f.blocks, f.start, f.roots))
}

// A row is what the code words of one row are made of.
type row struct {
	columns []byte // a block of each
	parity  []byte
	lost    []int // columns that could not be read
}

// repair returns what the covered block called index is to be: with that digest. ok is false if it cannot be repaired.
func (t *target) repair(ctx context.Context, w *work, index uint64, want []byte) (fixed []byte, ok bool) {
	f := &t.fec
	if f.disk == nil || index >= f.covered {
		return nil, false
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	defer func() { <-f.turn }()
	if index >= t.blocks {
		if known := t.cache.get(index - t.blocks + t.start); known != nil {
			return known, true // another, for whom this one waited, has repaired it
		}
	}
	size := int(t.dataBlock.Bytes())
	columns := rs.WordSize - f.roots
	whole := mapper.GetBuffer((columns + f.roots) * size)
	defer whole.Free()
	r := row{columns: whole.Data[:columns*size], parity: whole.Data[columns*size:]}
	if !t.readRow(ctx, index%f.rounds, &r) {
		return nil, false
	}
	column := int(index / f.rounds)
	// A few wrong bytes, in other columns too, are found by the code itself. Where there are more, what is known to be wrong need not be found.
	attempts := []func() []int{
		func() []int { return append([]int{column}, r.lost...) },
		func() []int { return r.lost },
		func() []int { return append(append([]int{column}, r.lost...), t.wrong(ctx, w, index, &r)...) },
	}
	for _, erasures := range attempts {
		fixed, corrected := f.decode(&r, column, size, erasures())
		if fixed != nil && bytes.Equal(t.digestOf(w, fixed), want) {
			if n := t.logged.Add(1); n <= maxLogged {
				t.host.Logf("%s: FEC %d: corrected %d errors", mapper.DiskName(t.data), index%f.rounds*uint64(size), corrected)
			}
			return fixed, true
		}
	}
	return nil, false
}

// readRow reads the blocks of a row, and reports whether its parity could be read.
func (t *target) readRow(ctx context.Context, number uint64, r *row) bool {
	f, size := &t.fec, int(t.dataBlock.Bytes())
	for column := range rs.WordSize - f.roots {
		p := r.columns[column*size:][:size]
		if err := t.readCovered(ctx, uint64(column)*f.rounds+number, p); err != nil {
			clear(p)
			r.lost = append(r.lost, column)
		}
	}
	n := t.dataBlock * mapper.Sector(f.roots)
	at := mapper.Sector(f.start)*t.dataBlock + mapper.Sector(number)*n
	return f.disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: n, Data: r.parity}) == nil
}

// readCovered reads a covered block into p. What is behind the tree counts as zeroes.
func (t *target) readCovered(ctx context.Context, index uint64, p []byte) error {
	disk, at := t.data, index
	if index >= t.blocks {
		disk, at = t.hash, index-t.blocks+t.start
		if at >= uint64(disk.Sectors()/t.hashBlock) || index >= t.fec.covered {
			clear(p)
			return nil
		}
	}
	return disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(at) * t.dataBlock, Count: t.dataBlock, Data: p})
}

// wrong returns the columns of a row, but for that of index, of which a data block does not verify.
func (t *target) wrong(ctx context.Context, w *work, index uint64, r *row) (columns []int) {
	f, size := &t.fec, int(t.dataBlock.Bytes())
	other := t.works.Get().(*work) // w holds the digest that is wanted
	defer t.works.Put(other)
	for column := range rs.WordSize - f.roots {
		block := uint64(column)*f.rounds + index%f.rounds
		if block == index || block >= t.blocks {
			continue
		}
		known := t.want(ctx, other, block, false) == nil
		if known && !bytes.Equal(t.digestOf(other, r.columns[column*size:][:size]), other.want) {
			columns = append(columns, column)
		}
	}
	return columns
}

// decode returns the block in a column of a row, and how many bytes of the row were wrong; nil if there are too many.
func (f *fec) decode(r *row, column, size int, erasures []int) (fixed []byte, corrected int) {
	if len(erasures) > f.roots {
		return nil, 0
	}
	fixed = make([]byte, size)
	var word, before [rs.WordSize]byte
	columns := rs.WordSize - f.roots
	for i := range size {
		for c := range columns {
			word[c] = r.columns[c*size+i]
		}
		copy(word[columns:], r.parity[i*f.roots:][:f.roots])
		before = word
		if err := f.decoder.Decode(word[:], erasures); err != nil {
			return nil, 0
		}
		for c := range word {
			if word[c] != before[c] {
				corrected++
			}
		}
		fixed[i] = word[column]
	}
	return fixed, corrected
}
