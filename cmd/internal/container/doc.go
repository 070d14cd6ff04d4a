// Package container opens containers: what on a disk says how it is to be mapped, and only wants a passphrase or a root digest. It finds out
// what a disk is, gets the key, makes the tables that cryptsetup and veritysetup would make, and loads them into a mount.
//
// # How a container is opened
//
//  1. Open (open.go) finds out what DATA is by its first bytes, or believes Options.Type.
//  2. For LUKS, package luks reads the header; plan.go makes a plan of it: the devices, with a hole in the table where the
//     key goes. For verity, verity.go makes one from the superblock.
//  3. passphrase.go gets the passphrase, and luks.Header.Unlock the key, which takes as long as whoever made the slot wanted it to.
//  4. The tables of a container that is being reencrypted follow from how far that is: authenticate (open.go) checks with the keys that nobody
//     else has made up the state, and that it is what it was when the plan was made; lock.go keeps it so until step 5 is done. If it was
//     interrupted while data was written, that part of the plan reads what recovery would write, and the device is read-only.
//  5. load.go writes the commands to the control file, the key's digits from the memory that it is in. Of several devices all are made
//     or none.
//
// # Where the key is
//
// In memory for secrets (luks.Secret), as are the passphrase and the command that brings the key to the mount; all of it is zeroed before Open
// returns. It is in no argument, file, environment or log. The process writes no core dump. In the mount the digits are
// a text until the target has them: see the manual of crypt.
//
// # Exit statuses
//
// Those of cryptsetup, see Status.
package container
