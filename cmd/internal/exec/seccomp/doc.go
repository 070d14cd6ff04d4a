// Package seccomp lets a process answer chosen system calls of others: a filter of theirs has the kernel ask a listener
// what a call is to return (seccomp_unotify(2)). It knows nothing of what is answered.
//
// The filter is inherited by all children and cannot be taken off. When nobody holds the listener any more the calls
// that it is asked about fail with ENOSYS, so nobody is stuck.
package seccomp
