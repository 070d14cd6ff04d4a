package dust

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Message carries out a message. What the kernel refuses without a word is refused with a detail alone.
func (t *target) Message(_ context.Context, words []string) (string, error) {
	switch len(words) {
	case 1:
		return t.command(words[0])
	case 2, 3:
		return t.blockCommand(strings.ToLower(words[0]), words)
	}
	return "", mapper.BadArg(fmt.Sprintf("invalid number of arguments '%d'", len(words)), "want 1 to 3")
}

func unrecognized(word string) error {
	return mapper.BadArg(fmt.Sprintf("unrecognized message '%s' received", word), "")
}

// command carries out a message of one word.
func (t *target) command(word string) (string, error) {
	switch strings.ToLower(word) {
	case "addbadblock", "removebadblock", "queryblock":
		return "", mapper.BadArg(word+" requires an additional argument", "the number of a block")
	case "enable":
		t.host.Logf("enabling read failures on bad sectors")
		t.enabled.Store(true)
	case "disable":
		t.host.Logf("disabling read failures on bad sectors")
		t.enabled.Store(false)
	case "quiet":
		t.mu.Lock()
		t.quiet.Store(!t.quiet.Load())
		t.mu.Unlock()
	case "countbadblocks":
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Sprintf("countbadblocks: %d badblock(s) found", t.bad.count), nil
	case "listbadblocks":
		return t.list(), nil
	case "clearbadblocks":
		return t.clear(), nil
	default:
		return "", unrecognized(word)
	}
	return "", nil
}

// list returns the bad blocks, one a line. The longest answer has some 70 MB.
func (t *target) list() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bad.count == 0 {
		return "No blocks in badblocklist"
	}
	var text []byte
	t.bad.all(func(b uint64) { text = append(strconv.AppendUint(text, b, 10), '\n') })
	return string(text)
}

func (t *target) clear() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bad.count == 0 {
		return "dust_clear_badblocks: no badblocks found"
	}
	t.bad = blockList{}
	return "dust_clear_badblocks: badblocks cleared"
}

// blockCommand carries out COMMAND BLOCK or COMMAND BLOCK COUNT. The order of the checks is the kernel's.
func (t *target) blockCommand(command string, words []string) (string, error) {
	b, ok := args.Uint64(words[1])
	if !ok {
		return "", mapper.BadArg("", "block %q: want a number", words[1])
	}
	failures := uint32(0)
	if len(words) == 3 {
		if failures, ok = args.ScanUint32(words[2]); !ok {
			return "", mapper.BadArg("", "write fail count %q: want a number", words[2])
		}
		if failures > 255 {
			return "", mapper.BadArg("selected write fail count out of range", "%d: want at most 255", failures)
		}
	}
	if most := uint64(t.disk.Sectors() >> t.shift); b > most {
		return "", mapper.BadArg("selected block value out of range", "%d: want at most %d", b, most)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case command == "addbadblock":
		return "", t.add(b, uint8(failures))
	case command == "removebadblock" && len(words) == 2:
		return "", t.remove(b)
	case command == "queryblock" && len(words) == 2:
		if _, bad := t.bad.find(b); bad {
			return fmt.Sprintf("dust_query_block: block %d found in badblocklist", b), nil
		}
		return fmt.Sprintf("dust_query_block: block %d not found in badblocklist", b), nil
	}
	return "", unrecognized(words[0])
}

// refuse returns the error for a block that cannot be changed; the kernel is silent about it when quiet.
func (t *target) refuse(errno unix.Errno, format string, a ...any) error {
	if t.quiet.Load() {
		return &mapper.ArgError{Detail: fmt.Sprintf(format, a...), Errno: errno}
	}
	return &mapper.ArgError{Reason: fmt.Sprintf(format, a...), Errno: errno}
}

// add makes b bad. t.mu is held.
func (t *target) add(b uint64, failures uint8) error {
	if _, bad := t.bad.find(b); bad {
		return t.refuse(unix.EINVAL, "dust_add_block: block %d already in badblocklist", b)
	}
	if t.bad.count == maxBad {
		return &mapper.ArgError{Reason: "dust_add_block: badblock allocation failed", Errno: unix.ENOMEM, Detail: fmt.Sprintf("there are %d already", maxBad)}
	}
	t.bad.set(b, failures)
	t.say("dust_add_block: badblock added at block %d with write fail count %d", b, failures)
	return nil
}

// remove makes b good. t.mu is held.
func (t *target) remove(b uint64) error {
	if !t.bad.remove(b) {
		return t.refuse(unix.EINVAL, "dust_remove_block: block %d not found in badblocklist", b)
	}
	t.say("dust_remove_block: badblock removed at block %d", b)
	return nil
}
