package pdata

import (
	"context"
)

// Remove removes key. ErrNotFound if it is not there, and then nothing has changed.
//
// On the way down each node that is passed is filled from its neighbours, or merged with them, before the step below it is made, so that all
// but the root keep a third of their entries after the removal, and no step has to be undone.
func (t *Tree) Remove(ctx context.Context, root Block, key uint64) (newRoot Block, err error) {
	if err := t.Lookup(ctx, root, key, make([]byte, t.Size)); err != nil {
		return 0, err
	}
	newRoot, n, err := t.shadow(ctx, root)
	for depth := 1; err == nil && !n.leaf(); depth++ {
		if err = t.refill(ctx, n, key, depth); err != nil || n.leaf() {
			break
		}
		n, err = t.shadowChild(ctx, n, n.find(key), depth)
	}
	if err != nil {
		return 0, err
	}
	i := n.find(key)
	if !n.has(i, key) {
		return 0, corrupt(newRoot, "key %d lost while its tree was rebalanced", key)
	}
	if t.Dec != nil {
		if err := t.Dec(ctx, n.value(i)); err != nil {
			return 0, err
		}
	}
	n.deleteAt(i)
	return newRoot, nil
}

// refill sees to it that the node below n that key is in can lose an entry. A node with a single one below it takes its place.
func (t *Tree) refill(ctx context.Context, n node, key uint64, depth int) error {
	if n.len() == 1 {
		return t.collapse(ctx, n, depth)
	}
	i := n.find(key)
	switch {
	case i == 0:
		return t.balanceTwo(ctx, n, 0, depth)
	case i == n.len()-1:
		return t.balanceTwo(ctx, n, i-1, depth)
	}
	return t.balanceThree(ctx, n, i-1, depth)
}

// collapse puts the contents of the only node below n into n.
func (t *Tree) collapse(ctx context.Context, n node, depth int) error {
	b := n.child(0)
	c, err := t.child(ctx, n, 0, depth)
	if err != nil {
		return err
	}
	shared, err := t.TM.Shared(ctx, b)
	if err != nil {
		return err
	}
	if shared { // c stays, and n refers to the same as c
		if err := t.incAll(ctx, c); err != nil {
			return err
		}
	}
	copy(n, c)
	return t.TM.Dec(ctx, b)
}

// balanceTwo merges the nodes below entries i and i+1 of n, or gives them equal shares.
func (t *Tree) balanceTwo(ctx context.Context, n node, i, depth int) error {
	left, err := t.shadowChild(ctx, n, i, depth)
	if err != nil {
		return err
	}
	right, err := t.shadowChild(ctx, n, i+1, depth)
	if err != nil {
		return err
	}
	if err := alike(n.child(i+1), left, right); err != nil {
		return err
	}
	return t.mergeOrShare(ctx, n, i, left, right)
}

func (t *Tree) mergeOrShare(ctx context.Context, n node, i int, left, right node) error {
	total := left.len() + right.len()
	if total >= 2*(left.minLen()+1) {
		share(left, right, total/2)
		n.setKey(i+1, right.key(0))
		return nil
	}
	moveLeft(left, right, right.len())
	gone := n.child(i + 1)
	n.deleteAt(i + 1)
	return t.TM.Dec(ctx, gone)
}

// balanceThree does likewise for the nodes below entries i to i+2: three become two, or get equal shares.
func (t *Tree) balanceThree(ctx context.Context, n node, i, depth int) error {
	var c [3]node
	for j := range c {
		var err error
		if c[j], err = t.shadowChild(ctx, n, i+j, depth); err != nil {
			return err
		}
		if err := alike(n.child(i+j), c[0], c[j]); err != nil {
			return err
		}
	}
	left, center, right := c[0], c[1], c[2]
	if left.len()+center.len()+right.len() >= 4*left.minLen()+1 {
		shareInThree(left, center, right)
		n.setKey(i+1, center.key(0))
		n.setKey(i+2, right.key(0))
		return nil
	}
	moveLeft(left, center, min(left.cap()-left.len(), center.len()))
	moveRight(center, right, center.len())
	n.setKey(i+2, right.key(0))
	gone := n.child(i + 1)
	n.deleteAt(i + 1)
	if err := t.TM.Dec(ctx, gone); err != nil {
		return err
	}
	return t.mergeOrShare(ctx, n, i, left, right)
}
