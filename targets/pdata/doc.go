// Package pdata keeps data structures on a disk of 4 KiB blocks, as the kernel's persistent-data library does, in its format: B-trees,
// arrays, sets of bits, and counts of references, changed by transactions that happen as a whole or not at all. The metadata of thin pools are made of it,
// and those of caches, eras and clones are.
//
// # Transactions
//
// A block that the last transaction wrote is never written again as long as that transaction is the one on the disk. Who wants to change it
// gets a copy in a free block, its shadow, and changes that; so the block that refers to it changes, and is copied, and so on up to the root of the
// tree. Roots are in the superblock. A commit is:
//
//  1. the space maps, which are such structures themselves, are brought up to date
//  2. all blocks of the transaction are written, in any order: nothing durable refers to them
//  3. flush
//  4. the superblock is written with FUA, in place: what it refers to is durable by then
//
// A crash before step 4 leaves the last transaction, after it the new one. A superblock should keep what changes in its first sector, as that of thin
// does: then a disk that tears a write between sectors does no harm.
//
// # Counting
//
// A space map counts the references to each block: two bits in a bitmap, and a tree for what does not fit into them. A block is free for use if
// its count is zero, and was zero in the last transaction. Trees share nodes: taking a snapshot of a tree counts one more reference to
// its root. A node with several references is copied before it is changed, and what it refers to then has one more (Tree.Inc).
//
// The space map of the metadata counts its own blocks, see MetaMap.
//
// # Who may do what
//
// One changes at a time, and while he does nobody reads. Any number may read together. While a commit is written, others may read. The locks are the
// user's; targets/thin has a cell.Lock for it. When a change fails half way, the transaction is to be given up (TM.Abort).
//
// # Damage
//
// Each block has a checksum, different for each kind of block, and its own number; a node its bounds. Nodes are checked against
// the keys of the node above, so that a tree with a loop, or a foreign node, comes to an end with an error. What is found is a *CorruptError.
//
// # Source
//
// The format is that of Linux 6.1 (Documentation/admin-guide/device-mapper/persistent-data.rst says the ideas, the numbers are those of
// metadata that the kernel wrote). thin_check and thin_dump of thin-provisioning-tools read what this writes, and this what thin_restore writes
// (tests in targets/thin); arrays and sets of bits go to and fro between this and the tools for caches.
package pdata
