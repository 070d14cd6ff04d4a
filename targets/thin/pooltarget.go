package thin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/pdata"
)

// NewTypes returns the targets thin-pool and thin for one mount: thin devices find their pools.
func NewTypes() []*mapper.Type {
	f := &family{byNumber: make(map[string]*pool), byMeta: make(map[mapper.Disk]*pool)}
	return []*mapper.Type{
		{
			Name: "thin-pool", Version: [3]int{1, 22, 0},
			Features: mapper.Singleton | mapper.AlwaysWriteable | mapper.Immutable,
			New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
				return f.newPoolTarget(ctx, h, s)
			},
		},
		{
			Name: "thin", Version: [3]int{1, 22, 0},
			New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
				return f.newThin(ctx, h, s)
			},
		},
	}
}

// features are the optional arguments of a pool.
type features struct {
	skipZeroing, ignoreDiscard, noPassdown, readOnly, errorIfNoSpace bool

	noSpaceTimeout    time.Duration // 0: for ever
	noSpaceTimeoutSet bool          // it was given
}

// defaultNoSpaceTimeout is the kernel's.
const defaultNoSpaceTimeout = 60 * time.Second

func defaultFeatures() features { return features{noSpaceTimeout: defaultNoSpaceTimeout} }

// timeoutPrefix begins the one feature that the kernel has as a parameter of its module.
const timeoutPrefix = "no_space_timeout:"

// parseFeatures reads COUNT FEATURE*. Words after these are ignored, as the kernel does.
func parseFeatures(words []string) (features, error) {
	f := defaultFeatures()
	if len(words) == 0 {
		return f, nil
	}
	const most = 5 // the kernel's four and no_space_timeout
	n, ok := args.ScanUint32(words[0])
	if !ok || n > most || int(n) > len(words)-1 {
		return f, mapper.BadArg("Invalid number of pool feature arguments", "%s, with %d more words", mapper.ShowArg(words[0]), len(words)-1)
	}
	for _, w := range words[1 : 1+n] {
		switch w := strings.ToLower(w); w {
		case "skip_block_zeroing":
			f.skipZeroing = true
		case "ignore_discard":
			f.ignoreDiscard = true
		case "no_discard_passdown":
			f.noPassdown = true
		case "read_only":
			f.readOnly = true
		case "error_if_no_space":
			f.errorIfNoSpace = true
		default:
			seconds, ok := strings.CutPrefix(w, timeoutPrefix)
			v, isNumber := args.Uint32(seconds)
			if !ok || !isNumber || v > 1<<31 {
				return f, mapper.BadArg("Unrecognised pool feature requested", "%s: known are skip_block_zeroing, ignore_discard, "+
					"no_discard_passdown, read_only, error_if_no_space and no_space_timeout:SECONDS", mapper.ShowArg(w))
			}
			f.noSpaceTimeout, f.noSpaceTimeoutSet = time.Duration(v)*time.Second, true
		}
	}
	if n == most && !f.noSpaceTimeoutSet {
		return f, mapper.BadArg("Invalid number of pool feature arguments", "%d: want at most 4, and no_space_timeout", n)
	}
	return f, nil
}

// words returns COUNT FEATURE* as a table shows them.
func (f features) words() []string {
	words := []string{""}
	for _, w := range []struct {
		set  bool
		word string
	}{
		{f.skipZeroing, "skip_block_zeroing"}, {f.ignoreDiscard, "ignore_discard"}, {f.noPassdown, "no_discard_passdown"},
		{f.readOnly, "read_only"}, {f.errorIfNoSpace, "error_if_no_space"},
		{f.noSpaceTimeoutSet, timeoutPrefix + strconv.Itoa(int(f.noSpaceTimeout/time.Second))},
	} {
		if w.set {
			words = append(words, w.word)
		}
	}
	words[0] = strconv.Itoa(len(words) - 1)
	return words
}

// mode returns the mode that the features ask for.
func (f features) mode() mode {
	if f.readOnly {
		return modeReadOnly
	}
	return modeWrite
}

// A poolTarget is the target thin-pool: it passes I/O on to the data disk, and controls the pool.
type poolTarget struct {
	host     mapper.Host
	pool     *pool
	length   mapper.Sector
	lowWater uint64
	asked    features
	used     features // without what the data disk cannot do
}

