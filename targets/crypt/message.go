package crypt

import (
	"context"
	"strings"

	"dmfs/mapper"
)

// Message carries out "key set KEY" and "key wipe". What the kernel refuses without a word is refused with a detail alone.
func (t *target) Message(_ context.Context, words []string) (string, error) {
	if len(words) < 2 || !strings.EqualFold(words[0], "key") {
		return "", unrecognised()
	}
	t.mu.Lock()
	suspended := t.suspended
	t.mu.Unlock()
	if !suspended {
		return "", mapper.BadArg("not suspended during key manipulation.", "suspend the device first")
	}
	switch command := strings.ToLower(words[1]); {
	case command == "set" && len(words) == 3:
		return "", t.setKey(words[2])
	case command == "wipe" && len(words) == 2:
		t.use(nil, "")
		return "", nil
	}
	return "", unrecognised()
}

func unrecognised() error {
	return mapper.BadArg("unrecognised message received.", "want key set KEY or key wipe")
}

// setKey takes another key, of the same size. A key in digits that is no good leaves the device without one, as the kernel
// does; a name of the keyring that is no good leaves all as it was.
func (t *target) setKey(key string) error {
	if size, ok := keySize(key); !ok || size != t.keySize {
		return &mapper.ArgError{Detail: "the size of the key may not change"}
	}
	k, name, err := t.newKeyed(key)
	if err != nil {
		if !strings.HasPrefix(key, ":") && (t.keySize != 0 || key == "-") {
			t.use(nil, "")
		}
		return silent(err)
	}
	t.use(k, name)
	return nil
}

// silent takes the reason from err, since the kernel refuses a key in a message without a word.
func silent(err error) error {
	return &mapper.ArgError{Detail: err.Error(), Errno: mapper.Errno(err)}
}
