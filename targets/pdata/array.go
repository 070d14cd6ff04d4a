package pdata

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// arrayHeader is the length of the header of an array block, in bytes: checksum, room, entries, size of an entry, number of the block.
const arrayHeader = 24

// ArrayKind is a block of an array.
var ArrayKind = Kind{Name: "array", Xor: 595846735, At: 16, Check: checkArray, Module: "array", Prefix: "array_block_check"}

// checkArray checks that the entries lie within the block.
func checkArray(data []byte) error {
	a := arrayBlock(data)
	switch room, size := uint64(a.u32(4)), uint64(a.u32(12)); {
	case size == 0 || room > (BlockSize-arrayHeader)/size:
		return fmt.Errorf("room for %d values of %d bytes", room, size)
	case uint64(a.u32(8)) > room:
		return fmt.Errorf("%d values, room for %d", a.u32(8), room)
	}
	return nil
}

// An Array is a kind of array: how long its values are. The arrays themselves are known by the blocks of their roots, which changes return anew,
// and by how many values they have, which their user keeps. Arrays may share blocks, as trees do.
//
// The values lie in blocks, of which only the last is not full; a tree has the blocks by their numbers in the array.
type Array struct {
	TM   *TM
	Size int // of a value, in bytes, from 1 to BlockSize less a header
}

// An arrayBlock is the contents of a block of an array.
type arrayBlock []byte

func (a arrayBlock) u32(at int) uint32     { return binary.LittleEndian.Uint32(a[at:]) }
func (a arrayBlock) put32(at int, v int)   { binary.LittleEndian.PutUint32(a[at:], uint32(v)) }
func (a arrayBlock) len() int              { return int(a.u32(8)) }
func (a arrayBlock) value(i, n int) []byte { return a[arrayHeader+i*n : arrayHeader+(i+1)*n] }

// PerBlock is how many values a block has room for.
func (a *Array) PerBlock() uint64 { return uint64((BlockSize - arrayHeader) / a.Size) }

// tree is the tree of an array's blocks. A block that is shared with the tree's copy has one more reference.
func (a *Array) tree() *Tree {
	return &Tree{
		TM: a.TM, Size: 8,
		Inc: func(ctx context.Context, v []byte) error { return a.TM.Inc(ctx, blockOf(v)) },
		Dec: func(ctx context.Context, v []byte) error { return a.TM.Dec(ctx, blockOf(v)) },
	}
}

func blockOf(v []byte) Block { return Block(binary.LittleEndian.Uint64(v)) }

// Empty makes an array without values.
func (a *Array) Empty(ctx context.Context) (root Block, err error) { return a.tree().Empty(ctx) }

// Delete gives up the array.
func (a *Array) Delete(ctx context.Context, root Block) error { return a.tree().Delete(ctx, root) }

// OutOfBounds is the error of an index that an array does not have.
type OutOfBounds struct{ Index uint64 }

// Error says which value is not there.
func (e *OutOfBounds) Error() string { return fmt.Sprintf("the array has no value %d", e.Index) }

// Unwrap returns ENODATA, as the kernel's errno for it.
func (e *OutOfBounds) Unwrap() error { return unix.ENODATA }

// fits says whether block b can belong to a.
func (a *Array) fits(b Block, data arrayBlock) error {
	if int(data.u32(12)) != a.Size {
		return &CorruptError{b, ArrayKind.Name, fmt.Sprintf("values of %d bytes in an array of %d", data.u32(12), a.Size), unix.EILSEQ}
	}
	return nil
}

// Get copies value i into v, which is a.Size long.
func (a *Array) Get(ctx context.Context, root Block, i uint64, v []byte) error {
	var at [8]byte
	if err := a.tree().Lookup(ctx, root, i/a.PerBlock(), at[:]); err != nil {
		return a.missing(err, i)
	}
	data, err := a.read(ctx, blockOf(at[:]))
	if err != nil {
		return err
	}
	if n := int(i % a.PerBlock()); n < data.len() {
		copy(v, data.value(n, a.Size))
		return nil
	}
	return &OutOfBounds{i}
}

// missing makes of a block that is not there a value that is not there.
func (a *Array) missing(err error, i uint64) error {
	if err == ErrNotFound { //nolint:errorlint // Lookup returns it bare
		return &OutOfBounds{i}
	}
	return err
}

