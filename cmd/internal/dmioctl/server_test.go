package dmioctl

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// request returns a buffer of size bytes that asks about the device of that name.
func request(size int, name string) []byte {
	b := make([]byte, size)
	copy(b, interfaceVersion())
	order.PutUint32(b[atDataSize:], uint32(size))
	order.PutUint32(b[atDataStart:], headerLen)
	copy(b[atName:], name)
	return b
}

// Hidden devices are not listed, nor found by name, uuid or number.
func TestHidden(t *testing.T) {
	ctx := context.Background()
	core := newCore(mapper.Options{})
	for _, command := range []string{"create a uuid=A 0 8 zero", "create hidden0 uuid=H 0 8 zero"} {
		if _, err := core.Do(ctx, command); err != nil {
			t.Fatal(err)
		}
	}
	s := New(core, plain{252})
	r, errno := s.Handle(ctx, nrListDevices, request(1024, ""))
	if errno != 0 || len(r.Data) != headerLen+24 || cString(r.Data[headerLen+12:]) != "a" {
		t.Errorf("list: %q, %v", r.Data, errno)
	}
	for _, set := range []func(b []byte){
		func(b []byte) { copy(b[atName:], "hidden0") },
		func(b []byte) { copy(b[atUUID:], "H") },
		func(b []byte) { order.PutUint64(b[atDev:], encodeDev(252, 1)) },
	} {
		b := request(1024, "")
		set(b)
		if _, errno := s.Handle(ctx, nrStatus, b); errno != unix.ENXIO {
			t.Errorf("status of what is hidden: %v", errno)
		}
	}
	b := request(1024, "")
	order.PutUint64(b[atDev:], encodeDev(252, 0))
	r, errno = s.Handle(ctx, nrStatus, b)
	if errno != 0 || cString(r.Data[atName:]) != "a" || cString(r.Data[atUUID:]) != "A" {
		t.Errorf("status by number: %q, %v", r.Data, errno)
	}
}

// A wait ends when the caller is interrupted, and does not keep others from what they do meanwhile.
func TestWait(t *testing.T) {
	core := newCore(mapper.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := core.Do(ctx, "create a 0 8 zero"); err != nil {
		t.Fatal(err)
	}
	s := New(core, plain{253})
	ended := make(chan unix.Errno, 2)
	for range 2 {
		go func() {
			r, errno := s.Handle(ctx, nrWait, request(1024, "a"))
			if errno == 0 && order.Uint32(r.Data[atEventNr:]) != 1 {
				errno = unix.EPROTO
			}
			ended <- errno
		}()
	}
	load := request(1024, "a")
	order.PutUint32(load[atTargets:], 1)
	order.PutUint64(load[headerLen+specLength:], 8)
	copy(load[headerLen+specType:], "error")
	if _, errno := s.Handle(ctx, nrLoad, load); errno != 0 {
		t.Errorf("load while others wait: %v", errno)
	}
	rename := request(1024, "a")
	copy(rename[headerLen:], "b")
	order.PutUint32(rename[atEventNr:], 0x20042)
	r, errno := s.Handle(ctx, nrRename, rename)
	if errno != 0 || !r.Uevent || r.Cookie != 0x20042 {
		t.Errorf("rename: %v, %+v", errno, r)
	}
	for range 2 {
		// Either a wait saw the event, or it began after it, when there was no a.
		if errno := <-ended; errno != 0 && errno != unix.ENXIO {
			t.Errorf("wait: %v", errno)
		}
	}
	go func() {
		b := request(1024, "b")
		order.PutUint32(b[atEventNr:], 1)
		_, errno := s.Handle(ctx, nrWait, b)
		ended <- errno
	}()
	cancel()
	if errno := <-ended; errno != unix.EINTR {
		t.Errorf("wait that was interrupted: %v", errno)
	}
}

// A keeper is a mount that remembers where the commands were that it was given.
type keeper struct {
	coreMount
	had []string
}

func (k *keeper) Do(ctx context.Context, command string) (string, error) {
	k.had = append(k.had, command)
	return k.coreMount.Do(ctx, strings.Clone(command))
}

// A key is where it belongs and not in what was used on the way.
func TestKeysAreWiped(t *testing.T) {
	const key = "00112233445566778899aabbccddeeff"
	k := &keeper{coreMount: newCore(mapper.Options{})}
	for _, command := range []string{"create low 0 64 zero", "create a notable"} {
		if _, err := k.Do(context.Background(), command); err != nil {
			t.Fatal(err)
		}
	}
	s := New(k, plain{253})
	load := request(2048, "a")
	order.PutUint32(load[atTargets:], 1)
	order.PutUint32(load[atFlags:], flagSecureData)
	order.PutUint64(load[headerLen+specLength:], 64)
	copy(load[headerLen+specType:], "crypt")
	copy(load[headerLen+specLen:], "aes-cbc-plain64 "+key+" 0 253:0 0")
	r, errno := s.Handle(context.Background(), nrLoad, load)
	if errno != 0 || !r.Secure {
		t.Fatalf("load: %v, %+v", errno, r)
	}
	if behind := r.Data[:cap(r.Data)]; strings.Contains(string(behind), key) {
		t.Error("the key is behind the reply")
	}
	for _, command := range k.had {
		if strings.Contains(command, key) {
			t.Errorf("the key is in %q", command)
		}
	}
	table := request(2048, "a")
	order.PutUint32(table[atFlags:], flagStatusTable|flagQueryInactive)
	if r, errno := s.Handle(context.Background(), nrTable, table); errno != 0 || !strings.Contains(string(r.Data), key) {
		t.Errorf("the table has no key: %v", errno)
	}
}

// loading returns a call that loads a table of n segments zero into device a.
func loading(n int) []byte {
	b := request(headerLen+48*n, "a")
	order.PutUint32(b[atTargets:], uint32(n))
	for i := range n {
		spec := b[headerLen+48*i:]
		order.PutUint64(spec, uint64(8*i))
		order.PutUint64(spec[specLength:], 8)
		order.PutUint32(spec[specNext:], 48)
		copy(spec[specType:], "zero")
	}
	return b
}

// Tables of many segments are loaded beside each other and come back whole, once the caller's buffer is large enough.
func TestLargeTables(t *testing.T) {
	const segments = 3000
	core := newCore(mapper.Options{})
	ctx := context.Background()
	if _, err := core.Do(ctx, "create a notable"); err != nil {
		t.Fatal(err)
	}
	s := New(core, plain{253})
	ended := make(chan unix.Errno, 4)
	for range cap(ended) {
		go func() {
			_, errno := s.Handle(ctx, nrLoad, loading(segments))
			ended <- errno
		}()
	}
	for range cap(ended) {
		if errno := <-ended; errno != 0 {
			t.Errorf("load: %v", errno)
		}
	}
	for size := 16 << 10; ; size *= 2 {
		b := request(size, "a")
		order.PutUint32(b[atFlags:], flagStatusTable|flagQueryInactive)
		r, errno := s.Handle(ctx, nrTable, b)
		if errno != 0 {
			t.Fatal(errno)
		}
		if order.Uint32(r.Data[atFlags:])&flagBufferFull != 0 && size < 1<<20 {
			continue
		}
		last := r.Data[headerLen+48*(segments-1):]
		if n := order.Uint32(r.Data[atTargets:]); n != segments || order.Uint64(last) != 8*(segments-1) || len(last) != specLen+1 {
			t.Errorf("%d segments, %d bytes of the last, which begins at %d", n, len(last), order.Uint64(last))
		}
		return
	}
}
