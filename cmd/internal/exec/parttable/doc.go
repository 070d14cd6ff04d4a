// Package parttable reads the partition tables of disks, MBR and GPT, as the kernel does when it looks for partitions: what the kernel makes
// a partition of is one here, with the same number, and what it passes over is passed over. It writes nothing.
//
// Which table counts
//
//   - A sector 0 with the signature 55 AA and an entry of type EE that begins at block 1 says that the disk has a GPT. The one at block 1 counts, if the sums
//     of its header and of its entries are right. That at the end of the disk is for tools to repair it from; the kernel takes it only if it
//     is told to on its command line, and so it does not count here.
//   - Otherwise, if no entry is of type EE, the entries of sector 0 are primary partitions 1 to 4, and those in extended ones are
//     logical partitions from 5 on.
//
// How it was checked: TestPartitionTables in tests/kernel has Linux 6.1 and a session read the same images, most of them damaged. There is one difference: a
// partition of a GPT that ends before it begins the kernel makes, with a length that is below zero; here it is passed over.
//
// A table is hostile: whatever it says, at most [MaxPartitions] partitions come of it, at most 4 MiB of entries are read, a chain of extended
// partitions ends after 100 links without a partition, and no partition reaches beyond the disk.
package parttable
