package thin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// A DevID is the number of a thin device in its pool.
type DevID uint32

// maxDevID is the largest: ids have 24 bits.
const maxDevID = 1<<24 - 1

const superBlock pdata.Block = 0

// metadata is the metadata of a pool. Its methods that change something are called by one at a time, while nobody calls another, but for write,
// which may run beside what only looks. After an error of a method that changes something, other than those it names, abort is due.
type metadata struct {
	store *pdata.Store
	log   pdata.Logger
	super superblock // as of the last commit, but for the fields that are the user's: flags, time, transaction, held
	tm    *pdata.TM
	data  *pdata.DataMap

	mappings, details pdata.Block // roots
	devices           map[DevID]*device
	freed             []blockRun // data blocks, in this transaction
	leaving           *removal   // of a device, if one is being deleted
	unflagged         bool       // the flag needs_check is set and could not be written

	sub, top, detail pdata.Tree // kinds of trees: block -> mapping, id -> root of its mappings, id -> details

	next [pdata.BlockSize]byte // the superblock that write writes
}

// A device is a thin device that is open, or has changed since the last commit.
type device struct {
	details
	id      DevID
	root    pdata.Block // of its mappings
	opens   int
	changed bool
	aborted atomic.Bool // changes were given up, and not all that was written is there
	// changedIn is the number of the transaction that changed it last (see pool.seq).
	changedIn atomic.Uint64
}

func newMetadata(store *pdata.Store, log pdata.Logger) *metadata {
	return &metadata{store: store, log: log, devices: make(map[DevID]*device)}
}

// trees sets what the trees refer to.
func (m *metadata) trees() {
	m.sub = pdata.Tree{
		TM: m.tm, Size: mappingSize,
		Inc: func(ctx context.Context, v []byte) error { b, _ := decodeMapping(v); return m.data.Inc(ctx, b) },
		Dec: m.unref,
	}
	m.top = pdata.Tree{
		TM: m.tm, Size: mappingSize,
		Inc: func(ctx context.Context, v []byte) error { return m.tm.Inc(ctx, decodeBlock(v)) },
		Dec: func(ctx context.Context, v []byte) error { return m.sub.Delete(ctx, decodeBlock(v)) },
	}
	m.detail = pdata.Tree{TM: m.tm, Size: detailsSize}
}

// readSuper reads the superblock. blank says that it is all zeroes.
func readSuper(ctx context.Context, store *pdata.Store) (s superblock, blank bool, err error) {
	var data [pdata.BlockSize]byte
	if err := store.ReadRaw(ctx, superBlock, data[:]); err != nil {
		return s, false, err
	}
	if data == [pdata.BlockSize]byte{} {
		return s, true, nil
	}
	sound, err := store.ReadChecked(ctx, superBlock, &superKind)
	if err != nil {
		return s, false, err
	}
	s = decodeSuper(sound)
	return s, false, s.check(store.Blocks())
}

// load reads what the superblock says, which s is.
func (m *metadata) load(ctx context.Context, s superblock) (err error) {
	m.super = s
	if m.tm, err = pdata.OpenTM(ctx, m.store, s.meta); err != nil {
		m.log("thin metadata", "tm_open_with_sm failed")
		return err
	}
	if m.data, err = pdata.OpenDataMap(m.tm, s.data); err != nil {
		m.log("thin metadata", "sm_disk_open failed")
		return err
	}
	m.mappings, m.details = s.mappings, s.details
	m.trees()
	return nil
}

// format makes the metadata of an empty pool and commits it.
func (m *metadata) format(ctx context.Context, blockSectors mapper.Sector) (err error) {
	blocks := min(m.store.Blocks(), pdata.MaxMetaBlocks)
	if m.tm, err = pdata.Format(ctx, m.store, blocks); err != nil {
		return err
	}
	if m.data, err = pdata.NewDataMap(ctx, m.tm); err != nil {
		return err
	}
	m.trees()
	if m.mappings, err = m.top.Empty(ctx); err != nil {
		return err
	}
	if m.details, err = m.detail.Empty(ctx); err != nil {
		return err
	}
	m.super = superblock{version: superVersion, blockSectors: uint32(blockSectors), metaSectors: uint32(pdata.BlockSectors)}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.write(ctx); err != nil {
		return err
	}
	m.tm.Committed()
	return nil
}