var (
	_ mapper.Hinter        = (*poolTarget)(nil)
	_ mapper.Areaser       = (*poolTarget)(nil)
	_ mapper.Tabler        = (*poolTarget)(nil)
	_ mapper.Statuser      = (*poolTarget)(nil)
	_ mapper.Messenger     = (*poolTarget)(nil)
	_ mapper.PreResumer    = (*poolTarget)(nil)
	_ mapper.Resumer       = (*poolTarget)(nil)
	_ mapper.PostSuspender = (*poolTarget)(nil)
)

func (f *family) newPoolTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (*poolTarget, error) {
	if len(s.Args) < 4 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want METADATA DATA BLOCK LOW-WATER [COUNT FEATURE*]", len(s.Args))
	}
	const same = "Error setting metadata or data device"
	if s.Args[0] == s.Args[1] {
		return nil, mapper.BadArg(same, "%s is both", s.Args[0])
	}
	feats, err := parseFeatures(s.Args[4:])
	if err != nil {
		return nil, err
	}
	meta, err := args.Open(ctx, h, s.Args[0], "Error opening metadata block device")
	if err != nil {
		return nil, err
	}
	warnIfTooBig(h, meta)
	data, err := args.Open(ctx, h, s.Args[1], "Error getting data device")
	if err != nil {
		return nil, err
	}
	if meta == data {
		return nil, mapper.BadArg(same, "%s and %s are one disk", s.Args[0], s.Args[1])
	}
	block, ok := args.LongUint64(s.Args[2])
	if !ok {
		return nil, mapper.BadArg("Invalid block size", "%s: want a number of sectors", mapper.ShowArg(s.Args[2]))
	}
	if err := validBlockSize(mapper.Sector(block)); err != nil {
		return nil, mapper.BadArg("Invalid block size", "%v", err)
	}
	low, ok := args.LongUint64(s.Args[3])
	if !ok {
		return nil, mapper.BadArg("Invalid low water mark", "%s: want a number of blocks", mapper.ShowArg(s.Args[3]))
	}
	p, err := f.find(ctx, h, meta, data, mapper.Sector(block), feats.readOnly)
	if err != nil {
		return nil, err
	}
	t := &poolTarget{host: h, pool: p, length: s.Len, lowWater: low, asked: feats, used: feats}
	if err := t.fitsPool(mapper.Sector(block)); err != nil {
		p.release(true)
		return nil, err
	}
	return t, nil
}

// fitsPool refuses what a pool that is in use cannot become.
func (t *poolTarget) fitsPool(block mapper.Sector) error {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case block != p.blockSectors:
		return mapper.BadArg("Invalid block size", "%d: the pool is in use with %d", block, p.blockSectors)
	case p.host != nil && p.features.ignoreDiscard != t.asked.ignoreDiscard:
		return mapper.BadArg("Discard support cannot be disabled once enabled", "remove the pool and create it again")
	}
	return nil
}

// warnIfTooBig says that not all of a large metadata disk is used.
func warnIfTooBig(h mapper.Host, meta mapper.Disk) {
	const tooBig = 16 << 30 / mapper.SectorSize
	if meta.Sectors() > tooBig {
		h.LogFrom("thin", "Metadata device %s is larger than %d sectors: excess space will not be used.",
			mapper.KernelName(meta), mapper.Sector(pdata.MaxMetaBlocks)*pdata.BlockSectors)
	}
}

// Submit passes r on to the data disk.
func (t *poolTarget) Submit(ctx context.Context, r mapper.Request) error {
	return t.pool.data.Submit(ctx, r)
}

// Areas returns the part of the data disk that the pool uses.
func (t *poolTarget) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.pool.data, Len: t.length}}
}

// Hints sets the preferred I/O, and finds out whether discards can be passed down.
func (t *poolTarget) Hints(l *mapper.Limits) {
	block := int(t.pool.blockSectors.Bytes())
	if l.OptIO < block || l.OptIO%block != 0 {
		l.MinIO, l.OptIO = block, block
	}
	l.VolatileCache = true
	if !t.used.ignoreDiscard && !t.used.noPassdown {
		below := t.pool.data.Limits()
		why := ""
		switch {
		case below.MaxDiscard == 0:
			why = "discard unsupported"
		case below.MaxDiscard < t.pool.blockSectors:
			why = "max discard sectors smaller than a block"
		}
		if why != "" {
			t.host.LogFrom("thin", "Data device (%s) %s: Disabling discard passdown.", mapper.KernelName(t.pool.data), why)
			t.used.noPassdown = true
		}
	}
	if t.used.ignoreDiscard || t.used.noPassdown {
		l.MaxDiscard, l.DiscardGranularity = 0, 0
	}
}

