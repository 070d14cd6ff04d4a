package targets_test

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkCrypt: crypt over a file in memory beside linear over one, one request after the other.
func BenchmarkCrypt(b *testing.B) {
	key := strings.Repeat("0123456789abcdef", 8)
	for _, c := range []struct{ name, table string }{
		{"linear", "0 393216 linear @0@ 0"},
		{"crypt", "0 393216 crypt aes-xts-plain64 " + key + " 0 @0@ 0"},
		{"crypt-4096", "0 393216 crypt aes-xts-plain64 " + key + " 0 @0@ 0 1 sector_size:4096"},
	} {
		d := fileDevice(b, c.table)
		const size = 192 << 20
		for _, bytes := range []int{4 << 10, 256 << 10, 1 << 20} {
			for _, op := range ops {
				b.Run(fmt.Sprintf("%s/%s/%dk", c.name, op.name, bytes>>10), func(b *testing.B) {
					b.SetBytes(int64(bytes))
					p := make([]byte, bytes)
					for i := range b.N {
						if err := op.do(d, p, int64(i)*int64(bytes)%size); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
