package thin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/pdata"
)

// Message carries out what the pool is told, and commits it.
func (t *poolTarget) Message(ctx context.Context, words []string) (string, error) {
	p := t.pool
	if mode(p.mode.Load()) >= modeOutOfMetadata {
		return "", t.refuse(unix.EOPNOTSUPP, "%s: unable to service pool target messages in READ_ONLY or FAIL mode", p.number)
	}
	select {
	case p.telling <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-p.telling }()
	if err := p.take(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	if p.blank {
		return "", t.refuse(unix.EINVAL, "%s: the pool was never resumed", p.number)
	}
	if err := p.headroom(ctx); err != nil {
		return "", t.refuse(mapper.Errno(err), "%s: the metadata cannot be committed", p.number)
	}
	var err error
	switch strings.ToLower(words[0]) {
	case "create_thin":
		err = t.createThin(ctx, words)
	case "create_snap":
		err = t.createSnap(ctx, words)
	case "delete":
		err = t.deleteThin(ctx, words)
	case "set_transaction_id":
		err = t.setTransaction(ctx, words)
	case "reserve_metadata_snap":
		err = t.reserveSnap(ctx, words)
	case "release_metadata_snap":
		err = t.releaseSnap(ctx, words)
	default:
		return "", t.refuse(unix.EINVAL, "Unrecognised thin pool target message received: %s", words[0])
	}
	if err != nil {
		return "", err
	}
	_ = p.commitNow(ctx) // an error shows in the mode, as in the kernel
	p.trimAll(ctx)
	return "", nil
}

// refuse logs what the kernel's thin module says, and returns an error for people, which the core does not log again.
func (t *poolTarget) refuse(errno unix.Errno, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	t.host.LogFrom("thin", "%s", text)
	return &mapper.ArgError{Detail: text, Errno: errno}
}

// cause returns the errno of what went wrong in the metadata, which a request is told as EIO.
func cause(err error) unix.Errno {
	var damage *pdata.CorruptError
	switch {
	case errors.As(err, &damage):
		return damage.Errno
	case errors.Is(err, pdata.ErrNoSpace):
		return unix.ENOSPC
	}
	return mapper.Errno(err)
}

// count checks the number of words after the first.
func (t *poolTarget) count(words []string, want int) error {
	if len(words) != want {
		return t.refuse(unix.EINVAL, "Message received with %d arguments instead of %d.", len(words), want)
	}
	return nil
}

// id reads the id of a thin device.
func (t *poolTarget) id(word string) (DevID, error) {
	n, ok := args.LongUint64(word)
	if !ok || n > maxDevID {
		return 0, t.refuse(unix.EINVAL, "Message received with invalid device id: %s", word)
	}
	return DevID(n), nil
}

func (t *poolTarget) createThin(ctx context.Context, words []string) error {
	if err := t.count(words, 2); err != nil {
		return err
	}
	id, err := t.id(words[1])
	if err != nil {
		return err
	}
	err = t.pool.change(ctx, "dm_pool_create_thin", func(ctx context.Context) error { return t.pool.md.createThin(ctx, id) })
	if err != nil {
		return t.refuse(cause(err), "Creation of new thinly-provisioned device with id %s failed.", words[1])
	}
	return nil
}

func (t *poolTarget) createSnap(ctx context.Context, words []string) error {
	if err := t.count(words, 3); err != nil {
		return err
	}
	id, err := t.id(words[1])
	if err != nil {
		return err
	}
	origin, err := t.id(words[2])
	if err != nil {
		return err
	}
	err = t.pool.change(ctx, "dm_pool_create_snap", func(ctx context.Context) error { return t.pool.md.createSnap(ctx, id, origin) })
	if err != nil {
		return t.refuse(cause(err), "Creation of new snapshot %s of device %s failed.", words[1], words[2])
	}
	return nil
}

func (t *poolTarget) deleteThin(ctx context.Context, words []string) error {
	if err := t.count(words, 2); err != nil {
		return err
	}
	id, err := t.id(words[1])
	if err != nil {
		return err
	}
	if err := t.pool.deleteThin(ctx, id); err != nil {
		return t.refuse(cause(err), "Deletion of thin device %s failed.", words[1])
	}
	return nil
}

func (t *poolTarget) setTransaction(ctx context.Context, words []string) error {
	if err := t.count(words, 3); err != nil {
		return err
	}
	var ids [2]uint64
	for i, w := range words[1:] {
		n, ok := args.LongUint64(w)
		if !ok {
			what := [2]string{"", "new "}[i]
			return t.refuse(unix.EINVAL, "set_transaction_id message: Unrecognised %sid %s.", what, w)
		}
		ids[i] = n
	}
	err := t.pool.change(ctx, "dm_pool_set_metadata_transaction_id", func(context.Context) error { return t.pool.md.setTransaction(ids[0], ids[1]) })
	if err != nil {
		return t.refuse(cause(err), "Failed to change transaction id from %s to %s.", words[1], words[2])
	}
	return nil
}

func (t *poolTarget) reserveSnap(ctx context.Context, words []string) error {
	if err := t.count(words, 1); err != nil {
		return err
	}
	_ = t.pool.commitNow(ctx)
	err := t.pool.change(ctx, "dm_pool_reserve_metadata_snap", t.pool.md.holdSnapshot)
	if err != nil {
		return t.refuse(cause(err), "reserve_metadata_snap message failed.")
	}
	return nil
}

func (t *poolTarget) releaseSnap(ctx context.Context, words []string) error {
	if err := t.count(words, 1); err != nil {
		return err
	}
	err := t.pool.change(ctx, "dm_pool_release_metadata_snap", t.pool.md.releaseSnapshot)
	if err != nil {
		return t.refuse(cause(err), "release_metadata_snap message failed.")
	}
	return nil
}
