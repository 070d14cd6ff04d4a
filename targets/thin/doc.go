// Package thin has thin-pool, a store of blocks, and thin, devices whose blocks are taken from the pool when they are first written.
//
// # Use
//
// Many devices share one data disk, each as large as it likes to be: space is used for what was written. A snapshot costs a few blocks of
// metadata, and snapshots can be taken of snapshots; both sides can be written. A device may begin as what another disk
// shows (an external origin): an image that stays as it is. LVM's thin volumes are such devices.
//
// # Table line
//
//	START LENGTH thin-pool METADATA DATA BLOCK LOW-WATER [COUNT FEATURE*]
//	START LENGTH thin POOL ID [ORIGIN]
//
// METADATA is the disk with the mappings. If its first 4 KiB are zeroes it is formatted when the pool is first resumed. 2 MiB are enough for 20,000 blocks;
// up to 16 GiB are used. DATA is the disk with the blocks, of which the first LENGTH sectors are used. BLOCK is the size of a block in sectors, a multiple
// of 128 up to 2097152: small blocks for many snapshots, large ones otherwise. When no more than LOW-WATER blocks are free an event is raised. Features:
//
//	skip_block_zeroing      a new block shows what it held before, where it is not written
//	ignore_discard          discards are refused
//	no_discard_passdown     discards free blocks, and are not passed on to DATA
//	read_only               mappings do not change; no messages
//	error_if_no_space       writes that need a block fail at once if there is none; else they wait
//	no_space_timeout:SECONDS  how long they wait before they fail, 60 if it is not given, 0 for ever
//
// POOL is the mapped device of the pool; ID, up to 16777215, is what a message has created. ORIGIN is shown where nothing
// was written; it may be shorter than the device, and must not change. A pool, and a volume of 1 TiB:
//
//	[devices.pool]
//	table = "0 209715200 thin-pool meta data 128 1024"
//
//	[devices.vol]
//	table = "0 2147483648 thin pool 0"
//
// # Status and messages
//
// Of a pool:
//
//	TRANSACTION USED/TOTAL USED/TOTAL HELD MODE DISCARDS WHEN-FULL CHECK LOW-WATER
//
// The user's transaction id; metadata blocks of 4 KiB, counting as used a reserve of a tenth, at most 16 MiB; data blocks; the block of the held metadata snapshot or -; rw, ro or
// out_of_data_space; discard_passdown, no_discard_passdown or ignore_discard; queue_if_no_space or error_if_no_space; needs_check or -;
// and how many free metadata blocks raise an event. A pool that gave up shows Fail. Of a thin device:
//
//	MAPPED-SECTORS HIGHEST-MAPPED-SECTOR
//
// with - for the highest if there is none, or Fail. Messages to a pool, each of which commits:
//
//	create_thin ID                an empty device
//	create_snap ID ORIGIN-ID      a snapshot; suspend the origin meanwhile, if it is in use
//	delete ID                     a device that is not in use; while a large one is looked through, others go on
//	set_transaction_id OLD NEW    if it is OLD
//	reserve_metadata_snap         keep the metadata as it is for tools: thin_dump -m, thin_delta -m
//	release_metadata_snap
//
// Events are raised for low water of data and of metadata, and when the mode changes.
//
// # Limits
//
// Reads and writes are cut at the borders of blocks. Discards free whole blocks and leave others as they are; write-zeroes frees whole blocks,
// unless their space is to be kept or there is an origin, and writes zeroes else. The preferred I/O is a block.
// Of the metadata, at most 180 MiB are kept in memory, and what has changed since the last commit.
//
// # Modes
//
// rw until something happens:
//
//   - No free data block: out_of_data_space. Mapped blocks can be written, others wait or fail. A larger table, or discards, end it.
//   - The reserve of the metadata is reached, or a change would take more than is left: ro, and only that change is lost. A larger METADATA, with the
//     table loaded anew, ends it.
//   - An error, or damage, while metadata change: the transaction is given up and what it did is lost, as in a power cut; ro and
//     needs_check. Run thin_check and thin_repair on METADATA, or clear the flag with thin_check --clear-needs-check-flag. If not even the last transaction can be
//     read: Fail.
//
// # Layout
//
// METADATA has the superblock in block 0 (format.go), and for the rest structures of package pdata: a tree of devices, in which each has a
// tree of mappings, block -> data block and time; a tree of details; counts of references for data blocks and for metadata blocks. A snapshot
// shares the tree of its origin. The time counts snapshots: a block that was mapped before the last snapshot of its device may be shared.
//
// # Ordering and crashes
//
// A write to a block that is not mapped, or shared:
//
//  1. a free data block is reserved, in memory
//  2. what the block shows is written there, zeroes or a copy, and the write itself; a write of a whole block is all there is
//  3. the mapping is changed
//  4. the next commit flushes DATA and then writes the transaction to METADATA (see pdata)
//
// A power cut before 4 is done leaves the old mapping, and the write is lost as any that was not flushed. No mapping ever leads
// to a block that has not been written, so no device shows what another wrote, unless skip_block_zeroing asks for it.
// A flush of a device that has changed commits; flushes that come during a commit are served together by the next. A write with FUA to a device with
// changes commits, too. Else commits happen every second. All changes are in the first sector of the superblock, so that it cannot be torn.
//
// Blocks that a discard or a deletion has freed are passed on to DATA after the commit, since until then a power cut brings them back, and can be used again after it.
//
// # Differences from the kernel
//
//   - Deleting a device, not only discarding blocks, passes discards on to DATA. They are passed on after the commit; the kernel does so before, and
//     a power cut may then lose a block that another device shared.
//   - The timeout of writes that wait for space is a feature of each pool; the kernel has one as a parameter of its module.
//   - A blank METADATA is refused if DATA holds the metadata of a pool whose data has room on METADATA: then they are swapped. The kernel formats it.
//   - A blank METADATA of less than 12 blocks is refused; the kernel formats some, and has no room for the next transaction.
//   - METADATA and DATA must not be one disk, whatever its names; the kernel compares the words. Nor may the block size of a pool in use be another; the kernel ignores it.
//   - Write-zeroes frees blocks; the kernel's thin writes zeroes, which takes blocks.
//   - A node of a tree that has one child in common with another tree is merged with it without losing count of what is below; the kernel's count is one too low then.
//   - A read-only pool whose table or metadata disk is larger does not grow; the kernel tries to, fails and asks for a check.
//   - A change for which there are not enough metadata blocks is taken back alone; the kernel gives up the whole transaction, and the pool needs a check.
//   - The log says what to run when the metadata is full or needs a check.
//   - If the table of a pool in use is replaced by another target (remove force), its devices fail; in the kernel they wait for ever.
package thin
