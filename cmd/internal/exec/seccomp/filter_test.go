package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// run interprets a filter as the kernel does, as far as filters of ours go.
func run(t *testing.T, p []unix.SockFilter, arch, nr uint32, arg1 uint64) Action {
	t.Helper()
	data := map[uint32]uint32{offNr: nr, offArch: arch, offArg1: uint32(arg1)}
	acc := uint32(0)
	for at := 0; at < len(p); at++ {
		in := p[at]
		jump := func(yes bool) {
			if yes {
				at += int(in.Jt)
			} else {
				at += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = data[in.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K:
			acc >>= in.K
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_RET | unix.BPF_K:
			return Action(in.K)
		default:
			t.Fatalf("instruction %d: %#x", at, in.Code)
		}
	}
	t.Fatal("it does not return")
	return 0
}

func TestProgram(t *testing.T) {
	p := program([]Rule{
		{Call: 5, Action: Notify},
		{Call: 16, Action: Notify, Types: []byte{0xfd, 0x12, 0x4c}},
		{Call: 17, Action: Return(0)},
		{Call: 18, Action: Return(unix.ENOSYS)},
	})
	const allow = Action(unix.SECCOMP_RET_ALLOW)
	for _, tt := range []struct {
		arch, nr uint32
		arg1     uint64
		want     Action
	}{
		{auditArch, 5, 0, Notify},
		{auditArch, 6, 0, allow},
		{auditArch, 16, 0xc138fd00, Notify},
		{auditArch, 16, 0x1272, Notify},
		{auditArch, 16, 0x4c82, Notify},
		{auditArch, 16, 0x5401, allow},
		{auditArch, 17, 0, unix.SECCOMP_RET_ERRNO},
		{auditArch, 18, 0, unix.SECCOMP_RET_ERRNO | Action(unix.ENOSYS)},
		{auditArch, 0xfd, 0, allow},
		{auditArch ^ 1, 5, 0, allow},
	} {
		if got := run(t, p, tt.arch, tt.nr, tt.arg1); got != tt.want {
			t.Errorf("arch %#x, call %d, %#x: %#x, want %#x", tt.arch, tt.nr, tt.arg1, got, tt.want)
		}
	}
}
