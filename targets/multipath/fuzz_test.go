package multipath

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func FuzzArgs(f *testing.F) {
	for _, s := range []string{
		"0 0 1 1 round-robin 0 2 1 a 1 b 1", "1 queue_if_no_path 0 2 1 queue-length 0 1 1 a 1 service-time 0 1 2 b 1 2", "0 0 0 0",
		"8 queue_mode bio queue_if_no_path retain_attached_hw_handler pg_init_retries 3 pg_init_delay_msecs 4 0 1 1 round-robin 0 1 0 a",
		"0 0 1 1 historical-service-time 2 972 0 2 1 a 0 b 0", "0 0 1 1 io-affinity 0 1 1 a 1", "0 1 alua 1 1 round-robin 0 1 0 a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := mappertest.NewHost(mappertest.Null{Name: "a", Size: 64}, mappertest.Null{Name: "b", Size: 64})
		words := strings.Fields(line)
		got, err := newTarget(ctx, h, mapper.Spec{Len: 8, Args: words})
		if err != nil {
			var arg *mapper.ArgError
			if !errors.As(err, &arg) || arg.Reason == "" {
				t.Errorf("%q: %v has no reason", line, err)
			}
			return
		}
		table := got.(*target).Table(true)
		again, err := newTarget(ctx, h, mapper.Spec{Len: 8, Args: table[:len(table)-1]})
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", line, table, err)
		}
		if second := again.(*target).Table(true); strings.Join(second, " ") != strings.Join(table, " ") {
			t.Errorf("%q became %q and then %q", line, table, second)
		}
		if _, err := got.(*target).Status(ctx, false); err != nil {
			t.Error(err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"fail_path a", "switch_group 2", "disable_group 1", "queue_if_no_path", "enable_group 18446744073709551615", "x y z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Fields(line)
		if len(words) == 0 {
			return // the core refuses it
		}
		b := newBed(t, "0 0 2 1 round-robin 0 2 0 a b queue-length 0 1 0 c")
		_, err := b.Message(ctx, words)
		var arg *mapper.ArgError
		if err != nil && !errors.As(err, &arg) {
			t.Errorf("%q: %v", line, err)
		}
		active := bytes.Count([]byte(b.status()), []byte(" A "))
		if err := b.write(0, 1); (err == nil) != (active > 0) {
			t.Errorf("after %q, status %q: %v", line, b.status(), err)
		}
	})
}
