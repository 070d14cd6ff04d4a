package logwrites

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestRefusals(t *testing.T) {
	h := mappertest.NewHost(mappertest.NewDisk("7:0", 8), mappertest.NewDisk("7:1", 8))
	for args, want := range map[string]string{
		"": "Invalid argument count", "7:0": "Invalid argument count", "7:9 7:1": "Device lookup failed", "7:0 7:9": "Log device lookup failed",
	} {
		_, err := NewType().New(context.Background(), h, mapper.Spec{Len: 8, Args: strings.Fields(args)})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != want {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
	b := newBench(t, 1<<14)
	for _, words := range [][]string{{}, {"mark"}, {"mark", "a", "b"}, {"hello", "you"}, {"mark", strings.Repeat("x", 481)}} {
		if _, err := b.Message(context.Background(), words); err == nil {
			t.Errorf("message %.40q succeeds", words)
		}
	}
	_, err := b.Message(context.Background(), []string{"mark", strings.Repeat("x", 480)})
	b.must(err)
}

func FuzzArgs(f *testing.F) {
	f.Add("7:0", "7:1", "more")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 64), mappertest.NewDisk("7:1", 64))
		got, err := NewType().New(context.Background(), h, mapper.Spec{Len: 8, Args: []string{a, b, c}})
		if err != nil {
			return
		}
		_, _ = got.(*target).Message(context.Background(), []string{a, b})
		if _, err := NewType().New(context.Background(), h, mapper.Spec{Len: 8, Args: got.(*target).Table(true)}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzFormat(f *testing.F) {
	b := make([]byte, 512)
	Super{Entries: 5, SectorSize: 512}.Encode(b)
	f.Add(bytes.Clone(b))
	Entry{Sector: 8, Count: 16, Flags: FlagFUA}.Encode(b)
	f.Add(bytes.Clone(b))
	Entry{Flags: FlagMark, Mark: "here"}.Encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := DecodeSuper(raw); err == nil {
			again := make([]byte, 512)
			s.Encode(again)
			if !bytes.Equal(again[:superSize], raw[:superSize]) {
				t.Errorf("%+v does not encode to what it was", s)
			}
		}
		if e, err := DecodeEntry(raw); err == nil {
			again := make([]byte, len(raw))
			e.Encode(again)
			if got, err := DecodeEntry(again); err != nil || got != e {
				t.Errorf("%+v, encoded and decoded: %+v, %v", e, got, err)
			}
		}
	})
}
