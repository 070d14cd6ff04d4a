package thin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/cell"
	"dmfs/targets/internal/worker"
	"dmfs/targets/pdata"
)

const (
	modeWrite         mode = iota
	modeOutOfData          // no free data block: mapped blocks can be written
	modeOutOfMetadata      // the metadata does not change until it grows
	modeReadOnly           // the metadata does not change
	modeFail               // no I/O
)

const (
	// commitPeriod is how long a change waits for a commit if nobody flushes.
	commitPeriod = time.Second
	// leastMetaBlocks is how many blocks an empty pool takes, and its next transaction.
	leastMetaBlocks = 12
	// cellCount is how many locks the blocks of all thin devices of a pool share.
	cellCount = 1024
)

// A family is the pools of one mount, which their thin devices find here.
type family struct {
	mu       sync.Mutex // taken before pool.mu; held briefly
	byNumber map[string]*pool
	byMeta   map[mapper.Disk]*pool
}

// A pool is what the thin-pool targets of one device, the live one and the one loaded next, and its thin devices have in common.
//
// Locks, in the order they are taken:
//
//  1. io: shared by each request of a thin device; alone while the pool is suspended
//  2. a cell: shared for I/O to a mapped block, alone while its mapping changes
//  3. telling: whoever carries out a message
//  4. turn: whoever changes or commits the metadata
//  5. look: shared to read the metadata, alone to change it
//  6. mu: held briefly
type pool struct {
	family     *family
	number     string // MAJOR:MINOR of its device
	meta, data mapper.Disk
	store      *pdata.Store

	blockSectors mapper.Sector

	// Guarded by family.mu.
	refs    int // of targets, of both kinds
	targets int // thin-pool targets

	io      cell.Lock
	cells   [cellCount]cell.Lock
	telling chan struct{} // capacity 1: whoever carries out a message
	turn    chan struct{}
	look    cell.Lock
	md      *metadata  // under turn to change, look to read; its trees are there once loaded
	blank   bool       // to be formatted; guarded by turn
	trims   []blockRun // data blocks that commits have freed, to be discarded; guarded by turn
	alone   bool       // the transaction has nothing that anybody was told is done, see headroom; guarded by turn

	mode    atomic.Int32
	seq     atomic.Uint64 // number of the transaction in the making, from 1
	durable atomic.Uint64 // number of the last one that is on the disk

	worker  worker.Group
	kick    chan struct{} // capacity 1: there is something to commit some time
	kicked  atomic.Bool   // kick was sent to since the worker last set out to commit
	spaceIn chan struct{} // capacity 1: the wait for space began

	mu           sync.Mutex
	host         mapper.Host // of the live target; nil before there was one
	features     features
	lowWater     uint64 // blocks
	lowReported  bool
	metaReported bool
	space        chan struct{} // closed when a request that waits for space may try again
	batch        *batch        // the next commit
	shut         bool          // io is held alone
}

// find returns the pool for a thin-pool target of device number, made if there is none, with a reference. The rules are the kernel's: a
// device keeps its pool as long as it has one.
func (f *family) find(ctx context.Context, h mapper.Host, meta, data mapper.Disk, blockSectors mapper.Sector, readOnly bool) (*pool, error) {
	f.mu.Lock()
	p, err := f.existing(h.DeviceNumber(), meta, data)
	f.mu.Unlock()
	if p != nil || err != nil {
		return p, err
	}
	p, err = newPool(ctx, f, h, meta, data, blockSectors, readOnly)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, err := f.existing(p.number, meta, data); other != nil || err != nil {
		return other, err // made meanwhile; p has nothing to give back
	}
	p.refs, p.targets = 1, 1
	f.byNumber[p.number], f.byMeta[meta] = p, p
	return p, nil
}

// existing returns the pool of a device, with a reference, if there is one. mu is held.
func (f *family) existing(number string, meta, data mapper.Disk) (*pool, error) {
	p := f.byMeta[meta]
	switch {
	case p != nil && p.number != number:
		return nil, &mapper.ArgError{Reason: "metadata device already in use by a pool", Detail: p.number, Errno: unix.EBUSY}
	case p != nil && p.data != data:
		return nil, &mapper.ArgError{Reason: "data device already in use by a pool", Detail: p.number, Errno: unix.EBUSY}
	case p == nil && f.byNumber[number] != nil:
		return nil, mapper.BadArg("different pool cannot replace a pool", "%s has one with other disks", number)
	case p != nil:
		p.refs++
		p.targets++
	}
	return p, nil
}

// newPool reads the metadata. It writes nothing: blank metadata is formatted at the first resume.
func newPool(ctx context.Context, f *family, h mapper.Host, meta, data mapper.Disk, blockSectors mapper.Sector, readOnly bool) (*pool, error) {
	p := &pool{
		family: f, number: h.DeviceNumber(), meta: meta, data: data, blockSectors: blockSectors,
		telling: make(chan struct{}, 1), turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), spaceIn: make(chan struct{}, 1), space: make(chan struct{}),
		shut: true, features: defaultFeatures(),
	}
	p.seq.Store(1)
	if err := p.io.Lock(ctx); err != nil {
		return nil, err
	}
	log := func(module, format string, args ...any) { h.LogFrom(module, format, args...) }
	p.store = pdata.NewStore(meta, log)
	p.md = newMetadata(p.store, func(module, format string, args ...any) { p.logFrom(h, module, format, args...) })
	s, blank, err := readSuper(ctx, p.store)
	if err != nil {
		if !errors.Is(err, errFeatures) {
			log("thin metadata", "couldn't read superblock")
		}
		return nil, metadataObject(err)
	}
	switch {
	case blank && readOnly:
		return nil, metadataObject(fmt.Errorf("the metadata disk is blank, and read_only forbids formatting it: %w", unix.EPERM))
	case blank && p.store.Blocks() < leastMetaBlocks:
		return nil, metadataObject(fmt.Errorf("the metadata disk has %d blocks of 4 KiB, want at least %d, better 512: %w", p.store.Blocks(), leastMetaBlocks, unix.ENOSPC))
	case blank:
		p.blank = true
		return p, p.refuseSwapped(ctx)
	case mapper.Sector(s.blockSectors) != blockSectors:
		log("thin metadata", "changing the data block size (from %d to %d) is not supported", s.blockSectors, blockSectors)
		return nil, metadataObject(unix.EINVAL)
	}
	if err := p.md.load(ctx, s); err != nil {
		return nil, metadataObject(err)
	}
	return p, nil
}

