package integrity

import (
	"errors"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// refused returns why a table line is refused, with what the log has of it.
func refused(t *testing.T, line string) (*mapper.ArgError, string) {
	t.Helper()
	h := mappertest.NewHost(mappertest.NewDisk("1:1", 4096))
	made, err := newTarget(ctx, h, mapper.Spec{Len: 8, Type: "integrity", Args: strings.Fields(line)})
	var arg *mapper.ArgError
	if !errors.As(err, &arg) {
		if made != nil {
			made.(*target).Close()
		}
		t.Fatalf("%s: %v, want a refusal", line, err)
	}
	return arg, strings.Join(append(h.Log(), err.Error()), "\n")
}

// A key that was typed in the wrong place, or wrongly, is not told to whoever reads replies and logs.
func TestErrorsDoNotQuoteKeys(t *testing.T) {
	for _, line := range []string{
		"1:1 " + key32 + " - J 0",
		"1:1 0 " + key32 + " J 0",
		"1:1 0 - " + key32 + " 0",
		"1:1 0 - J " + key32,
		"1:1 0 - J 1 " + key32,
		"1:1 0 - J 1 " + key32 + ":" + key32,
		"1:1 0 - J 1 internal_hash:" + key32,
		"1:1 0 - J 1 internal_hash:sha256:" + key32,
		"1:1 0 - J 1 internal_hash:hmac(sha256):" + key32 + "x",
		"1:1 0 - J 1 internal_hash:hmac(" + key32 + "):" + key32,
		"1:1 0 - J 2 internal_hash:crc32c journal_mac:" + key32,
		"1:1 0 - J 2 internal_hash:crc32c journal_crypt:" + key32,
		"1:1 0 - J 2 internal_hash:crc32c journal_crypt:ctr(aes):" + key32 + key16,
		"1:1 0 - J 2 internal_hash:crc32c journal_sectors:" + key32,
		"1:1 0 - J 2 internal_hash:crc32c sectors_per_bit:" + key32,
	} {
		if _, text := refused(t, line); strings.Contains(text, key16[:12]) {
			t.Errorf("%s: quoted: %s", line, text)
		}
	}
}

// Whoever asks for mode I is told what it takes, and what there is instead.
func TestInlineModeIsExplained(t *testing.T) {
	arg, _ := refused(t, "1:1 0 - I 1 internal_hash:crc32c")
	for _, want := range []string{"mode I", "room for a tag", "J, B or D"} {
		if !strings.Contains(arg.Detail, want) {
			t.Errorf("%q does not say %q", arg.Detail, want)
		}
	}
	if want := "Invalid mode (expecting J, B, D, R)"; arg.Reason != want {
		t.Errorf("reason %q, want %q", arg.Reason, want)
	}
}
