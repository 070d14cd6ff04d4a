package scenario

import (
	"slices"
	"testing"
)

// What is new is told from what was seen, also when the log has dropped lines and says the same twice in a millisecond.
func TestLogTail(t *testing.T) {
	const x, y, z = "1 device-mapper: x\n", "1 device-mapper: y\n", "1 device-mapper: z\n"
	var l LogTail
	for _, c := range []struct {
		text string
		want []string
	}{
		{x + y, []string{"device-mapper: x", "device-mapper: y"}},
		{x + y, nil},
		{x + y + z, []string{"device-mapper: z"}},
		{z + y + z, []string{"device-mapper: y", "device-mapper: z"}},
		{x, []string{"device-mapper: x"}},
	} {
		if got := l.Fresh(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
