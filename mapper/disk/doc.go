// Package disk has what tables stand on at the bottom: files, block devices and, in package nbd, network disks. It is the one
// place besides mapper/bytes.go that turns sectors into bytes.
//
// # Durability
//
// OpFlush is fdatasync(2), FlagFUA is RWF_DSYNC. A failed fdatasync is not forgotten: Linux reports a lost page once and
// calls it clean, so that the next fdatasync would succeed over missing data. Every later flush of the disk
// fails with the first error until no table uses the disk any more.
//
// # A file that shrinks
//
// The size is taken once, when the file is opened. A read of what is no longer there is an I/O error that says so.
// A write there makes the file longer again.
package disk