// prepare composes the superblock of the transaction.
func (m *metadata) prepare(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(m.devices)) {
		d := m.devices[id]
		if !d.changed {
			continue
		}
		var err error
		if m.details, _, err = m.detail.Insert(ctx, m.details, uint64(id), d.details.encode()); err != nil {
			return err
		}
		d.changed = false
		if d.opens == 0 {
			delete(m.devices, id)
		}
	}
	if err := m.data.Commit(ctx); err != nil {
		return err
	}
	if err := m.tm.PreCommit(ctx); err != nil {
		return err
	}
	m.super.mappings, m.super.details = m.mappings, m.details
	m.super.data, m.super.meta = m.data.Root(), m.tm.Meta().Root()
	m.super.metaBlocks = m.tm.Meta().Blocks()
	m.super.encode(m.next[:])
	return nil
}

// write makes durable what prepare has composed.
func (m *metadata) write(ctx context.Context) error {
	return m.store.WriteSuper(ctx, superBlock, &superKind, m.next[:])
}

// abort goes back to the last commit.
func (m *metadata) abort(ctx context.Context) error {
	m.tm.Abort()
	m.freed = nil
	s, blank, err := readSuper(ctx, m.store)
	if err == nil && blank {
		err = errors.New("the superblock is gone")
	}
	if err == nil {
		err = m.load(ctx, s)
	}
	if err != nil {
		return err
	}
	for id, d := range m.devices {
		if d.changed {
			d.aborted.Store(true)
		}
		d.changed = false
		if err := m.reread(ctx, d); err != nil && d.opens > 0 {
			return err
		}
		if d.opens == 0 {
			delete(m.devices, id)
		}
	}
	return nil
}

// reread reads what the trees say of d.
func (m *metadata) reread(ctx context.Context, d *device) error {
	var v [detailsSize]byte
	if err := m.detail.Lookup(ctx, m.details, uint64(d.id), v[:]); err != nil {
		return err
	}
	var root [mappingSize]byte
	if err := m.top.Lookup(ctx, m.mappings, uint64(d.id), root[:]); err != nil {
		return err
	}
	d.details, d.root = decodeDetails(v[:]), decodeBlock(root[:])
	return nil
}

// setNeedsCheck sets the flag in the superblock that is on the disk, which stays the same else. If it cannot be written now, noteCheck does so later,
// as the kernel's cache would: what can be read is still shown.
func (m *metadata) setNeedsCheck(ctx context.Context) error {
	m.super.flags |= flagNeedsCheck
	data, err := m.store.ReadChecked(ctx, superBlock, &superKind)
	if err != nil {
		return err
	}
	m.flag(ctx, data)
	return nil
}

// noteCheck writes the flag that setNeedsCheck could not write.
func (m *metadata) noteCheck(ctx context.Context) {
	if !m.unflagged {
		return
	}
	if data, err := m.store.ReadChecked(ctx, superBlock, &superKind); err == nil {
		m.flag(ctx, data)
	}
}

// flag writes a superblock with the flag.
func (m *metadata) flag(ctx context.Context, super []byte) {
	binary.LittleEndian.PutUint32(super[4:], m.super.flags)
	m.unflagged = m.store.WriteSuper(ctx, superBlock, &superKind, super) != nil
}

func (m *metadata) needsCheck() bool { return m.super.flags&flagNeedsCheck != 0 }

// reserve is how many metadata blocks are not for mappings: a tenth, at most 16 MiB. Out of these a commit is always possible.
func (m *metadata) reserve() pdata.Block { return min(4096, m.tm.Meta().Blocks()/10) }

// commitTakes returns how many metadata blocks a commit of a change to a device or two takes at most: their details, the two indices and what
// counts them.
func (m *metadata) commitTakes() pdata.Block { return 8 + m.data.CommitTakes() }

// freeMeta returns how many metadata blocks may be used.
func (m *metadata) freeMeta() pdata.Block {
	free := m.tm.Meta().Free()
	return free - min(free, m.reserve())
}

// get returns device id, open or not. notFound is what the kernel says of a missing one.
func (m *metadata) get(ctx context.Context, id DevID) (*device, error) {
	if d := m.devices[id]; d != nil {
		return d, nil
	}
	d := &device{id: id}
	if err := m.reread(ctx, d); err != nil {
		if errors.Is(err, pdata.ErrNotFound) {
			return nil, unix.ENODATA
		}
		return nil, err
	}
	return d, nil
}

// open returns device id and keeps it until close.
func (m *metadata) open(ctx context.Context, id DevID) (*device, error) {
	if m.leaving != nil && m.leaving.id == id {
		return nil, unix.ENODATA
	}
	d, err := m.get(ctx, id)
	if err != nil {
		return nil, err
	}
	d.opens++
	m.devices[id] = d
	return d, nil
}

