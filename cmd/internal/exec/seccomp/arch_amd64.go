package seccomp

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// x32Bit marks calls of the x32 ABI, which have other numbers.
const x32Bit = 0x40000000

// foreignCalls has calls of the x32 ABI fail: nothing but their numbers tells them from others.
func foreignCalls() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: 0, Jf: 1, K: x32Bit},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(Return(unix.ENOSYS))},
	}
}
