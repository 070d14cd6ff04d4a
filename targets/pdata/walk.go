package pdata

import "context"

// Next copies the value of the smallest key that is at least key into v and returns the key. ErrNotFound if there is none.
func (t *Tree) Next(ctx context.Context, root Block, key uint64, v []byte) (uint64, error) {
	n, err := t.node(ctx, root)
	if err != nil {
		return 0, err
	}
	return t.next(ctx, n, key, v, 1)
}

func (t *Tree) next(ctx context.Context, n node, key uint64, v []byte, depth int) (uint64, error) {
	i := n.find(key)
	if n.leaf() {
		if !n.has(i, key) {
			i++
		}
		if i >= n.len() {
			return 0, ErrNotFound
		}
		copy(v, n.value(i))
		return n.key(i), nil
	}
	for i = max(i, 0); i < n.len(); i++ {
		c, err := t.child(ctx, n, i, depth)
		if err != nil {
			return 0, err
		}
		k, err := t.next(ctx, c, key, v, depth+1)
		if err != ErrNotFound { //nolint:errorlint // next returns it bare
			return k, err
		}
	}
	return 0, ErrNotFound
}

// Highest returns the largest key and copies its value into v. ErrNotFound if the tree is empty.
func (t *Tree) Highest(ctx context.Context, root Block, v []byte) (uint64, error) {
	n, err := t.node(ctx, root)
	for depth := 1; err == nil; depth++ {
		i := n.len() - 1
		if i < 0 {
			return 0, ErrNotFound
		}
		if n.leaf() {
			copy(v, n.value(i))
			return n.key(i), nil
		}
		n, err = t.child(ctx, n, i, depth)
	}
	return 0, err
}

// Shared reports whether anybody else has a node on the way to key: a change there copies it, and counts all that it refers to once more.
func (t *Tree) Shared(ctx context.Context, root Block, key uint64) (bool, error) {
	b := root
	n, err := t.node(ctx, b)
	for depth := 1; err == nil; depth++ {
		var shared bool
		if shared, err = t.TM.Shared(ctx, b); err != nil || shared || n.leaf() {
			return shared, err
		}
		i := max(n.find(key), 0)
		b = n.child(i)
		n, err = t.child(ctx, n, i, depth)
	}
	return false, err
}

// Walk calls f for each entry with a key in [from, to), in ascending order, until f returns an error. f must not keep value.
func (t *Tree) Walk(ctx context.Context, root Block, from, to uint64, f func(key uint64, value []byte) error) error {
	n, err := t.node(ctx, root)
	if err != nil {
		return err
	}
	return t.walk(ctx, n, from, to, f, 1)
}

func (t *Tree) walk(ctx context.Context, n node, from, to uint64, f func(uint64, []byte) error, depth int) error {
	i := max(n.find(from), 0)
	if n.leaf() && i < n.len() && n.key(i) < from {
		i++
	}
	for ; i < n.len() && n.key(i) < to; i++ {
		if n.leaf() {
			if err := f(n.key(i), n.value(i)); err != nil {
				return err
			}
			continue
		}
		c, err := t.child(ctx, n, i, depth)
		if err == nil {
			err = t.walk(ctx, c, from, to, f, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// WalkNodes calls f for each node, from the root down, with the node's level, 0 for the root, and what it contains. If f returns false the
// walk does not go below that node.
func (t *Tree) WalkNodes(ctx context.Context, root Block, f func(b Block, level int, n NodeInfo) (bool, error)) error {
	n, err := t.node(ctx, root)
	if err != nil {
		return err
	}
	return t.walkNodes(ctx, root, n, 0, f)
}

// A NodeInfo tells about a node.
type NodeInfo struct {
	Leaf         bool
	Entries, Max int
	n            node
}

// Entry returns the key and the value of entry i.
func (n NodeInfo) Entry(i int) (key uint64, value []byte) { return n.n.key(i), n.n.value(i) }

func (t *Tree) walkNodes(ctx context.Context, b Block, n node, level int, f func(Block, int, NodeInfo) (bool, error)) error {
	down, err := f(b, level, NodeInfo{n.leaf(), n.len(), n.cap(), n})
	if err != nil || !down || n.leaf() {
		return err
	}
	for i := range n.len() {
		c, err := t.child(ctx, n, i, level+1)
		if err == nil {
			err = t.walkNodes(ctx, n.child(i), c, level+1, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Warm reads the nodes on the way to key into memory, and those beside them that a removal, or an insertion into a full node, may move entries
// to. It only reads. So a change that follows finds them there, and whoever holds a lock for it alone does not wait for the disk.
func (t *Tree) Warm(ctx context.Context, root Block, key uint64, removal bool) error {
	n, err := t.node(ctx, root)
	for depth := 1; err == nil && !n.leaf(); depth++ {
		i := max(n.find(key), 0)
		var below node
		if below, err = t.child(ctx, n, i, depth); err != nil {
			return err
		}
		if removal || below.full() {
			for _, j := range [2]int{i - 1, i + 1} {
				if j < 0 || j >= n.len() {
					continue
				}
				if _, err := t.child(ctx, n, j, depth); err != nil {
					return err
				}
			}
		}
		n = below
	}
	return err
}
