//go:build linux && amd64

package aesxts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of this package on processors that this machine does not have, by emulation: other implementations, and the
// choice between them. A wrong choice is an illegal instruction.
func TestOtherProcessors(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: emulation is slow")
	}
	for _, p := range []struct {
		name, arch, emulator string
		cpu                  string // "" for the emulator's own choice
		want                 string // what available returns
	}{
		{"arm64", "arm64", "qemu-aarch64", "cortex-a72", "[arm64 generic]"},
		{"amd64 without AES", "amd64", "qemu-x86_64", "qemu64", "[generic]"},
		{"amd64 without AVX", "amd64", "qemu-x86_64", "Westmere", "[aesni generic]"},
		{"32 bits, big endian", "mips", "qemu-mips", "", "[generic]"},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			emulator, err := exec.LookPath(p.emulator)
			if err != nil {
				t.Skipf("%s is not installed (package qemu-user)", p.emulator)
			}
			tool, err := exec.LookPath("go")
			if err != nil {
				t.Skip("the go tool is not in PATH")
			}
			binary := filepath.Join(t.TempDir(), "aesxts.test")
			build := exec.Command(tool, "test", "-c", "-o", binary, ".")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+p.arch, "GOAMD64=v1")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("building for %s: %v\n%s", p.arch, err, out)
			}
			// Without asynchronous preemption: signals by the hundred are what user-mode emulation does worst.
			run := exec.Command(emulator, binary, "-test.short", "-test.v")
			run.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
			if p.cpu != "" {
				run.Env = append(run.Env, "QEMU_CPU="+p.cpu)
			}
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", p.emulator, err, out)
			}
			if want := "available: " + p.want + "\n"; !strings.Contains(string(out), want) {
				t.Errorf("the tests do not say %q", want)
			}
			for _, test := range []string{"TestVectorsOfIEEE1619", "TestAgreesWithXCrypto", "TestTweaks", "TestAlignments", "FuzzAESXTS"} {
				if !strings.Contains(string(out), "--- PASS: "+test+" ") {
					t.Errorf("%s did not pass", test)
				}
			}
		})
	}
}
