// Package dmsetup speaks dmsetup's language to a dmfs mount: its verbs, options, reports and error texts, line
// for line as dmsetup 1.02.185 prints them with the same tables. What it says reaches the mount through the
// control file and nothing else (fs/control), one command after the other, as libdevmapper sends its ioctls.
//
// Run is the whole of it: one invocation, from the arguments to the exit status. Two ways of being called differ:
//
//   - Strict (the program is called dmsetup): no verb, option or line that dmsetup does not have, so that scripts
//     written for it run unchanged. The mount is $DMFS_MOUNT or the caller's only one.
//   - otherwise (dmfs VERB): -m also takes a mount point (a number stays --minor), --mount names it always,
//     --json makes every reading verb answer with JSON, and an error ends with one more line that
//     gives the reason: "dmfs: x: segment 0 (0+100 linear): ...".
//
// # JSON
//
// The documents of --json only grow. Empty lists are [].
//
//	ls              [{"name", "uuid", "major", "minor"}]
//	info            [{every field of control.Device except table and status}]
//	deps            [{"name", "deps": [{"major", "minor", "device", "path", "block_name"}]}]
//	table, status   [{"name", "segments": [{"start", "length", "target", "params"}]}]
//	targets         [{"name", "version": [major, minor, patch]}], also target-version
//	version         {"library", "program", "driver", "pid", "mount_point", "major"}
//	splitname       {"subsystem", "vg_name", "lv_name", "lv_layer"}
//	wait            {"name", "event_nr", "removed"}
//
// # How a verb runs
//
// The verb stats (stats.go) is a program of its own, dmstats, if it is called so: its commands are messages to the core, its
// groups live in the auxiliary data of regions (statsregion.go), its reports are of areas, regions and groups (statsreport.go).
//
// A verb (verbs.go) names its operands and a function. Verbs of several devices are run once for each by
// session.each, which stops at the first failure. A device may be given by its name, by a path (/dev/mapper/NAME,
// /dev/dm-N, MNT/NAME), by -u UUID or by -j MAJOR -m MINOR; device.go turns all of these into a ref.
// A failure that has been reported is errFailed: Run adds dmsetup's "Command failed."
//
// Names travel mangled, as libdevmapper stores them in the kernel: every byte outside its whitelist is \xNN
// (mangle.go). Reports (report.go) are tables of fields (fields.go) with sort keys and a selection
// (selection.go).
//
// # Differences from dmsetup
//
//   - Regular files and network disks have no device number: deps, ls --tree and the devnos_used field show
//     their path, blkdevname and devname its last element.
//   - The verbs measure, udevcomplete and udevcomplete_all are refused by name. dmsetup's
//     "-o all" prints nothing at all; here it means every field that is there.
//   - stats has no regions that follow a file (create --filemap, update_filemap), since no file system of the kernel's lies on the
//     devices. Reports other than its own have no rows with fields of statistics. print --allregions prints each region once, unless
//     Strict, where it is twice as with dmstats. There is no JSON of statistics. What dmstats takes and does not look at (--regionid of
//     list and report, --alias of a create without --segments) is not looked at here either.
//   - Read ahead is not kept: it is 256 for a device that has a file. --readahead, --uid, --gid, --mode, the udev
//     options and --checks are accepted and change nothing.
//   - -vv and above do not trace ioctls, since there are none.
//   - Regular expressions of selections are Go's, with { and } taken literally.
//   - Table lines may quote words with "...", as dmfs writes paths.
package dmsetup
