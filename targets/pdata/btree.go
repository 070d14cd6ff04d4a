package pdata

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Tree is a kind of B-tree: what its values are. The trees themselves are known by the blocks of their roots, which changes return anew.
// Trees may share nodes; a node is copied before it changes if anybody else refers to it, or the last transaction does.
type Tree struct {
	TM   *TM
	Size int // of a value, in bytes
	// Inc and Dec are called for a value that a copy of its leaf refers to as well, or that is no longer referred to. nil: nothing to do.
	Inc, Dec func(ctx context.Context, value []byte) error
}

// maxDepth bounds the levels of a tree. Soundness: even thin trees of 2^64 keys have fewer.
const maxDepth = 40

// corrupt reports a tree that is not one, though each of its blocks may be sound.
func corrupt(b Block, reason string, args ...any) error {
	return &CorruptError{b, NodeKind.Name, fmt.Sprintf(reason, args...), unix.EILSEQ}
}

// Empty makes a tree without entries.
func (t *Tree) Empty(ctx context.Context) (root Block, err error) {
	b, data, err := t.TM.New(ctx, &NodeKind)
	if err != nil {
		return 0, err
	}
	node(data).init(leafFlag, t.Size)
	return b, nil
}

// node reads a node. Its leaves must have values of the tree's size.
func (t *Tree) node(ctx context.Context, b Block) (node, error) {
	data, err := t.TM.Read(ctx, b, &NodeKind)
	if err != nil {
		return nil, err
	}
	return data, t.fits(b, data)
}

// fits says whether n can belong to t.
func (t *Tree) fits(b Block, n node) error {
	if n.leaf() && n.size() != t.Size {
		return corrupt(b, "values of %d bytes in a tree of %d", n.size(), t.Size)
	}
	return nil
}

// child reads the node below entry i of n, and says whether it belongs there.
func (t *Tree) child(ctx context.Context, n node, i, depth int) (node, error) {
	b := n.child(i)
	c, err := t.node(ctx, b)
	if err != nil {
		return nil, err
	}
	return c, belongs(n, i, b, c, depth)
}

// belongs says whether c, which is block b, may be below entry i of n.
func belongs(n node, i int, b Block, c node, depth int) error {
	o := c.outline()
	last := i+1 == n.len()
	end := uint64(0)
	if !last {
		end = n.key(i + 1)
	}
	return o.belongs(b, n.key(i), end, last, depth)
}

// belongs says whether a node, which is block b, may be below an entry with the key from, where the next has the key end unless it is
// the last.
func (o *outline) belongs(b Block, from, end uint64, last bool, depth int) error {
	switch {
	case depth > maxDepth:
		return corrupt(b, "more than %d levels", maxDepth)
	case o.len == 0:
		return corrupt(b, "empty, below another node")
	case o.first < from, !last && o.last >= end:
		return corrupt(b, "keys that belong elsewhere")
	}
	return nil
}

// Lookup copies the value of key into v, which is t.Size long. ErrNotFound if there is none.
func (t *Tree) Lookup(ctx context.Context, root Block, key uint64, v []byte) error {
	n, err := t.TM.Store.pin(ctx, root, &NodeKind)
	if err != nil {
		return err
	}
	o := n.outline()
	for depth := 1; ; depth++ {
		at := node(n.data)
		i, exact := at.seek(&o, key)
		switch {
		case o.leaf && int(o.size) != t.Size:
			err = t.fits(n.block, at)
		case i < 0, o.leaf && !exact:
			err = ErrNotFound
		case o.leaf:
			copy(v, at.at(&o, i))
		}
		if err != nil || o.leaf {
			n.unpin()
			return err
		}
		b := Block(binary.LittleEndian.Uint64(at.at(&o, i)))
		below, err := t.TM.Store.pin(ctx, b, &NodeKind)
		if err != nil {
			n.unpin()
			return err
		}
		from, end, last := at.key(i), uint64(0), i+1 == int(o.len)
		if !last {
			end = at.key(i + 1)
		}
		n.unpin()
		n, o = below, below.outline()
		if err := o.belongs(b, from, end, last, depth); err != nil {
			n.unpin()
			return err
		}
	}
}

// shadow returns a node that may be changed in place of b.
func (t *Tree) shadow(ctx context.Context, b Block) (Block, node, error) {
	at, data, shared, err := t.TM.Shadow(ctx, b, &NodeKind)
	if err != nil {
		return 0, nil, err
	}
	n := node(data)
	if err := t.fits(b, n); err != nil {
		return 0, nil, err
	}
	if shared {
		err = t.incAll(ctx, n)
	}
	return at, n, err
}

