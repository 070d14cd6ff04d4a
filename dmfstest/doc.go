// Package dmfstest gives tests disks that misbehave when told to: mapped devices of a dmfs mount of their own, without root and
// without a kernel that has the device mapper.
//
//	func TestSurvivesPowerCut(t *testing.T) {
//		m := dmfstest.Start(t)
//		disk := m.PowerDisk("disk", 64<<20)
//		use(disk.Path())                          // any program that takes a file or a disk
//		disk.Cut(dmfstest.Random(1))              // what was not flushed is lost, in part
//		disk.Restore()
//		check(disk.Path())                        // what was flushed must be there
//	}
//
// # What it needs
//
// /dev/fuse, and for an ordinary user fusermount3 of the package fuse3. The program is $DMFS if that is set; else it is built from
// the module, which takes the go tool; else the dmfs on PATH. Without one of these a test fails and says what is missing.
// [Available] tells it before.
//
// # What it leaves behind
//
// Nothing: when the test ends the mount is unmounted, its daemon has ended, and its images are removed. If the test failed, the
// log of the mount and the tables of its devices are logged first.
//
// # Who looks at a device
//
// The daemon is a process of its own, so a test may map a device's file into memory. What it then sees is its own page cache: a
// machine that loses its power loses that too, so unmap and close the file, or better, do the work in a child process and kill it.
// database_test.go does so to a database.
package dmfstest
