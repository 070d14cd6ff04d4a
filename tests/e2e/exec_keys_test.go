package e2e

import "testing"

// A key in a keyring of its own can be named by tables when the program that added it has ended, until somebody takes it back; one in the
// keyring of a process goes with the process.
func TestExecKeyrings(t *testing.T) {
	forEach(t, "dmsetup keyctl", func(t *testing.T, b *bench) {
		b.image("a.img", 64)
		b.file("script", `
			ring=$(keyctl newring dmfs-test @s)
			crypt() { dmsetup create $1 --table "0 8 crypt aes-xts-plain64 :32:logon:$2 0 8:0 0"; }
			key=$(keyctl add logon dmfs:one 0123456789abcdef0123456789abcdef $ring); keyctl add logon dmfs:gone 0123456789abcdef0123456789abcdef @p
			crypt one dmfs:one; dmsetup table one; crypt gone dmfs:gone || echo went with its process
			printf written >/dev/mapper/one; dmsetup remove one
			keyctl add logon dmfs:one 0123456789abcdef0123456789abcdeF $ring; crypt one dmfs:one
			head -c 7 /dev/mapper/one | grep -q written && exit 1; dmsetup remove one
			keyctl revoke $key; crypt one dmfs:one || echo revoked
			keyctl add logon dmfs:two 0123456789abcdef0123456789abcdef $ring; crypt two dmfs:two; head -c 7 /dev/mapper/two; dmsetup remove two
			keyctl clear $ring; crypt two dmfs:two || echo cleared`)
		out := b.session("--block a.img", "exec keyctl session - sh -eux script")
		says(t, out, ":32:logon:dmfs:one", "went with its process", "revoked", "written", "cleared")
		b.session("--block a.img", `dmsetup create two --table "0 8 crypt aes-xts-plain64 :32:logon:dmfs:two 0 8:0 0" && exit 1 || true`)
	})
}
