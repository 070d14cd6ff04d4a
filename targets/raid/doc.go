// Package raid keeps data on several disks so that it survives the loss of some, or stripes it: the levels 0, 1, 4, 5, 6 and 10 of
// Linux's md, as dm-raid offers them and LVM uses them.
//
// # Use
//
// raid1 and raid10 keep copies, raid4 and raid5 one disk's worth of parity, raid6 two. What is lost is read from the rest, written on
// without it, and made anew on a disk that takes its place. raid0 only spreads.
//
// # Table line
//
//	START LENGTH raid TYPE PARAMETERS CHUNK [OPTIONS] MEMBERS (METADATA DATA)*
//
// PARAMETERS is the number of words from CHUNK to the last option. CHUNK is in sectors, a power of two from 8 on, of raid1 0. Each
// member is a pair of disks, where METADATA may be - if all are, and both are - for a member that is not there. A metadata disk holds a superblock and
// a bitmap: 4096 bytes and 4096 more for each 30720 regions. Two copies, with metadata:
//
//	[devices.safe]
//	table = "0 409600 raid raid1 3 0 region_size 2048 2 meta0 data0 meta1 data1"
//
// TYPE is raid0, raid1, raid4, raid5_ls, raid5_rs, raid5_la, raid5_ra, raid5_n, raid6_zr, raid6_nr, raid6_nc, raid6_ls_6, raid6_rs_6,
// raid6_la_6, raid6_ra_6, raid6_n_6, or raid10. The options:
//
//	sync, nosync              resync all; take a new array as in sync. raid6 has no nosync
//	rebuild N                 member N is blank: fill it
//	region_size SECTORS       of the bitmap, a power of two, at least CHUNK and LENGTH / 2097152; 8192 if not given, or more if LENGTH asks for it
//	daemon_sleep MS           between looks for bits of the bitmap to clear; 5000 if not given
//	min_recovery_rate KIB     a second and member that a resync does however busy the array is; 1000 if not given
//	max_recovery_rate KIB     a second and member that it never exceeds
//	write_mostly N            of raid1: member N is read last
//	max_write_behind SECTORS  of raid1: see Differences
//	stripe_cache ENTRIES      of parity: bounds what is in memory, 4096 bytes of each member for each; 256 if not given
//	raid10_copies N           2 if not given
//	raid10_format WORD        near, far or offset
//	raid10_use_near_sets      far copies rotate among all members
//	data_offset SECTORS       room on each member for a reshape: see Reshape. A multiple of 8, at least 32
//	delta_disks N             of parity and raid10: adds N members; of parity, removes them if it is less than 0. Of raid1: the last N are new
//	journal_dev DISK          of parity: a journal that closes the write hole, of 4 MiB at least. It must stay with the array: see Journal
//	journal_mode WORD         writethrough, or writeback; after journal_dev
//
// An array of Linux software RAID has a target of its own, md, to which its superblocks say all else; `dmfs open` makes the table:
//
//	START LENGTH md [force] MEMBERS DISK*
//
// DISKs are its members, whole, in any order. force writes to an array that lacks members or was not closed, and leaves out members that failed
// or have missed changes. Superblocks and bitmaps are kept as md does: an array says that it is not clean before it is written to.
// Of a raid10 with near copies the last row of chunks may be full in part, as of two copies on five members, and regions of a bitmap may be smaller
// than chunks; tables of raid cannot say either.
//
// # Takeover
//
// A table with another level over the members of an array makes it an array of that level, if what the members hold is the same in both: the parity
// is at its place or on a member to rebuild. No data moves, and nothing is written but superblocks, at the first resume.
//
//	raid0 of one            raid1 or raid5, with rebuild of the other members
//	raid0                   raid5_n, raid6_n_6, raid10 of a multiple of its members, with rebuild of the others
//	raid1                   raid1 with other members, raid10; of two, raid5 and raid4; of one, raid0
//	raid5_n                 raid0 without the last member; raid6_n_6 with one more
//	raid5_la, ls, ra, rs    raid6_la_6 and so on, with one more
//	raid4, raid5 of two     raid1, raid10
//	raid6_n_6               raid5_n and raid0 without the last members
//	raid6_la_6 and so on    raid5_la and so on, without the last member
//	raid10 near             raid0 of one member of each group; raid1 if there is one group; of two members, raid5 and raid4
//
// Members are in the order of the array. raid1 may change it, and raid0 and raid10 when they become each other.
//
// # Reshape
//
// An array with parity can be given other chunks, another layout (raid4 is a layout of raid5), more members or fewer, with its level and while it is
// used; a raid10 other chunks, offset for near or near for offset, and more members. Data moves on the members by data_offset sectors, which must be a chunk
// at least, the larger of both, with offset a chunk for each copy. If near copies do not divide the members of a raid10, or neither length is a multiple of
// the other, it takes both and more: a table with less is refused, and told how much. That many sectors of each member must be free: at the end if data is
// at the beginning, and the other way round. Three tables do it:
//
//  1. One that asks: with the new type and chunk, or delta_disks, and data_offset unless it was given before. The members are all that there are, with
//     those to be added and those to be removed last, and the length is for all of them. Superblocks tell what is to be done; nothing moves.
//  2. The same without delta_disks, which moves the data. It may be interrupted, and loaded again.
//  3. One for what the array has become, with its length. Until then members that were added give no more sectors, or those of a removed member
//     too many; those that are no longer there fail.
//
// The number of copies of a raid10 stays, and far copies cannot be moved. A layout that is given together with delta_disks is ignored.
//
// A table may name them before it has them added, each with rebuild, as LVM does: the array stays as it is, and what the table is longer by fails.
// To add members the data must be at data_offset before, with room in front. That is for the segments below to arrange, as LVM does: lay room that
// is at the end before the rest. A table that asks is refused without enough room, while members are missing or not in sync, and if chunks do not fit. Without data_offset one
// that has other chunks or another layout does not ask: the array stays as it is.
//
// A raid1 gets members by delta_disks, too: they are filled when the next table is loaded, without it. It gives members up to a table without them;
// delta_disks below 0 changes nothing, as in the kernel.
//
// # Length
//
// A table of another length, and else what the array is, makes it larger or smaller, whether the members grew before or had room. What it holds stays.
// What it grew by is resynced from the old end on, with the action repair, and goes on there after a crash; with nosync it is taken as in sync. The metadata
// disks must have room for the bitmap. What a crash left in a journal of the part that goes is dropped. Members that are to be rebuilt are filled up to the new
// end. Refused while the array is being reshaped, for arrays with parity that lack all they can lack, and for raid10 with far copies, which would lie elsewhere.
//
// # Journal
//
// With a journal what is written to an array with parity is in it before the members get it, so that a crash leaves no row half written: even when a member is lost
// at the same time, what was flushed or not written to stays what it was. There is no bitmap then, and nothing to resync after a crash. With writethrough
// a write is complete when the members have it, with writeback when the journal has it; the members get it later, and reads see it at once. Both are durable
// then, and a flush has nothing to do.
//
//	[devices.safe]
//	table = "0 409600 raid raid5_ls 5 128 journal_dev log journal_mode writeback 3 meta0 data0 meta1 data1 meta2 data2"
//
// After a crash the next table must have the journal: without it, what only that holds is lost. A table that is suspended or removed leaves an empty
// one. When the journal fails, writes fail and reads go on; what was in memory only gets to the members, and the next table may do without journal_dev. While members are missing or being filled writeback works as writethrough, and a table that asks for it is refused.
//
// When more members cannot be written to than the array can do without, what the journal holds of their rows stays there, and is what reads see. It is written
// as soon as the members take it, in this table or the next; until then writes to these rows fail, and all writes once the journal is full. Other rows are
// not held up, and a suspend does not wait.
//
// A journal that failed, or was left out of a table after a crash, still holds what it held, and that is older than what was written without it. The
// next resume with it is refused then, also if it was another journal that the array had since, the metadata are new, or it was the kernel
// that used the array without it. Leave it out, or write zeroes to its first 4096 bytes to do without what it holds. Nothing tells that of
// an array without metadata devices; see Differences for the kernel's.
//
// # Status and messages
//
//	TYPE MEMBERS LETTERS DONE/TOTAL ACTION MISMATCHES OFFSET JOURNAL
//
// LETTERS has one for each member: A, a while it is not in sync, D after it failed, - if it is not there. ACTION is idle, frozen,
// resync (redundancy is made to agree), recover (a member is filled), check, repair or
// reshape, when DONE is what was moved. MISMATCHES is how many sectors the last check found
// wrong. JOURNAL is A with writethrough, a with writeback, D after it failed, - if there is none. The messages check and repair look at all redundancy, repair makes it agree; idle stops that, frozen stops everything; resync and
// recover try again what failed. The end of each, and a failure of a member, is an event.
//
// # Limits
//
// Requests are cut at chunks, of parity at rows of chunks. A row that is written as a whole is written without reading; of a part, what is cheaper is
// read: what is overwritten and parity, or the rest of the row. At most 128 KiB of each member are in memory for one row. Discards go to the members of
// raid0, raid1 and raid10, if all disks support them. At most 253 members, 202 with a journal. With writeback as many pages of 4096 bytes of each
// chunk are in memory as stripe_cache says, or a quarter of the journal; while the journal is full, writes wait.
//
// # Layout
//
// Where sectors lie is md's, member by member and byte by byte (layout.go). P is the sum of a row, Q the sum of each chunk times a power of {02} over
// the polynomial 0x11d. The superblock and the bitmap are described in format.go, the journal in journalformat.go.
//
// # Ordering and crashes
//
//  1. Before data of a region is written its bit in the bitmap is durable on all members.
//  2. Copies, or data and parity, are written together. A crash may leave some of them.
//  3. Bits are cleared after nobody wrote to the region for a while, and after a flush of all data. So at the next start the set bits tell
//     what may differ, and a resync makes it agree: copies become that of the first member, parity that of the data.
//  4. That a member failed is durable on the others before a write is acknowledged that it lacks.
//  5. The superblocks of a takeover are written twice before the first write (takeover.go).
//  6. A reshape overwrites nothing that its position in the superblocks does not cover (reshape.go).
//  7. How far a resync or rebuild is, is written after a flush of what it wrote.
//  8. With a journal, data and parity are durable there before the members get either (journal.go, cache.go), and are replayed before
//     the array is used (replay.go).
//
// While a member of a parity array is missing, a crash amid a write may damage the chunk of that member in the same row, as in md without
// a journal: the write hole. Without metadata devices nothing is remembered: after a crash a resync has to be asked for, with sync or the message
// repair, and a member that failed must be left out of the next table by hand.
//
// A member fails when it cannot be written to, or cannot be read and not be written over with what was recovered. One that the array cannot do without stays, and what it
// cannot do fails. A suspend and resume takes failed members back whose superblock can be read; they get what the bitmap says they
// missed. So do members that come back in a new table.
//
// # Differences from the kernel
//
//   - The log in a journal begins anew in the first block each time. The kernel's goes around in a ring of which dm-raid does not remember the beginning, so that the
//     kernel replays at each start what was written after the first one, over all that was written since, and loses what it logged once it went
//     around, or discarded the first block, as it does on disks that can. Such journals are replayed from their last start here, and searched for
//     the beginning of the ring, also behind what was discarded. After several starts by the kernel
//     blocks of an earlier one cannot be told from those of the last if that wrote less: before dmfs opens such an array, remove it in the kernel and write
//     zeroes to the first 4096 bytes of the journal, or to all of it.
//   - A bitmap counts as it is at the resume. The kernel goes by that of the time when the table was loaded: a member that comes back with it may lack what was
//     written in between, and read as it was.
//   - A journal is replayed at the first resume; the kernel does so when a table is loaded, also below one that is in use.
//   - The write that finds out that the journal failed fails; the kernel's is carried out, and may be undone by what the journal still holds of the same stripe.
//   - Members of an array with a journal can be rebuilt, and an interrupted resync goes on. The kernel refuses both.
//   - A read-only table with a journal that may hold something is refused.
//   - A journal that the array was used without is refused (stale.go). The kernel replays it, over newer data: write zeroes to it before the kernel gets it. Of a log
//     that the kernel wrote only the bitmap tells, and of one of another array only sectors that are not there. Ours have a tag that superblocks have,
//     too, where the kernel has zeroes, which it does not look at.
//   - A table that asks for a reshape with too little room is refused, and for other members with none. The kernel keeps the old geometry, without a word, or starts
//     what a crash would destroy.
//   - So is one that asks for far copies, which the kernel does not heed, or for another number of copies on more members: the kernel reads what the members hold as if it
//     were in that layout.
//   - What a raid10 gets with new members is zeroes; the kernel leaves its copies different.
//   - The position of a reshape is made durable after each step, at most 512 KiB of each member, before anybody writes to what it moved.
//   - While members are removed the table's length stays: what is behind the end fails. The kernel makes the device smaller, and larger again only by the
//     third table after members were added; here new sectors are there when the reshape is done.
//   - Of a raid10 that grows all that is new is synced; the kernel counts members' sectors as the array's, and leaves the rest different. With nosync, or when one copy
//     is left, the status shows the new length and superblocks tell it; the kernel shows and keeps the old one. A member that was away while the array grew is filled.
//   - A table that makes a far raid10 longer is refused; the kernel moves the far copies' places without moving them.
//   - A takeover after which the array would read as something else, or whose parity would not be parity, is refused. The kernel lets pass
//     raid6 of any layout as raid5_la, ls, ra and rs, raid5_n as raid6_ls_6, raid10 far of two as raid1, other sizes, and raid0 over anything.
//   - A raid0 counts events on, so that a member that was left out cannot come back with old parity; the kernel's says 1, always.
//   - After a crash the regions whose bits are set are resynced. The kernel does so only if it was resyncing already, and so leaves copies different.
//   - A new array of which all parity and nothing else is to be rebuilt is in sync when that is done; the kernel resyncs it once more.
//   - Members whose events, geometry or position do not fit are refused, each by name; the kernel takes members with old events as they are.
//   - An array that lost more members than it can keeps serving what the others hold, and does not record the last failure. With a journal the kernel fails all I/O then;
//     here what was half written stays readable (owed.go).
//   - max_write_behind is only a bound: writes wait for all members.
//   - A LENGTH that does not give each member whole chunks is refused; the kernel waits forever for I/O behind the last whole one.
//     So is that of a raid10 with far or offset copies of which a member does not get a multiple of its copies in chunks; the kernel makes the device shorter than its table.
//   - A disk may be named once only, and a CHUNK that is not a multiple of a disk's logical block is refused.
//   - A read-only table writes nothing, not even metadata, and does not resync.
package raid