func (a *Array) read(ctx context.Context, b Block) (arrayBlock, error) {
	data, err := a.TM.Read(ctx, b, &ArrayKind)
	if err != nil {
		return nil, err
	}
	return data, a.fits(b, data)
}

// Update lets f change value i in place. f must not keep it.
func (a *Array) Update(ctx context.Context, root Block, i uint64, f func(value []byte)) (newRoot Block, err error) {
	err = a.Get(ctx, root, i, make([]byte, a.Size)) // so that nothing changes if there is none
	if err != nil {
		return 0, err
	}
	return a.change(ctx, root, i/a.PerBlock(), func(data arrayBlock) { f(data.value(int(i%a.PerBlock()), a.Size)) })
}

// Set gives value i the bytes of v, which is a.Size long.
func (a *Array) Set(ctx context.Context, root Block, i uint64, v []byte) (newRoot Block, err error) {
	return a.Update(ctx, root, i, func(value []byte) { copy(value, v) })
}

// change lets f change a block of the array.
func (a *Array) change(ctx context.Context, root Block, key uint64, f func(arrayBlock)) (newRoot Block, err error) {
	// The path is copied before the block is: then a path that was shared has counted one more reference to the block, and the block is copied, too.
	return a.tree().Update(ctx, root, key, func(value []byte) error {
		b := blockOf(value)
		if _, err := a.read(ctx, b); err != nil {
			return err
		}
		at, data, _, err := a.TM.Shadow(ctx, b, &ArrayKind)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(value, uint64(at))
		f(data)
		return nil
	})
}

// Resize makes an array of from values one of to. New ones get the bytes of v, which is a.Size long.
func (a *Array) Resize(ctx context.Context, root Block, from, to uint64, v []byte) (newRoot Block, err error) {
	newRoot = root
	if to < from {
		return a.shrink(ctx, root, from, to)
	}
	per := a.PerBlock()
	fill := func(data arrayBlock, n uint64) {
		for i := uint64(data.len()); i < n; i++ {
			copy(data.value(int(i), a.Size), v)
		}
		data.put32(8, int(n))
	}
	if from%per > 0 && to > from {
		n := min(per, to-from/per*per)
		if newRoot, err = a.change(ctx, newRoot, from/per, func(data arrayBlock) { fill(data, n) }); err != nil {
			return 0, err
		}
	}
	for key := (from + per - 1) / per; key*per < to; key++ {
		b, data, err := a.TM.New(ctx, &ArrayKind)
		if err != nil {
			return 0, err
		}
		block := arrayBlock(data)
		block.put32(4, int(per))
		block.put32(12, a.Size)
		fill(block, min(per, to-key*per))
		if newRoot, _, err = a.tree().Insert(ctx, newRoot, key, blockValue(b)); err != nil {
			return 0, err
		}
		if err := a.TM.Relieve(ctx); err != nil {
			return 0, err
		}
	}
	return newRoot, nil
}

// shrink gives up the values from to on.
func (a *Array) shrink(ctx context.Context, root Block, from, to uint64) (newRoot Block, err error) {
	newRoot, per := root, a.PerBlock()
	for key := (from + per - 1) / per; key > (to+per-1)/per; key-- {
		if newRoot, err = a.tree().Remove(ctx, newRoot, key-1); err != nil {
			return 0, err
		}
	}
	if to%per == 0 {
		return newRoot, nil
	}
	return a.change(ctx, newRoot, to/per, func(data arrayBlock) { data.put32(8, int(min(uint64(data.len()), to%per))) })
}

// Walk calls f for each of the first n values, in order, until it returns an error. f must not keep value. An array with fewer is damaged.
func (a *Array) Walk(ctx context.Context, root Block, n uint64, f func(i uint64, value []byte) error) error {
	per, next := a.PerBlock(), uint64(0)
	err := a.tree().Walk(ctx, root, 0, math.MaxUint64, func(key uint64, v []byte) error {
		if key*per >= n || key != next/per {
			return nil // beyond, or past a gap, which shows below
		}
		data, err := a.read(ctx, blockOf(v))
		if err != nil {
			return err
		}
		for i := 0; i < data.len() && next < n; i++ {
			if err := f(next, data.value(i, a.Size)); err != nil {
				return err
			}
			next++
		}
		return nil
	})
	if err == nil && next < n {
		return &OutOfBounds{next}
	}
	return err
}
