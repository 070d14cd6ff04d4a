package aeskey

import (
	"crypto/cipher"
	"reflect"
	"unsafe"
)

// Wipe zeroes the keys in b, a cipher of crypto/aes, which has no method for it, where they are. b must not be used any more.
// It does not reach what lies behind pointers, as keys do on s390x only.
func Wipe(b cipher.Block) {
	if v := reflect.ValueOf(b); v.Kind() == reflect.Pointer {
		visitIntegers(v.Elem().Type(), v.UnsafePointer(), func(b []byte) { clear(b) })
	}
}

// visitIntegers calls f with the memory of each integer in the value of type t at p. It follows no pointers, which
// may lead to what is shared.
func visitIntegers(t reflect.Type, p unsafe.Pointer, f func([]byte)) {
	switch k := t.Kind(); {
	case k == reflect.Struct:
		for i := range t.NumField() {
			visitIntegers(t.Field(i).Type, unsafe.Add(p, t.Field(i).Offset), f)
		}
	case k == reflect.Array:
		for i := range t.Len() {
			visitIntegers(t.Elem(), unsafe.Add(p, uintptr(i)*t.Elem().Size()), f)
		}
	case k >= reflect.Int && k <= reflect.Uint64:
		f(unsafe.Slice((*byte)(p), t.Size()))
	}
}