// incAll counts one more reference to all that n refers to.
func (t *Tree) incAll(ctx context.Context, n node) error {
	for i := range n.len() {
		var err error
		if !n.leaf() {
			err = t.TM.Inc(ctx, n.child(i))
		} else if t.Inc != nil {
			err = t.Inc(ctx, n.value(i))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shadowChild makes the node below entry i of n, which may be changed, one that may be changed.
func (t *Tree) shadowChild(ctx context.Context, n node, i, depth int) (node, error) {
	b := n.child(i)
	at, c, err := t.shadow(ctx, b)
	if err != nil {
		return nil, err
	}
	n.setChild(i, at)
	return c, belongs(n, i, b, c, depth)
}

// Insert gives key the value v, and reports whether it had none before.
func (t *Tree) Insert(ctx context.Context, root Block, key uint64, v []byte) (newRoot Block, inserted bool, err error) {
	newRoot, n, err := t.descend(ctx, root, key)
	if err != nil {
		return 0, false, err
	}
	i := n.find(key)
	if !n.has(i, key) {
		n.insertAt(i+1, key, v)
		return newRoot, true, nil
	}
	old := n.value(i)
	if t.Dec != nil && !bytes.Equal(old, v) {
		if err := t.Dec(ctx, old); err != nil {
			return 0, false, err
		}
	}
	copy(old, v)
	return newRoot, false, nil
}

// descend returns the leaf for key, which may be changed and has room for it.
func (t *Tree) descend(ctx context.Context, root Block, key uint64) (Block, node, error) {
	newRoot, n, err := t.shadow(ctx, root)
	if err != nil {
		return 0, nil, err
	}
	var parent node
	at := -1
	for depth := 1; ; depth++ {
		if n.full() && !(n.leaf() && n.has(n.find(key), key)) {
			if parent == nil {
				err = t.splitBeneath(ctx, n)
			} else {
				n, err = t.makeRoom(ctx, parent, at, n, key, depth)
			}
			if err != nil {
				return 0, nil, err
			}
		}
		if n.leaf() {
			return newRoot, n, nil
		}
		i := n.find(key)
		if i < 0 {
			n.setKey(0, key)
			i = 0
		}
		parent, at = n, i
		if n, err = t.shadowChild(ctx, n, i, depth); err != nil {
			return 0, nil, err
		}
	}
}

// newNode returns an empty node like n.
func (t *Tree) newNode(ctx context.Context, n node) (Block, node, error) {
	b, data, err := t.TM.New(ctx, &NodeKind)
	if err != nil {
		return 0, nil, err
	}
	c := node(data)
	c.init(n.u32(4), n.size())
	return b, c, nil
}

// splitBeneath moves the entries of a full root into two new nodes below it. The root stays where it is.
func (t *Tree) splitBeneath(ctx context.Context, n node) error {
	lb, left, err := t.newNode(ctx, n)
	if err != nil {
		return err
	}
	rb, right, err := t.newNode(ctx, n)
	if err != nil {
		return err
	}
	half := n.len() / 2
	moveLeft(left, n, half)
	moveLeft(right, n, n.len())
	n.init(internalFlag, 8)
	for i, c := range []node{left, right} {
		b := [2]Block{lb, rb}[i]
		n.insertAt(i, c.key(0), blockValue(b))
	}
	return nil
}

func blockValue(b Block) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(b)) }

// enoughRoom is how many free entries a neighbour must have to be worth moving entries to.
const enoughRoom = 8

// makeRoom finds room for key in n, which is full and below entry i of parent: in a neighbour, or in a new node. It returns the node that
// key belongs in. As the kernel it shares two full nodes out to three, except at the ends, so that keys in a sequence fill nodes.
func (t *Tree) makeRoom(ctx context.Context, parent node, i int, n node, key uint64, depth int) (node, error) {
	roomy := func(j int) (room, shared bool, err error) {
		if shared, err = t.TM.Shared(ctx, parent.child(j)); err != nil || shared {
			return false, shared, err
		}
		c, err := t.child(ctx, parent, j, depth)
		if err != nil {
			return false, false, err
		}
		return c.cap()-c.len() >= enoughRoom, false, nil
	}
	anyShared := false
	for _, j := range [2]int{i - 1, i + 1} {
		if j < 0 || j >= parent.len() {
			continue
		}
		room, shared, err := roomy(j)
		if err != nil {
			return nil, err
		}
		if room {
			return t.shareWith(ctx, parent, i, j, n, key, depth)
		}
		anyShared = anyShared || shared
	}
	if anyShared || parent.len() <= 2 || i == 0 || i+1 == parent.len() {
		return t.splitInTwo(ctx, parent, i, n, key)
	}
	return t.splitInThree(ctx, parent, i, n, key, depth)
}

// shareWith moves entries between n, below entry i, and its neighbour below entry j.
func (t *Tree) shareWith(ctx context.Context, parent node, i, j int, n node, key uint64, depth int) (node, error) {
	other, err := t.shadowChild(ctx, parent, j, depth)
	if err != nil {
		return nil, err
	}
	left, right := n, other
	if j < i {
		left, right = other, n
	}
	if err := alike(parent.child(j), n, other); err != nil {
		return nil, err
	}
	share(left, right, (left.len()+right.len())/2)
	parent.setKey(max(i, j), right.key(0))
	return pick(key, left, right), nil
}

// alike says whether two neighbours are of one kind.
func alike(b Block, n, other node) error {
	if n.leaf() != other.leaf() || n.size() != other.size() {
		return corrupt(b, "differs in kind from its neighbour")
	}
	return nil
}

// pick returns the last of nodes whose first key is not greater than key, or the first.
func pick(key uint64, nodes ...node) node {
	for i := len(nodes) - 1; i > 0; i-- {
		if key >= nodes[i].key(0) {
			return nodes[i]
		}
	}
	return nodes[0]
}

// splitInTwo moves half of n to a new node after it.
func (t *Tree) splitInTwo(ctx context.Context, parent node, i int, n node, key uint64) (node, error) {
	b, right, err := t.newNode(ctx, n)
	if err != nil {
		return nil, err
	}
	share(n, right, n.len()/2)
	parent.insertAt(i+1, right.key(0), blockValue(b))
	return pick(key, n, right), nil
}

// splitInThree shares n and the neighbour before it, both full, out to these two and a new one between them.
func (t *Tree) splitInThree(ctx context.Context, parent node, i int, n node, key uint64, depth int) (node, error) {
	left, err := t.shadowChild(ctx, parent, i-1, depth)
	if err != nil {
		return nil, err
	}
	if err := alike(parent.child(i-1), n, left); err != nil {
		return nil, err
	}
	b, center, err := t.newNode(ctx, n)
	if err != nil {
		return nil, err
	}
	shareInThree(left, center, n)
	parent.setKey(i, n.key(0))
	parent.insertAt(i, center.key(0), blockValue(b))
	return pick(key, left, center, n), nil
}

// shareInThree gives three neighbours a third of the entries each; of what does not divide the right one gets one, the center the rest.
func shareInThree(left, center, right node) {
	total := left.len() + center.len() + right.len()
	wantLeft := total / 3
	wantRight := wantLeft
	if wantLeft*3 != total {
		wantRight++
	}
	// Whatever has too many gives to the center first, so that the center can hand on; what it has no room for goes in two steps.
	for left.len() != wantLeft || right.len() != wantRight {
		if d := left.len() - wantLeft; d > 0 {
			moveRight(left, center, min(d, center.cap()-center.len()))
		} else if d < 0 {
			moveLeft(left, center, min(-d, center.len()))
		}
		if d := right.len() - wantRight; d > 0 {
			moveLeft(center, right, min(d, center.cap()-center.len()))
		} else if d < 0 {
			moveRight(center, right, min(-d, center.len()))
		}
	}
}

// Update lets f change the value of key in place. ErrNotFound if there is none, and then nothing has changed. What the value
// refers to must have the same references after, as far as Inc and Dec are concerned.
func (t *Tree) Update(ctx context.Context, root Block, key uint64, f func(value []byte) error) (newRoot Block, err error) {
	if err := t.Lookup(ctx, root, key, make([]byte, t.Size)); err != nil {
		return 0, err
	}
	newRoot, n, err := t.shadow(ctx, root)
	for depth := 1; err == nil && !n.leaf(); depth++ {
		n, err = t.shadowChild(ctx, n, n.find(key), depth)
	}
	if err != nil {
		return 0, err
	}
	return newRoot, f(n.value(n.find(key)))
}

// Delete gives up the tree: all its nodes, and all its values, that no other tree has.
func (t *Tree) Delete(ctx context.Context, root Block) error {
	n, err := t.node(ctx, root)
	if err != nil {
		return err
	}
	return t.delete(ctx, root, n, 1)
}

func (t *Tree) delete(ctx context.Context, b Block, n node, depth int) error {
	shared, err := t.TM.Shared(ctx, b)
	if err != nil {
		return err
	}
	for i := 0; i < n.len() && !shared; i++ {
		if !n.leaf() {
			c, err := t.child(ctx, n, i, depth)
			if err == nil {
				err = t.delete(ctx, n.child(i), c, depth+1)
			}
			if err != nil {
				return err
			}
		} else if t.Dec != nil {
			if err := t.Dec(ctx, n.value(i)); err != nil {
				return err
			}
		}
	}
	return t.TM.Dec(ctx, b)
}
