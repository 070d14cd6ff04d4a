package fs

// An engine reads requests from /dev/fuse, calls the methods of tree and writes the replies. It owns the buffers
// of requests: what it passes to tree is lent until the method returns.
type engine interface {
	// serve answers requests until the file system is unmounted.
	serve()
	// unmount detaches the mount; the error wraps EBUSY while it is in use.
	unmount() error
	// dropCache makes the kernel forget the attributes and, if data, the cached pages of a file.
	dropCache(node uint64, data bool)
}

const (
	// maxWrite is the most data of one request, in bytes: what the kernel allows by default.
	maxWrite = 1 << 20
	// maxRequestBytes bounds the buffers of requests that are being carried out.
	maxRequestBytes = 256 << 20
	// maxWaitingBytes bounds the data of writes that wait for a suspended device.
	maxWaitingBytes = maxRequestBytes / 2
	// maxBackground is how many asynchronous requests the kernel sends at a time.
	maxBackground = 128
)
