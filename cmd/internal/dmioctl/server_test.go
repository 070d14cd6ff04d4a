package dmioctl

import (
	"context"
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
