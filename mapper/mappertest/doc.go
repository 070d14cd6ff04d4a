// Package mappertest is the test kit of the core and of the targets.
//
// Everything stands on the seam between a target and what is below it, [mapper.Disk]:
//
//   - [Disk] is a disk in memory that counts what it is asked and checks that it is asked lawfully.
//   - [Faulty] fails chosen requests, [Stall] holds them up, both for any disk.
//   - [Crash] is a disk with a volatile cache that can lose power.
//   - [Host] offers these disks to a target without a manager.
//   - [Stamp] and [CheckStamp] make data that says where it belongs.
//   - [TestTarget] tests what every target must do; each target calls it.
//
// Everything here may be used concurrently unless it says otherwise.
package mappertest
