package e2e

import (
	"strings"
	"testing"
)

// A session has pseudo-terminals of its own making, and the one that its user sits at is a terminal in it, too.
func TestExecTerminals(t *testing.T) {
	forEach(t, "script expect dmsetup", func(t *testing.T, b *bench) {
		b.file("inner", `test "$(tty)" = "$(readlink /proc/self/fd/0)"; test -c "$(tty)"; stat -c '%F %t:%T' /dev/ptmx
			script -qc 'tty; echo in script' /dev/null </dev/null; echo >/dev/tty to the terminal
			expect -c 'spawn sh -c "stty -echo; read word; echo said \$word; tty"; send "please\r"; expect "said please"; expect -re "/dev/pts/.*"; expect eof'
			echo all done`)
		out := b.run("script", "-qec", program+" exec -- sh -euxc '. ./inner'", "/dev/null")
		says(t, out, "character special file 5:2", "in script", "to the terminal", "said please", "all done")
		if strings.Contains(out, "not a tty") {
			t.Error(out)
		}
		out = b.session("", `script -qc 'echo $((20+3))' /dev/null; tty || echo none`) // without one outside
		says(t, out, "23", "none")
	})
}
