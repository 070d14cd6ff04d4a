package container

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"dmfs/mapper"
	"dmfs/targets/verity"
)

// A VerityOptions is what a verity image wants besides its superblock. Offsets are bytes.
type VerityOptions struct {
	Root       string // the root digest in hexadecimal digits
	HashOffset int64  // where the superblock is on the hash disk
	FEC        string // the disk with the parity, "" for none
	FECOffset  int64
	FECRoots   int
	Features   []string // of the target, as in "ignore_corruption"
}

// ReadVerity reads the superblock that is off bytes into the file hash.
func ReadVerity(hash string, off int64) (verity.Superblock, error) {
	d, err := openDisk(context.Background(), hash)
	if err != nil {
		return verity.Superblock{}, err
	}
	defer d.close() //nolint:errcheck // it was only read
	return readVerity(d, hash, off)
}

func readVerity(hash *disk, name string, off int64) (verity.Superblock, error) {
	b := make([]byte, verity.SuperblockSize)
	if _, err := hash.ReadAt(b, off); err != nil {
		return verity.Superblock{}, fmt.Errorf("%s: superblock at byte %d: %w", name, off, err)
	}
	s, err := verity.ParseSuperblock(b)
	if errors.Is(err, verity.ErrNoSuperblock) {
		err = fmt.Errorf("%w: is it elsewhere (--hash-offset), or was the tree made with --no-superblock?", err)
	}
	if err != nil {
		return s, fmt.Errorf("%s: byte %d: %w", name, off, err)
	}
	return s, nil
}

// planVerity makes the plan of a verity image.
func planVerity(data, hash *disk, name string, o VerityOptions) (*plan, error) {
	if o.HashOffset < 0 || o.HashOffset%verity.SuperblockSize != 0 {
		return nil, fmt.Errorf("--hash-offset %d: want bytes, a multiple of %d", o.HashOffset, verity.SuperblockSize)
	}
	root := strings.ToLower(o.Root)
	if digest, err := hex.DecodeString(root); err != nil || len(digest) == 0 {
		return nil, errors.New("--root-hash: want the root digest that `veritysetup format` printed, in hexadecimal digits; no disk knows it")
	}
	s, err := readVerity(hash, hash.name, o.HashOffset)
	if err != nil {
		return nil, err
	}
	spec := s.Spec(data.name, hash.name, o.HashOffset, root)
	if spec.Len > data.sectors() {
		return nil, failure(NotThere, "%s has %d sectors, and the superblock says %d: is it the disk of this tree, and whole?", data.name, data.sectors(), spec.Len)
	}
	features := o.Features
	if o.FEC != "" {
		parity, err := o.parity(s, hash)
		if err != nil {
			return nil, err
		}
		features = append(append([]string(nil), features...), parity...)
	}
	if len(features) > 0 {
		spec.Args = append(append(spec.Args, strconv.Itoa(len(features))), features...)
	}
	uuid := hex.EncodeToString(s.UUID[:])
	return &plan{Kind: "VERITY", UUID: dashed(uuid), Devices: []device{{
		Name: name, UUID: deviceUUID("VERITY", uuid, name), ReadOnly: true, Lines: []line{{Spec: spec}},
	}}}, nil
}

// dashed writes a UUID as people do.
func dashed(u string) string {
	return u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
}

// parity returns the options of error correction. It covers the data and the whole hash disk from the tree on, or up to the parity if that is
// on the same disk.
func (o *VerityOptions) parity(s verity.Superblock, hash *disk) ([]string, error) {
	block := int64(s.DataBlock)
	const leastRoots, mostRoots = 2, 24
	switch {
	case s.DataBlock != s.HashBlock:
		return nil, fmt.Errorf("--fec-device: error correction needs data and hash blocks of one size, not %d and %d bytes", s.DataBlock, s.HashBlock)
	case o.FECOffset < 0 || o.FECOffset%block != 0:
		return nil, fmt.Errorf("--fec-offset %d: want bytes, a multiple of the block of %d", o.FECOffset, block)
	case o.FECRoots < leastRoots || o.FECRoots > mostRoots:
		return nil, fmt.Errorf("--fec-roots %d: want a number from %d to %d", o.FECRoots, leastRoots, mostRoots)
	}
	name := o.FEC
	if !mapper.IsURI(name) {
		var err error
		if name, err = filepath.Abs(name); err != nil {
			return nil, err
		}
	}
	end := hash.size
	if name == hash.name {
		end = o.FECOffset
	}
	tree := (o.HashOffset + verity.SuperblockSize + block - 1) / block
	blocks := end/block - tree
	if blocks < 0 {
		return nil, fmt.Errorf("--fec-offset %d: the parity is where the tree is", o.FECOffset)
	}
	return []string{
		"use_fec_from_device", name, "fec_start", strconv.FormatInt(o.FECOffset/block, 10),
		"fec_blocks", strconv.FormatUint(s.Blocks+uint64(blocks), 10), "fec_roots", strconv.Itoa(o.FECRoots),
	}, nil
}
