package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"dmfs/targets/crypt/luks"
)

// An openedKey is a volume key, by its number in the header.
type openedKey struct {
	secret *luks.Secret // nil if it was not asked for
	slot   int          // that it was in, negative for none
	size   int          // bytes
}

// unopened returns keys of which only the sizes are known.
func unopened(h *luks.Header) []openedKey {
	keys := make([]openedKey, h.Keys())
	for n := range keys {
		keys[n] = openedKey{slot: -1, size: h.KeySize(n)}
	}
	return keys
}

func release(keys []openedKey) {
	for _, k := range keys {
		k.secret.Release()
	}
}

// getKeys gets all volume keys, which are of one passphrase.
func getKeys(ctx context.Context, env Env, h *luks.Header, from *disk, o Options) ([]openedKey, error) {
	if o.VolumeKey != "" {
		return readVolumeKey(ctx, h, o)
	}
	tries := max(o.Key.Tries, 1)
	for {
		passphrase, again, err := o.Key.passphrase(ctx, env.Stdin, env.Stderr, from.name)
		if err != nil {
			return nil, err
		}
		keys, err := unlock(ctx, env, h, from, passphrase, o.Slot)
		if tries--; again && tries > 0 && errors.Is(err, luks.ErrPassphrase) {
			env.Complain(err)
			continue
		}
		return keys, err
	}
}

func readVolumeKey(ctx context.Context, h *luks.Header, o Options) ([]openedKey, error) {
	source := KeySource{File: o.VolumeKey, FileSize: int64(h.KeySize(0)), FD: -1}
	key, err := source.readFile(nil)
	if err == nil {
		err = h.Check(ctx, 0, key.Bytes)
	}
	if err != nil {
		key.Release()
		if errors.Is(err, luks.ErrPassphrase) {
			return nil, failure(Denied, "%s: that is not the volume key", o.VolumeKey)
		}
		return nil, failure(Failed, "%s: %w", o.VolumeKey, err)
	}
	return []openedKey{{key, -1, len(key.Bytes)}}, nil
}

// unlock opens a slot for each key. The passphrase is wiped.
func unlock(ctx context.Context, env Env, h *luks.Header, from *disk, passphrase *luks.Secret, slot int) ([]openedKey, error) {
	type result struct {
		keys []openedKey
		err  error
	}
	u := luks.UnlockOptions{Slot: slot, Memory: availableMemory()}
	show, hide := progress(env.Stderr)
	u.Trying = show
	done := make(chan result, 1)
	go func() { // Argon2 does not look at ctx
		defer passphrase.Release()
		keys, err := unlockAll(ctx, h, from, passphrase.Bytes, u)
		done <- result{keys, err}
	}()
	defer hide()
	select {
	case r := <-done:
		return r.keys, r.err
	case <-ctx.Done():
		return nil, errors.New("interrupted")
	}
}

func unlockAll(ctx context.Context, h *luks.Header, from *disk, passphrase []byte, u luks.UnlockOptions) (keys []openedKey, err error) {
	for u.Key = range h.Keys() {
		key, slot, err := h.Unlock(ctx, from, passphrase, u)
		if err != nil {
			release(keys)
			if u.Key > 0 && errors.Is(err, luks.ErrPassphrase) {
				err = fmt.Errorf("%w: it opens one of two volume keys, which the container has while it is reencrypted", luks.ErrPassphrase)
			}
			return nil, err
		}
		keys = append(keys, openedKey{key, slot, len(key.Bytes)})
	}
	return keys, nil
}

// progress returns what shows on a terminal which slot is tried, and for how long, and what takes that away.
func progress(w io.Writer) (show func(slot int), hide func()) {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return nil, func() {}
	}
	slots, end, gone := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		slot, begun, shown := -1, time.Now(), false
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case slot = <-slots:
				begun = time.Now()
			case <-tick.C:
				if slot >= 0 {
					fmt.Fprintf(f, "\rtrying key slot %d, %d s\x1b[K", slot, int(time.Since(begun).Seconds()))
					shown = true
				}
			case <-end:
				if shown {
					fmt.Fprint(f, "\r\x1b[K")
				}
				return
			}
		}
	}()
	show = func(slot int) {
		select {
		case slots <- slot:
		case <-gone:
		}
	}
	return show, func() { close(end); <-gone }
}

// availableMemory returns how many bytes of memory can be had, 0 if that is not known.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}
