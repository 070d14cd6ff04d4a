module dmfs

go 1.26.0

require (
	github.com/BurntSushi/toml v1.6.0 // the configuration file; the reader that reports positions and has no dependencies
	golang.org/x/sys v0.49.0 // Linux system calls and their constants beyond package syscall
)