func (m *metadata) close(d *device) {
	if d.opens--; d.opens == 0 && !d.changed {
		delete(m.devices, d.id)
	}
}

// absent says EEXIST if there is a device id.
func (m *metadata) absent(ctx context.Context, id DevID) error {
	_, err := m.get(ctx, id)
	switch {
	case err == nil:
		return unix.EEXIST
	case errors.Is(err, unix.ENODATA):
		return nil
	}
	return err
}

// refusal reports whether err says no to a request before anything was changed.
func refusal(err error) bool {
	return err == unix.EEXIST || err == unix.ENODATA || err == unix.EBUSY || err == unix.EINVAL //nolint:errorlint // bare, or else it is damage
}

// createThin makes an empty device. EEXIST if there is one.
func (m *metadata) createThin(ctx context.Context, id DevID) error {
	if err := m.absent(ctx, id); err != nil {
		return err
	}
	root, err := m.sub.Empty(ctx)
	if err != nil {
		return err
	}
	return m.add(ctx, &device{id: id, root: root})
}

// add puts a new device into the trees.
func (m *metadata) add(ctx context.Context, d *device) (err error) {
	if m.mappings, _, err = m.top.Insert(ctx, m.mappings, uint64(d.id), encodeBlock(d.root)); err != nil {
		return err
	}
	d.transaction, d.created, d.snapped, d.changed = m.super.transaction, m.super.time, m.super.time, true
	m.devices[d.id] = d
	return nil
}

// createSnap makes device id with the mappings of origin. EEXIST, ENODATA if there is no origin.
func (m *metadata) createSnap(ctx context.Context, id, origin DevID) error {
	if err := m.absent(ctx, id); err != nil {
		return err
	}
	from, err := m.get(ctx, origin)
	if err != nil {
		return err
	}
	if err := m.tm.Inc(ctx, from.root); err != nil {
		return err
	}
	m.super.time++
	snap := &device{id: id, root: from.root}
	snap.mapped = from.mapped
	if err := m.add(ctx, snap); err != nil {
		return err
	}
	from.snapped, from.changed = m.super.time, true
	m.devices[origin] = from
	return nil
}

// holdSnapshot keeps the committed state readable for tools, until it is released. EBUSY if one is kept. All has been committed before.
func (m *metadata) holdSnapshot(ctx context.Context) error {
	if m.super.held != 0 {
		m.log("thin metadata", "Pool metadata snapshot already exists: release this before taking another.")
		return unix.EBUSY
	}
	at, data, err := m.tm.New(ctx, &superKind)
	if err != nil {
		return err
	}
	copied := m.super
	copied.data, copied.meta = pdata.MapRoot{}, pdata.MapRoot{}
	copied.encode(data)
	if err := m.tm.Inc(ctx, m.super.mappings); err != nil {
		return err
	}
	if err := m.tm.Inc(ctx, m.super.details); err != nil {
		return err
	}
	m.super.held = at
	return nil
}

// releaseSnapshot ends holdSnapshot. EINVAL if none is held.
func (m *metadata) releaseSnapshot(ctx context.Context) error {
	if m.super.held == 0 {
		m.log("thin metadata", "No pool metadata snapshot found: nothing to release.")
		return unix.EINVAL
	}
	data, err := m.tm.Read(ctx, m.super.held, &superKind)
	if err != nil {
		return err
	}
	held := decodeSuper(data)
	if err := m.top.Delete(ctx, held.mappings); err != nil {
		return err
	}
	if err := m.detail.Delete(ctx, held.details); err != nil {
		return err
	}
	if err := m.tm.Dec(ctx, m.super.held); err != nil {
		return err
	}
	m.super.held = 0
	return nil
}

// setTransaction changes the user's number. EINVAL if it is not old.
func (m *metadata) setTransaction(old, id uint64) error {
	if m.super.transaction != old {
		m.log("thin metadata", "mismatched transaction id")
		return unix.EINVAL
	}
	m.super.transaction = id
	m.tm.Touch()
	return nil
}

// validBlockSize says whether data blocks may have that many sectors.
func validBlockSize(n mapper.Sector) error {
	const least, most = 128, 2 << 20
	if n < least || n > most || n%least != 0 {
		return fmt.Errorf("%d sectors: want a multiple of %d up to %d", n, least, most)
	}
	return nil
}
