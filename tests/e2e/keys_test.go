package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Keys of the configuration, from a file and from descriptors of the caller, encrypt as the same key in the table does.
func TestKeysOfTheConfiguration(t *testing.T) {
	b := newBench(t)
	b.image("disk.img", 64)
	key := random(64, 7)
	must(t, os.WriteFile(b.path("key"), key, 0o600))
	line := func(key string) string {
		return fmt.Sprintf("table = \"0 64 crypt aes-xts-plain64 %s 0 disk.img 0\"\n", key)
	}
	config := b.file("c.toml", "[keys]\nfile = 'key'\nthree = { fd = 3 }\nseven = { fd = 7 }\n"+
		"[devices.plain]\n"+line(hex.EncodeToString(key))+
		"[devices.file]\n"+line(":64:user:file")+"[devices.three]\n"+line(":64:logon:three")+"[devices.seven]\n"+line(":64:user:seven"))
	b.run("sh", "-c", program+` mount --config "$1" "$2" 3<key 7<key`, "sh", config, b.mnt)
	want := random(64*512, 8)
	must(t, os.WriteFile(b.mnt+"/plain", want, 0))
	for _, name := range []string{"file", "three", "seven"} {
		got, err := os.ReadFile(b.mnt + "/" + name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want what the key in the table decrypts", name, len(got), err)
		}
	}
	// What was read of a descriptor is there for later tables, too.
	b.run("sh", "-c", program+` create again --table "0 64 crypt aes-xts-plain64 :64:user:three 0 "$PWD/disk.img" 0"`)
	if out := b.run(program, "table", "--showkeys", "again"); !strings.Contains(out, ":64:user:three") {
		t.Errorf("the table does not name the key: %s", out)
	}
	b.run(program, "umount", b.mnt)
	b.fails(1, "was not started with it", "sh", "-c", program+` mount --config "$1" "$2" 7<key`, "sh", config, b.mnt)
}

// A resume without a key is refused with EAGAIN, which nobody takes for "try again": the command ends, and says why.
func TestResumeOfAWipedKey(t *testing.T) {
	b := newBench(t)
	b.mount("")
	b.image("disk.img", 64)
	key := strings.Repeat("5a", 32)
	b.run(program, "create", "x", "--table", "0 64 crypt aes-xts-plain64 "+key+" 0 "+b.path("disk.img")+" 0")
	b.run(program, "suspend", "x")
	b.run(program, "message", "x", "0", "key", "wipe")
	b.fails(1, "Resource temporarily unavailable", "timeout", "30", program, "resume", "x")
	if n := strings.Count(b.run("cat", b.mnt+"/.dm/log"), "aborting resume"); n != 1 {
		t.Errorf("the device was resumed %d times, want once", n)
	}
	b.run(program, "message", "x", "0", "key", "set", key)
	b.run(program, "resume", "x")
	b.run(program, "remove", "x")
}

// An image whose root hash openssl signed opens if the configuration trusts the certificate.
func TestVeritySignature(t *testing.T) {
	requireTool(t, "veritysetup")
	requireTool(t, "openssl")
	b := newBench(t)
	made := b.run("veritysetup", "format", "--salt=-", b.file("data.img", string(random(64<<10, 3))), b.path("hash.img"))
	_, rest, _ := strings.Cut(made, "Root hash:")
	root := strings.Fields(rest)[0]
	b.file("root", root)
	for _, name := range []string{"good", "bad"} {
		b.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN="+name, "-keyout", name+".key", "-out", name+".pem")
		b.run("openssl", "smime", "-sign", "-nocerts", "-noattr", "-binary", "-in", "root", "-inkey", name+".key", "-signer", name+".pem", "-outform", "der", "-out", name+".p7s")
	}
	config := func(signature string) string {
		return b.file("c.toml", fmt.Sprintf("certificates = ['good.pem']\n[keys]\nsig = '%s'\n[devices.v]\nreadonly = true\n"+
			"table = '0 128 verity 1 data.img hash.img 4096 4096 16 1 sha256 %s - 2 root_hash_sig_key_desc sig'\n", signature, root))
	}
	b.run(program, "mount", "--config", config("good.p7s"), b.mnt)
	if got, err := os.ReadFile(b.mnt + "/v"); err != nil || !bytes.Equal(got, random(64<<10, 3)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.run(program, "umount", b.mnt)
	b.fails(1, "none of the 1 certificates of the configuration is the signer's", program, "mount", "--config", config("bad.p7s"), b.mnt)
	b.fails(1, "no PKCS#7 message", program, "mount", "--config", config("root"), b.mnt)
}
