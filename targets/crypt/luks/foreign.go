package luks

import "bytes"

// foreign returns what is known to begin as first does, "" if nothing is.
func foreign(first []byte) string {
	for _, f := range []struct {
		at          int
		magic, name string
	}{
		{3, "-FVE-FS-", "a BitLocker volume, which is not supported: copy it with cryptsetup or dislocker"},
		{88, "CS\x01\x00", "a FileVault2 volume, which is not supported: copy it with cryptsetup"},
		{0, "verity\x00\x00", "a verity superblock: open it with --type verity"},
		{0, "integrt\x00", "an integrity device, which has no passphrase: map it with the target integrity"},
		{0, "LUKS\xba\xbe", "a LUKS header of a version that is not known: 1 and 2 are"},
	} {
		if len(first) >= f.at && bytes.HasPrefix(first[f.at:], []byte(f.magic)) {
			return f.name
		}
	}
	return ""
}