// refuseSwapped looks for the metadata of a pool on the data disk, whose data would have room on the metadata disk: whoever gave the two
// disks in the wrong order would lose it. What is left of an earlier pool is of another size.
func (p *pool) refuseSwapped(ctx context.Context) error {
	store := pdata.NewStore(p.data, nil)
	if store.Blocks() == 0 {
		return nil
	}
	s, blank, err := readSuper(ctx, store)
	if err != nil || blank {
		return nil
	}
	if room := uint64(p.meta.Sectors()) / uint64(max(s.blockSectors, 1)); uint64(s.data.Blocks) <= room {
		return mapper.BadArg("Error creating metadata object", "the metadata disk is blank, and the data disk holds the metadata of a pool: are they swapped?")
	}
	return nil
}

// metadataObject is the kernel's refusal of metadata that cannot be read.
func metadataObject(err error) error {
	return &mapper.ArgError{Reason: "Error creating metadata object", Detail: err.Error(), Errno: mapper.Errno(err)}
}

// release gives back the reference of a target.
func (p *pool) release(isPool bool) {
	f := p.family
	f.mu.Lock()
	p.refs--
	if isPool {
		p.targets--
	}
	gone, orphaned := p.refs == 0, p.targets == 0 && p.refs > 0
	if p.targets == 0 && f.byNumber[p.number] == p { // not the loser of a race
		delete(f.byNumber, p.number)
		delete(f.byMeta, p.meta)
	}
	f.mu.Unlock()
	if gone || !orphaned {
		return
	}
	// The disks are about to be closed. Requests of thin devices must not reach them, nor wait for ever.
	p.mu.Lock()
	p.host = nil
	p.mu.Unlock()
	p.setMode(modeFail)
	p.open()
}

// logf logs as the kernel's thin module would.
func (p *pool) logf(format string, args ...any) {
	p.logFrom(nil, "thin", "%s: "+format, append([]any{p.number}, args...)...)
}

// logFrom logs through the live target's host, or else h.
func (p *pool) logFrom(h mapper.Host, module, format string, args ...any) {
	p.mu.Lock()
	if p.host != nil {
		h = p.host
	}
	p.mu.Unlock()
	if h != nil {
		h.LogFrom(module, format, args...)
	}
}

func (p *pool) event() {
	p.mu.Lock()
	h := p.host
	p.mu.Unlock()
	if h != nil {
		h.Event()
	}
}

// take takes the turn to change the metadata. The error is ctx's. Like all on the way of a request it asks for ctx.Done only if it has to wait, since
// that costs several switches of threads.
func (p *pool) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pool) leave() { <-p.turn }

// cell returns the lock of a block of a thin device.
func (p *pool) cell(id DevID, block uint64) *cell.Lock { return &p.cells[cellOf(id, block)] }

func cellOf(id DevID, block uint64) int { return int((block + uint64(id)*0x9e3779b1) % cellCount) }

// lookup returns where a block of d lives.
func (p *pool) lookup(ctx context.Context, d *device, block uint64) (m mapping, mapped bool, err error) {
	if err := p.look.Share(ctx); err != nil {
		return m, false, err
	}
	m, err = p.md.lookup(ctx, d, block)
	p.look.Unshare()
	switch {
	case err == nil:
		return m, true, nil
	case err == pdata.ErrNotFound: //nolint:errorlint // the metadata returns it bare
		return m, false, nil
	case ctx.Err() != nil:
		return m, false, err
	}
	p.logf("dm_thin_find_block() failed: error = -%d", mapper.Errno(err))
	return m, false, fmt.Errorf("mapping of block %d of thin device %d: %w: %w", block, d.id, mapper.ErrIO, err)
}

// run commits from time to time, and ends the wait for space.
func (p *pool) run(ctx context.Context) {
	commit, space := time.NewTimer(commitPeriod), time.NewTimer(0)
	commit.Stop()
	space.Stop()
	defer commit.Stop()
	defer space.Stop()
	armed := false
	p.kicked.Store(false) // what was changed before the worker stopped has been committed
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
			if !armed {
				commit.Reset(commitPeriod)
				armed = true
			}
		case <-commit.C:
			armed = false
			p.kicked.Store(false)
			_ = p.commit(ctx) // an error has changed the mode, and was logged
		case <-p.spaceIn:
			p.mu.Lock()
			wait := p.features.noSpaceTimeout
			p.mu.Unlock()
			if wait > 0 {
				space.Reset(wait)
			}
		case <-space.C:
			p.endWaits()
		}
	}
}

// open lets the requests of thin devices in, if they were kept out.
func (p *pool) open() {
	p.mu.Lock()
	was := p.shut
	p.shut = false
	p.mu.Unlock()
	if was {
		p.io.Unlock()
	}
}

// close keeps the requests of thin devices out, and waits for those inside.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	was := p.shut
	p.mu.Unlock()
	if was {
		return nil
	}
	if err := p.io.Lock(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	return nil
}
