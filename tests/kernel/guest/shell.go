package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
)

// shell runs a script with the programs of the host, and returns what it printed.
func shell(_ *driver, number string) string {
	base := filepath.Join(job, number)
	cmd := exec.Command("/bin/sh", "-eu", base+".in")
	cmd.Dir = "/run"
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run", "LC_ALL=C", "FROM="+base+".from", "TO="+base+".to")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "broken: " + err.Error() + "\n" + out.String() + said.String()
	}
	return "played\n" + out.String()
}
