package random

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// digests are the hash algorithms of trees, with the bytes of a digest.
var digests = []struct {
	name string
	size int
	make func() hash.Hash
}{{"sha1", sha1.Size, sha1.New}, {"sha256", sha256.Size, sha256.New}, {"sha512", sha512.Size, sha512.New}}

// A hashTree is one as verity lays it out: the topmost level first, each level padded to whole blocks.
type hashTree struct {
	version, block int // block in bytes
	digest         int // which of digests
	salt           []byte
}

// sum returns the digest of a block.
func (t *hashTree) sum(block []byte) []byte {
	h := digests[t.digest].make()
	if t.version == 1 {
		h.Write(t.salt)
	}
	h.Write(block)
	if t.version == 0 {
		h.Write(t.salt)
	}
	return h.Sum(nil)
}

// build returns the tree over data in blocks of n bytes, and its root digest.
func (t *hashTree) build(data []byte, n int) (tree, root []byte) {
	size := digests[t.digest].size
	fan := 1
	for fan*2*size <= t.block {
		fan *= 2
	}
	slot := size
	if t.version == 1 {
		slot = t.block / fan
	}
	for {
		var level []byte
		blocks := 0
		for block := range slices.Chunk(data, n) {
			if blocks%fan == 0 {
				level = append(level, make([]byte, t.block)...)
			}
			copy(level[blocks/fan*t.block+blocks%fan*slot:], t.sum(block))
			blocks++
		}
		if blocks == 1 {
			return tree, t.sum(data)
		}
		tree = append(level, tree...)
		data, n = level, t.block
	}
}

// makeVerity makes a verified device over a disk and its tree, of which up to one block is damaged, and a device on it. Nothing is written to either.
func (m *maker) makeVerity() {
	t := hashTree{version: m.IntN(2), block: 512 << m.IntN(4), digest: m.IntN(len(digests))}
	t.salt = make([]byte, m.IntN(3)*16)
	for i := range t.salt {
		t.salt[i] = byte(m.IntN(256))
	}
	sectors := m.grain // of a data block
	if m.grain > 1 {
		sectors >>= m.IntN(3)
	}
	size := m.some(600)
	m.disk("checked", size)
	data := mappertest.Stamped(0, mapper.Sector(size), uint64(m.serial))
	tree, root := t.build(data, sectors*mapper.SectorSize)
	start := m.IntN(3) // of the tree, in its blocks
	hashes := t.block / mapper.SectorSize
	m.add("disk tree %d", start*hashes+len(tree)/mapper.SectorSize+hashes)
	if len(tree) > 0 {
		m.add("put tree %d %x", start*hashes, tree)
	}
	options := []string{"", " 1 ignore_corruption", " 1 check_at_most_once", " 2 check_at_most_once ignore_zero_blocks"}[m.IntN(4)]
	switch m.IntN(3) {
	case 0:
		m.add("put checked %d %0*x", m.IntN(size), 2*mapper.SectorSize, 1)
		m.fails = true
	case 1:
		if len(tree) > 0 {
			m.add("put tree %d %0*x", start*hashes+m.IntN(len(tree)/mapper.SectorSize), 2*mapper.SectorSize, 1)
			m.fails = true
		}
	}
	salt := "-"
	if len(t.salt) > 0 {
		salt = fmt.Sprintf("%x", t.salt)
	}
	m.command("create sealed", true, []string{fmt.Sprintf("0 %d verity %d @checked@ @tree@ %d %d %d %d %s %x %s%s", size, t.version, sectors*mapper.SectorSize, t.block,
		size/sectors, start, digests[t.digest].name, root, salt, options)})
	m.devices = append(m.devices, &device{place: place{name: "sealed", size: size}, readOnly: true, below: true})
	from := m.upTo(size - m.grain)
	m.command("create within", true, []string{fmt.Sprintf("0 %d linear @sealed@ %d", size-from, from)})
	m.devices = append(m.devices, &device{place: place{name: "within", size: size - from}, readOnly: true})
}
