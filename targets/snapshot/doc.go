// Package snapshot keeps a disk as it was: what is overwritten on an origin is copied out first, and a snapshot shows the copies.
//
// # Use
//
// Backups of what goes on being written, trying a change that can be thrown away (lvcreate -s), many clones of one image that each
// write to a store of their own, and, with snapshot-merge, going back to the snapshot.
//
// # Table line
//
//	START LENGTH snapshot-origin ORIGIN
//	START LENGTH snapshot        ORIGIN STORE P|PO|N CHUNK [COUNT FEATURE*]
//	START LENGTH snapshot-merge  ORIGIN STORE P|PO CHUNK [COUNT FEATURE*]
//
// ORIGIN is the disk of which there are snapshots. It is written through a snapshot-origin only, or through a snapshot-merge; everything
// that names the same ORIGIN belongs together. A snapshot has the sectors of ORIGIN from START on, as in the kernel. STORE is the disk that
// takes what is copied out and what is written to the snapshot, in chunks of CHUNK sectors, a power of two that is whole blocks of both disks:
//
//	P   persistent: STORE says which chunks it has, and is opened again
//	PO  likewise; a snapshot that has filled it with its own writes can still be read
//	N   transient: it is forgotten when the table goes
//
// A persistent STORE whose first sector is zeroes is formatted, with chunks of 32 sectors if CHUNK is 0; any other keeps the size it has, whatever
// CHUNK says. The FEATUREs:
//
//	discard_zeroes_cow       take discards: whole chunks of STORE that they name become zeroes, and parts are discarded there
//	discard_passdown_origin  pass them on to ORIGIN, too, where no other snapshot keeps what they drop; with the former only
//
// Files of an image that are thrown away at the end:
//
//	[devices.try]
//	table = "0 20971520 snapshot base.img /tmp/changes.img N 8"
//
// A table may take the place of one with the same STORE, of a snapshot that is suspended: it takes the exceptions over. So a snapshot
// becomes one that merges. Merging changes the origin: make its other snapshots first; those of a configuration are made in the order of the file.
//
// # Status and messages
//
// USED/TOTAL METADATA, in sectors of STORE; or Invalid, when STORE was full or failed: the snapshot is lost, all its I/O fails and the
// origin goes on; Overflow, when a PO snapshot filled STORE: it is read only from then on; Merge failed. An event is raised when a snapshot becomes
// invalid. The status of a snapshot-origin is empty. There are no messages.
//
// # Limits
//
// Exceptions are kept in memory, about 30 bytes each. Writes of zeroes are written. An origin takes no discards. Copies are made in
// pieces of up to 1 MiB, merged in steps of up to 4 MiB, or a chunk.
//
// # Layout
//
// See persistent.go: a header, areas that list the exceptions in the order they were made, and chunks.
//
// # Ordering and crashes
//
// A write to the origin waits until every snapshot has what it overwrites: copied, flushed, and then listed, in a write that is durable when
// it returns. So a snapshot never shows what came later, whatever a power cut loses. Copies of requests under way are listed together. A
// write to a snapshot that makes an exception is durable with it. What is merged is flushed on the origin before it is struck from the list, from its
// end; a merge that was interrupted goes on. A fresh store is zeroed, then gets its header.
//
// # Differences from the kernel
//
//   - The kernel learns the chunk size of an origin's snapshots when the snapshot-origin is resumed. If one was added since, it keeps the
//     first chunk of what a write touches and loses the rest; here all is kept, without a suspend.
//   - A write that is under way when a snapshot begins has ended before it does.
//   - snapshot-merge of a transient store is refused; the kernel crashes.
//   - A store whose list names chunks that are not there, that are areas, or a chunk of the origin twice is refused; the kernel fails later, or shows
//     one of both.
//   - A store that is full to its last area stays valid; the kernel zeroes an area behind the end, and fails.
//   - A discard as long as a chunk that begins within one reaches what it names. The kernel zeroes STORE from there for the length of a chunk, and so
//     loses the beginning of another one.
//   - A flush reaches the origin, too.
//   - A read-only table with a file for STORE is refused: a store is written to in any case.
package snapshot
