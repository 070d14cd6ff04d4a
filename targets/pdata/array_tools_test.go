package pdata

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// cacheSuper is the superblock of a dm-cache's metadata, as far as this test needs it: where its roots are.
var cacheSuper = Kind{Name: "superblock", Xor: 9031977, At: 8, Module: "cache", Prefix: "check"}

const (
	cacheSpaceMap = 64
	cacheMappings = 192 // an array of a u64 a block of the cache: the origin's block << 16, and whether it is mapped
	cacheHints    = 200 // an array of a u32 each
	cacheDirty    = 284 // a bit each
	cacheBlocks   = 1500
)

// cacheXML is what cache_dump says of metadata in which every third block is mapped, to the block of the origin that origin says.
func cacheXML(origin func(int) int, dirty func(int) bool) string {
	var maps, hints strings.Builder
	for i := 0; i < cacheBlocks; i += 3 {
		fmt.Fprintf(&maps, "    <mapping cache_block=\"%d\" origin_block=\"%d\" dirty=\"%v\"/>\n", i, origin(i), dirty(i))
		fmt.Fprintf(&hints, "    <hint cache_block=\"%d\" data=\"AAAAAA==\"/>\n", i)
	}
	return fmt.Sprintf("<superblock uuid=\"\" block_size=\"128\" nr_cache_blocks=\"%d\" policy=\"smq\" hint_width=\"4\">\n  <mappings>\n%s  </mappings>\n"+
		"  <hints>\n%s  </hints>\n</superblock>\n", cacheBlocks, maps.String(), hints.String())
}

// Arrays and bits that cache_restore wrote are read and changed here, and cache_check and cache_dump read what becomes of them.
func TestArraysOfCacheTools(t *testing.T) {
	for _, tool := range []string{"cache_restore", "cache_check", "cache_dump"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("install the package thin-provisioning-tools: ", err)
		}
	}
	const blocks = 512
	dir := t.TempDir()
	xml, file := filepath.Join(dir, "xml"), filepath.Join(dir, "meta")
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	firstDirty := func(i int) bool { return i%2 == 0 }
	if err := os.WriteFile(xml, []byte(cacheXML(func(i int) int { return 7 * i }, firstDirty)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, blocks*BlockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	run("cache_restore", "-i", xml, "-o", file, "--metadata-version", "2")

	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, disk: mappertest.NewDisk("meta", blocks*BlockSectors)}
	s.disk.Poke(0, image)
	st := NewStore(s.disk, nil)
	super, err := st.ReadChecked(ctx, 0, &cacheSuper)
	s.must(err)
	s.tm, err = OpenTM(ctx, st, DecodeMapRoot(super[cacheSpaceMap:]))
	s.must(err)
	root := func(at int) Block { return blockOf(super[at:]) }
	mappings, dirty := &Array{TM: s.tm, Size: 8}, &Bitset{TM: s.tm}
	s.must(mappings.Walk(ctx, root(cacheMappings), cacheBlocks, func(i uint64, v []byte) error {
		want := uint64(0)
		if i%3 == 0 {
			want = 7*i<<16 | 1
		}
		if got := binary.LittleEndian.Uint64(v); got != want {
			return fmt.Errorf("cache block %d: %#x, want %#x", i, got, want)
		}
		return nil
	}))
	s.must(dirty.Walk(ctx, root(cacheDirty), cacheBlocks, func(i uint64, bit bool) error {
		if i%3 == 0 && bit != firstDirty(int(i)) { // the bits of others say nothing
			return fmt.Errorf("cache block %d: dirty %v", i, bit)
		}
		return nil
	}))

	put := func(at int, b Block, err error) {
		t.Helper()
		s.must(err)
		binary.LittleEndian.PutUint64(super[at:], uint64(b))
	}
	hints := &Array{TM: s.tm, Size: 4}
	s.must(hints.Delete(ctx, root(cacheHints)))
	made, err := hints.Empty(ctx)
	put(cacheHints, made, err)
	made, err = hints.Resize(ctx, made, 0, cacheBlocks, make([]byte, 4))
	put(cacheHints, made, err)
	for i := uint64(0); i < cacheBlocks; i += 3 {
		made, err := mappings.Set(ctx, root(cacheMappings), i, binary.LittleEndian.AppendUint64(nil, (cacheBlocks-i)<<16|1))
		put(cacheMappings, made, err)
		made, err = dirty.Set(ctx, root(cacheDirty), i, i%5 == 0)
		put(cacheDirty, made, err)
	}
	s.must(s.tm.PreCommit(ctx))
	s.tm.Meta().Root().Put(super[cacheSpaceMap:])
	s.must(st.WriteSuper(ctx, 0, &cacheSuper, super))
	if err := os.WriteFile(file, s.disk.Peek(0, mapper.Sector(blocks)*BlockSectors), 0o600); err != nil {
		t.Fatal(err)
	}
	run("cache_check", "-q", file)
	// cache_dump 0.9 does not look at the bits of this version of the metadata.
	want := cacheXML(func(i int) int { return cacheBlocks - i }, func(int) bool { return false })
	if got := run("cache_dump", file); got != want {
		t.Errorf("cache_dump says\n%s\nwant\n%s", got, want)
	}
}
