package raid

import (
	"context"
	"math/rand/v2"

	"dmfs/mapper"
)

// A journal that the array was used without holds what is older than the members: its log must never be replayed. There are two ways to tell, and neither
// mistakes a crash for it, for both are durable before the first write of a table:
//
//   - Log and superblocks carry the same tag, a random number that is drawn when an array gets a journal. Another journal has another, a table without
//     one writes superblocks without, and so does the kernel, whose tables without a journal write the bitmap, too, before anything else.
//   - With a journal there is no bitmap. So a bitmap that is as new as the superblocks was written by a table without one, of ours or of the kernel. An
//     array that gets a journal counts two events, which no bitmap has.
//
// A log that the kernel wrote has no tag, nor have its superblocks: of it only the bitmap tells. Where the kernel went on with our log it begins another
// behind it, which is how its superblocks without a tag are told from those of a table without a journal. Members without metadata tell nothing.

// tagMagic is the first half of a tag in a block, which is where the kernel has zeroes that it does not look at.
const tagMagic = "dmfs log"

const (
	tagSize = 16                     // bytes of a tag, with its magic
	superAt = mapper.SectorSize - 16 // of the tag in a superblock
	metaAt  = journalBlock - tagSize // of the tag in a meta block
)

// putTag writes a tag to b, of tagSize bytes. 0 is none.
func putTag(b []byte, tag uint64) {
	if tag != 0 {
		copy(b, tagMagic)
		le.PutUint64(b[len(tagMagic):], tag)
	}
}

// tagIn returns the tag in b, 0 if there is none.
func tagIn(b []byte) uint64 {
	if string(b[:len(tagMagic)]) != tagMagic {
		return 0
	}
	return le.Uint64(b[len(tagMagic):])
}

// newTag draws a tag.
func newTag() uint64 { return rand.Uint64() | 1 }

// A lineage is what the members know of the journals that the array had. It is decided when they are read.
type lineage struct {
	blank   bool          // they know of no array
	without bool          // the array was last used without a journal
	dev     mapper.Sector // of each member that the array used
}

// knowJournal takes from the members what tells whether a journal is the one that the array was last used with.
func (t *target) knowJournal(ctx context.Context, found []loaded) error {
	freshest := -1
	for i, l := range found {
		if l.ok && !l.fresh && (freshest < 0 || l.super.events > found[freshest].super.events) {
			freshest = i
		}
	}
	if t.lineage.blank = freshest < 0; t.lineage.blank {
		return nil
	}
	ref := &found[freshest].super
	if t.cfg.journal == "" {
		t.stale = t.stale || ref.log != 0
		return nil
	}
	t.super.log, t.lineage.dev = ref.log, ref.dev
	t.super.events = ref.events // of members that are to be resynced, too: the bitmap on them must stay behind
	m := &t.members[freshest]
	if m.meta.Sectors() < mapper.SectorsOf(superBlock+bitmapPageSize) {
		return nil
	}
	head, err := m.bitmapHead(ctx)
	if err != nil {
		return err
	}
	defer head.Free()
	s, err := decodeBitmap(head.Data)
	t.lineage.without = err == nil && (s.counts(t.geo.syncSectors(), ref.events) || s.counts(t.syncBefore(ref), ref.events))
	return nil
}

// checkStale refuses a log that the array was used without.
func (j *journal) checkStale(c *logChain) error {
	t := j.t
	var since string
	switch known := t.super.log; {
	case !c.says || !t.hasMeta():
		return nil
	case t.lineage.blank:
		since = "the array is new"
	case t.lineage.without:
		since = "the array was used without a journal since"
	case known == c.tag, known == 0 && c.replayed:
		return nil
	case known == 0:
		since = "the array was used without it since"
	default:
		since = "the array had another journal since"
	}
	return mapper.BadArg("Failed to run raid array",
		"journal %s holds writes that would overwrite newer data: %s. Leave journal_dev out, or write zeroes to %s of the journal to do without what is in it",
		mapper.DiskName(j.disk), since, j.marked())
}

// tagFor returns the tag for a log that begins anew behind c.
func (j *journal) tagFor(c *logChain) uint64 {
	switch known := j.t.super.log; {
	case !j.t.hasMeta():
		return 0
	case known != 0 && known == c.tag:
		return known
	}
	return newTag()
}

// adopts reports whether the superblocks do not say yet that the journal is the array's.
func (t *target) adopts() bool {
	return t.journal != nil && t.hasMeta() && !t.readOnly && (t.lineage.without || t.lineage.blank || t.super.log != t.journal.tag)
}

// keepNeeds makes superblocks tell what the bitmap of a table without a journal says is to be resynced: with a journal nobody looks at it again.
func (t *target) keepNeeds() {
	if t.journal == nil || !t.lineage.without || t.lost() > 0 {
		return
	}
	if from, _, any := t.bitmap.nextNeed(0); any {
		t.mu.Lock()
		t.syncedTo = min(t.syncedTo, from)
		t.mu.Unlock()
	}
}