// Table returns METADATA DATA BLOCK LOW-WATER COUNT FEATURE*. As in the kernel's, a blank follows.
func (t *poolTarget) Table(bool) []string {
	words := []string{
		mapper.DiskName(t.pool.meta), mapper.DiskName(t.pool.data),
		strconv.FormatUint(uint64(t.pool.blockSectors), 10), strconv.FormatUint(t.lowWater, 10),
	}
	return append(append(words, t.asked.words()...), "")
}

// PreResume makes this the target that controls the pool, formats blank metadata, and lets the pool grow to its disks.
func (t *poolTarget) PreResume(ctx context.Context) error {
	p := t.pool
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.leave()
	p.mu.Lock()
	p.host, p.features, p.lowWater = t.host, t.used, t.lowWater
	p.mu.Unlock()
	if p.blank {
		if err := p.md.format(ctx, p.blockSectors); err != nil {
			return fmt.Errorf("formatting the metadata: %w", err)
		}
		p.blank = false
	}
	p.setMode(t.used.mode())
	grown, err := t.growData(ctx)
	if err == nil {
		var more bool
		more, err = t.growMeta(ctx)
		grown = grown || more
	}
	if err == nil && grown {
		err = p.commitNow(ctx)
	}
	return err
}

// growData gives the pool what the table has more than the metadata say.
func (t *poolTarget) growData(ctx context.Context) (grown bool, err error) {
	p := t.pool
	have, want := p.md.data.Blocks(), pdata.Block(t.length/p.blockSectors)
	switch {
	case want < have:
		p.logf("pool target (%d blocks) too small: expected %d", want, have)
		return false, unix.EINVAL
	case want == have:
		return false, nil
	case p.md.needsCheck():
		p.logf("unable to grow the data device until repaired.")
		return false, nil
	case mode(p.mode.Load()) >= modeReadOnly:
		p.logf("unable to grow the data device in %s mode.", mode(p.mode.Load()))
		return false, nil
	}
	if have != 0 {
		p.logf("growing the data device from %d to %d blocks", have, want)
	}
	err = p.change(ctx, "dm_pool_resize_data_dev", func(ctx context.Context) error { return p.md.data.Extend(ctx, want-have) })
	if errors.Is(err, pdata.ErrNoSpace) {
		err = fmt.Errorf("the metadata disk has no room for %d data blocks: %w", want, unix.ENOSPC)
	}
	return true, err
}

// growMeta gives the metadata what the disk has more.
func (t *poolTarget) growMeta(ctx context.Context) (grown bool, err error) {
	p := t.pool
	have, want := p.md.tm.Meta().Blocks(), min(p.store.Blocks(), pdata.MaxMetaBlocks)
	switch {
	case want < have:
		p.logf("metadata device (%d blocks) too small: expected %d", want, have)
		return false, unix.EINVAL
	case want == have:
		return false, nil
	case p.md.needsCheck():
		p.logf("unable to grow the metadata device until repaired.")
		return false, nil
	case mode(p.mode.Load()) >= modeReadOnly:
		p.logf("unable to grow the metadata device in %s mode.", mode(p.mode.Load()))
		return false, nil
	}
	p.logf("growing the metadata device from %d to %d blocks", have, want)
	if mode(p.mode.Load()) == modeOutOfMetadata {
		p.setMode(modeWrite)
	}
	return true, p.change(ctx, "dm_pool_resize_metadata_dev", func(ctx context.Context) error { return p.md.tm.Meta().Extend(ctx, want-have) })
}

// Resume lets the thin devices go on.
func (t *poolTarget) Resume() {
	p := t.pool
	p.mu.Lock()
	p.lowReported = false
	p.mu.Unlock()
	p.worker.Start(p.run)
	p.open()
	p.retry()
	if mode(p.mode.Load()) == modeOutOfData {
		select {
		case p.spaceIn <- struct{}{}:
		default:
		}
	}
}

// PostSuspend waits for the thin devices' I/O, keeps more of it out, and commits.
func (t *poolTarget) PostSuspend(ctx context.Context) error {
	p := t.pool
	p.worker.Stop()
	if err := p.close(ctx); err != nil {
		return err
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	blank := p.blank // the target was not resumed
	p.md.noteCheck(ctx)
	p.leave()
	if blank || mode(p.mode.Load()) >= modeOutOfMetadata {
		return nil
	}
	return p.commit(ctx)
}

// Close gives up the pool. The last target of a device ends it.
func (t *poolTarget) Close() error {
	t.pool.release(true)
	return nil
}
