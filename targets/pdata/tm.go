package pdata

import (
	"context"
	"errors"
)

// A TM is a transaction: which blocks belong to it and may be changed in place, and which belong to the one before, stay as they are
// until the superblock has been switched, and are copied first (shadowed).
//
// Methods that change something are called by one at a time, while nobody reads. Read, and what only reads in trees, may be called by many.
// ctx is that of the I/O; a change that was begun must be carried to its end or be given up as a whole (see Abort).
type TM struct {
	Store *Store
	meta  *MetaMap

	shadows map[Block]struct{}
	touched bool
}

// Read returns the contents of block b. They must not be changed.
func (tm *TM) Read(ctx context.Context, b Block, k *Kind) ([]byte, error) {
	n, err := tm.Store.read(ctx, b, k)
	if err != nil {
		return nil, err
	}
	return n.data, nil
}

// New allocates a block and returns it, filled with zeroes.
func (tm *TM) New(ctx context.Context, k *Kind) (Block, []byte, error) {
	b, err := tm.meta.allocate(ctx)
	if err != nil {
		return 0, nil, err
	}
	n := tm.Store.fresh(b, k)
	tm.shadows[b] = struct{}{}
	tm.touched = true
	return b, n.data, nil
}

// Shadow returns a block of this transaction with the contents of b, in place of which the caller then refers to it. shared says that
// others still refer to b, so that what b refers to has one more that does.
func (tm *TM) Shadow(ctx context.Context, b Block, k *Kind) (at Block, data []byte, shared bool, err error) {
	count, err := tm.meta.Count(ctx, b)
	if err != nil {
		return 0, nil, false, err
	}
	tm.touched = true
	shared = count > 1
	if _, ok := tm.shadows[b]; ok && !shared {
		n, err := tm.Store.read(ctx, b, k)
		if err != nil {
			return 0, nil, false, err
		}
		tm.Store.markDirty(n)
		return b, n.data, false, nil
	}
	at, err = tm.meta.allocate(ctx)
	if err != nil {
		return 0, nil, false, err
	}
	if err := tm.meta.Dec(ctx, b); err != nil {
		return 0, nil, false, err
	}
	old, err := tm.Store.read(ctx, b, k)
	if err != nil {
		return 0, nil, false, err
	}
	n := tm.Store.fresh(at, k)
	copy(n.data, old.data)
	tm.shadows[at] = struct{}{}
	return at, n.data, shared, nil
}

// Inc counts one more reference to b.
func (tm *TM) Inc(ctx context.Context, b Block) error {
	tm.touched = true
	return tm.meta.Inc(ctx, b)
}

// Dec counts one reference less to b. What b refers to is the caller's business.
func (tm *TM) Dec(ctx context.Context, b Block) error {
	tm.touched = true
	return tm.meta.Dec(ctx, b)
}

// Shared reports whether b has more than one reference.
func (tm *TM) Shared(ctx context.Context, b Block) (bool, error) {
	n, err := tm.meta.Count(ctx, b)
	return n > 1, err
}

// Meta returns the space map of the metadata.
func (tm *TM) Meta() *MetaMap { return tm.meta }

// Changed reports whether there is anything to commit.
func (tm *TM) Changed() bool { return tm.touched }

// Touch notes a change that lies in the superblock only.
func (tm *TM) Touch() { tm.touched = true }

// PreCommit brings the space map of the metadata up to date, the last change before the superblock is composed. Data space maps
// must have been committed.
func (tm *TM) PreCommit(ctx context.Context) error { return tm.meta.commit(ctx) }

// Relieve writes changed blocks early, if there are many: nothing durable refers to them yet.
func (tm *TM) Relieve(ctx context.Context) error {
	if !tm.Store.crowded() {
		return nil
	}
	return tm.Store.writeDirty(ctx)
}

// Committed begins the next transaction, once the superblock has been written. Nobody reads meanwhile.
func (tm *TM) Committed() {
	clear(tm.shadows)
	tm.touched = false
}

// Abort forgets all changes since the last superblock. Space maps and roots are then to be read again.
func (tm *TM) Abort() {
	tm.Store.forget()
	clear(tm.shadows)
	tm.touched = false
}

// OpenTM returns a TM for the metadata whose space map has this root in the superblock.
func OpenTM(ctx context.Context, s *Store, root MapRoot) (*TM, error) {
	tm := &TM{Store: s, shadows: make(map[Block]struct{})}
	m, err := openMeta(ctx, tm, root)
	if err != nil {
		return nil, err
	}
	tm.meta = m
	return tm, nil
}

// Format returns a TM for a metadata disk of n blocks of which only the superblock, at block 0, is in use.
func Format(ctx context.Context, s *Store, n Block) (*TM, error) {
	if n < 4 {
		return nil, errors.New("metadata of less than 4 blocks")
	}
	tm := &TM{Store: s, shadows: make(map[Block]struct{}), touched: true}
	tm.meta = newMeta(tm)
	if err := tm.meta.format(ctx, min(n, MaxMetaBlocks)); err != nil {
		return nil, err
	}
	return tm, nil
}
