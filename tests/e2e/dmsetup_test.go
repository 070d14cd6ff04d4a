package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dmfs/tests/dmsetuptest"
)

// Called as dmsetup, the program says on a mount what the real dmsetup said in the real kernel.
func TestDmsetupGoldens(t *testing.T) {
	const testdata = "../../cmd/internal/dmsetup/testdata"
	goldens, err := filepath.Glob(testdata + "/*.golden")
	must(t, err)
	if len(goldens) == 0 {
		t.Fatal("no goldens")
	}
	for _, golden := range goldens {
		t.Run(strings.TrimSuffix(filepath.Base(golden), ".golden"), func(t *testing.T) {
			b := newBench(t)
			disks := []string{b.image("ubda", 64<<11), b.image("ubdb", 64<<11)}
			must(t, os.Symlink(program, b.path("dmsetup")))
			b.mount("")
			t.Chdir(testdata)
			dmsetuptest.Play(t, filepath.Base(golden), func(c dmsetuptest.Call) dmsetuptest.Result {
				cmd := b.command(b.path("dmsetup"), c.Args...)
				cmd.Dir = "" // the scenario's files are in testdata
				for key, value := range c.Env {
					cmd.Env = append(cmd.Env, key+"="+value)
				}
				var stdout, stderr bytes.Buffer
				cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.Stdin), &stdout, &stderr
				if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
					t.Fatal(err)
				}
				return dmsetuptest.Result{Stdout: stdout.String(), Stderr: stderr.String(), Status: cmd.ProcessState.ExitCode()}
			}, dmsetuptest.Options{Major: 253, Disks: disks})
			b.control("remove_all\n")
		})
	}
}
