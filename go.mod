module dmfs

go 1.26.0

require (
	github.com/BurntSushi/toml v1.6.0 // the configuration file; the reader that reports positions and has no dependencies
	github.com/hanwen/go-fuse/v2 v2.12.1 // the structures and flags of the FUSE protocol; the loop is ours, see fs/doc.go
	github.com/jzelinskie/whirlpool v0.0.0-20201016144138-0675e54bb004 // the hash wp512, of LUKS headers and tables; pure Go, no dependencies
	github.com/klauspost/compress v1.20.3 // tests only: the disks in tests/images are packed with zstd
	github.com/klauspost/cpuid/v2 v2.3.0 // whether the processor has SHA instructions, which x/sys/cpu does not tell of amd64
	github.com/klauspost/reedsolomon v1.14.2 // md's Q parity in the processor's vectors: its field, polynomial 0x11d and generator {02}, is md's
	github.com/smallstep/pkcs7 v0.2.3 // signatures of verity's root hashes; the maintained branch of the only kept PKCS#7 reader
	go.etcd.io/bbolt v1.4.3 // tests only: the database that dmfstest takes through power cuts, one file and no other dependency
	golang.org/x/crypto v0.58.0 // what the standard library lacks of disks: Twofish, Blowfish, CAST5, BLAKE2, RIPEMD-160, Argon2; in tests the judge of our AES-XTS
	golang.org/x/sys v0.49.0 // Linux system calls and their constants beyond package syscall, and what the processor can do
)

// What the tools below and reedsolomon are made of.
require (
	github.com/golangci/misspell v0.8.0 // indirect
	github.com/gordonklaus/ineffassign v0.2.0 // indirect
	github.com/kisielk/errcheck v1.30.0 // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	honnef.co/go/tools v0.8.2 // indirect
)

// The linters, pinned; tests/lint.sh runs them and says why each.
tool (
	github.com/golangci/misspell/cmd/misspell
	github.com/gordonklaus/ineffassign
	github.com/kisielk/errcheck
	honnef.co/go/tools/cmd/staticcheck
)
