// Package flakey is linear that is up for some seconds and down for some, again and again; what fails, vanishes or is damaged while it is
// down is for features to say.
//
// # Use
//
// Disks that come and go, lose writes or damage data, for tests of what stands on them. With 0 seconds up it is always down.
//
// # Table line
//
//	START LENGTH flakey DISK OFFSET UP DOWN [COUNT FEATURE*]
//
// UP and DOWN are seconds; the time begins when the table is loaded. COUNT is the number of words that follow. Without features every request
// fails while the device is down. With features, in upper or lower case, only what they say:
//
//	error_reads                       reads fail
//	drop_writes                       writes are dropped and reported as done, and so are discards, write-zeroes and flushes
//	error_writes                      they fail; not together with drop_writes
//	corrupt_bio_byte N r|w VALUE FLAGS
//	                                  the N-th byte, from 1 on, of each read or write request becomes VALUE, from 0 to 255; requests that are
//	                                  shorter stay as they are. w not together with drop_writes or error_writes
//	random_read_corrupt P             of P in 1000000000 reads a random byte becomes a random value
//	random_write_corrupt P            of writes
//	random_seed SEED                  what is random comes from this number; otherwise from one that the log tells
//
// With FLAGS other than 0 only requests are changed that have all these bits of the kernel's bi_opf: there are the number of the operation (0 read, 1 write)
// and 131072 (FUA); requests that ask for other bits are none. A device that loses what is written for 5 seconds of each minute:
//
//	[devices.shaky]
//	table = "0 204800 flakey data 0 55 5 1 drop_writes"
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// Those of the disk. A request is one request of whoever uses the device, cut where the table asks: not larger than 1 MiB from a file.
//
// # Ordering and crashes
//
// The target keeps nothing of its own. What is dropped is lost at once, not only in a power cut, and a flush that is dropped makes
// nothing durable. The seed makes the n-th request that may be damaged always fare the same; which one is the n-th is up to whoever sends them.
//
// # Differences from the kernel
//
//   - error_reads, random_read_corrupt and random_write_corrupt are those of later kernels, compared with 6.12 by hand: refusals, echo,
//     what fails and what is damaged. 6.1 does not know them. random_seed is ours.
//   - corrupt_bio_byte with r changes what is read, as the documentation says; in 6.1 it does nothing.
//   - The table has a blank at its end, as in 6.1, and no features where none were given; later kernels have no blank, and then
//     show error_reads and error_writes.
//   - Arguments after the features are refused; the kernel passes over them, so that a feature with a wrong COUNT would not be there.
//   - Numbers that do not fit into 32 bits are refused, and an OFFSET of 2^64 or more; the kernel drops the bits.
//   - Write-zeroes are not changed by corrupt_bio_byte or random_write_corrupt.
package flakey
