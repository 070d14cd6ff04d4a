// Package scenario is the language in which what a device mapper should do is written once, and the player that
// does it to any device mapper: this program in process, this program behind its mount, the kernel.
//
// # Language
//
// A scenario is a text, one step a line. Lines that begin with # and come first say what it shows; later ones
// are notes. Words are split as in tables. @NAME@ stands for a disk or a device of the scenario. The line "# only: dmfs" at
// the head says that the kernel does not have the targets: the golden is then what dmfs does in process, read by whoever recorded it. The
// line "# forgets" says that what its devices hold is not to be found on the disks once they are removed, so that there is nothing to hand over; "# restless" that
// the disks change while nobody writes, so that of what is handed over only the devices are compared.
//
//	disk NAME SECTORS [BLOCK]        a disk of zeroes; BLOCK is its logical block size in bytes, 512 if not given
//	disk NAME SECTORS metadata       a disk that is not hashed at the end, nor is what stands on it: where things lie is the target's own affair
//	fill DISK SERIAL                 stamps it; only while nothing stands on it
//	put DISK SECTOR HEX              writes whole sectors; only while nothing stands on it
//	create NAME [ro] [notable] [uuid=U] [minor=N] [START LENGTH TARGET ARGS]
//	load NAME [ro] START LENGTH TARGET ARGS
//	suspend NAME [noflush]           resume NAME [noflush]           clear NAME
//	remove NAME [force] [deferred]   rename NAME NEW                 setuuid NAME UUID
//	setgeometry NAME CYLINDERS HEADS SECTORS START
//	message NAME SECTOR WORDS
//	table NAME [inactive]            status NAME [inactive]
//	info NAME                        deps NAME                       wait NAME EVENT
//	open NAME ID                     close ID
//	read NAME START COUNT            write NAME START COUNT SERIAL [fua]
//	discard NAME START COUNT         zeroout NAME START COUNT        flush NAME
//	hash NAME                        whole content of a disk or device
//	begin ID STEP                    starts an I/O step and goes on
//	waits ID                         says whether it still waits     end ID     its result
//	until NAME WORD                  waits until the status has the word
//	scratch DISK                     it is not hashed at the end, for its content is of one run; what stands on it is
//	pause                            lets the device mapper do what nobody waits for
//	reopen                           removes all devices, lets go of the disks, and makes the devices again
//
// A table of several lines follows its command in braces:
//
//	create x {
//		0 3 linear @a@ 1
//		3 5 linear @b@ 4
//	}
//
// # Transcript
//
// What comes of a step is text: "ok", what was asked for, or the name of the errno; then the lines that
// the device mapper added to its log. Data is told as runs of stamped sectors, with a hash of all of it. Disks appear by name
// and devices as dm-MINOR, wherever they are. When the last step is played, all devices and disks are hashed.
package scenario
