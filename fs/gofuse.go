package fs

import (
	"io"
	"log"
	"math"
	"runtime"
	"sync"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// goFuse is the engine that stands on go-fuse's raw API. It translates requests into calls of tree
// and their results into replies, and nothing else.
type goFuse struct {
	fusefs.RawFileSystem // answers what is not here with ENOSYS
	t                    *tree
	server               *fusefs.Server
}

var _ engine = (*goFuse)(nil)

// newGoFuse mounts t. Requests are answered once serve runs.
func newGoFuse(t *tree, o Options) (*goFuse, error) {
	g := &goFuse{RawFileSystem: fusefs.NewDefaultRawFileSystem(), t: t}
	options := append([]string{"default_permissions"}, o.KernelOptions...)
	server, err := fusefs.NewServer(g, o.MountPoint, &fusefs.MountOptions{
		AllowOther:              o.AllowOther || o.AllowRoot, // the kernel has no allow_root: see tree.admits
		Options:                 options,
		FsName:                  o.Source,
		Name:                    "dmfs",
		MaxWrite:                maxWrite,
		MaxBackground:           maxBackground,
		MaxInflightRequestBytes: maxRequestBytes,
		DisableXAttrs:           true,
		DisableReadDirPlus:      true,
		DisableSplice:           true, // slower on every workload measured, and impossible at maxWrite
		DirectMountStrict:       o.Direct,
		ExtraCapabilities:       fusefs.CAP_ASYNC_DIO | fusefs.CAP_DIRECT_IO_ALLOW_MMAP,
		Logger:                  log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, err
	}
	g.server = server
	spareProcessors.Do(func() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spare) })
	return g, nil
}

// A reader that waits for the next request sits in a system call. After 20 µs there the Go scheduler takes a thread's
// processor away, unless another is idle, and then every request begins with getting one back. So there are
// some more of them than go-fuse has readers, whose number it took from GOMAXPROCS when the server was made.
// Measured on two CPUs with fio, 4 KiB reads one at a time, alternating rounds against none spare: 1.18 times the IOPS in
// one run, 1.08 in another; at a depth of 32 and at 1 MiB no difference beyond the noise.
const spare = 2

var spareProcessors sync.Once

func (g *goFuse) serve() { g.server.Serve() }

func (g *goFuse) unmount() error { return g.server.Unmount() }

func (g *goFuse) dropCache(node uint64, data bool) {
	off := int64(-1) // attributes only
	if data {
		off = 0
	}
	g.server.InodeNotify(node, off, 0) // an inode that the kernel does not know has no cache
}

// String implements fusefs.RawFileSystem.
func (*goFuse) String() string { return "dmfs" }

func fill(a attributes, t *tree, out *fusefs.Attr) {
	out.Ino, out.Size, out.Blocks = a.node, uint64(a.size), uint64(a.blocks)
	out.Mode, out.Nlink = a.mode, a.links
	out.Uid, out.Gid = t.uid, t.gid
	out.Blksize = 4096
	out.SetTimes(&t.started, &t.started, &t.started)
}

// Lookup implements fusefs.RawFileSystem.
func (g *goFuse) Lookup(_ <-chan struct{}, in *fusefs.InHeader, name string, out *fusefs.EntryOut) fusefs.Status {
	if !g.t.admits(in.Uid) {
		return fusefs.EACCES
	}
	a, node, e := g.t.lookup(in.NodeId, name)
	if e != 0 {
		return fusefs.Status(e)
	}
	out.NodeId = node
	fill(a, g.t, &out.Attr)
	return fusefs.OK
}

// Forget implements fusefs.RawFileSystem.
func (g *goFuse) Forget(node, _ uint64) { g.t.aliases.forget(node) }

// GetAttr implements fusefs.RawFileSystem.
func (g *goFuse) GetAttr(_ <-chan struct{}, in *fusefs.GetAttrIn, out *fusefs.AttrOut) fusefs.Status {
	a, e := g.t.attributes(in.NodeId)
	fill(a, g.t, &out.Attr)
	return fusefs.Status(e)
}

// SetAttr implements fusefs.RawFileSystem.
func (g *goFuse) SetAttr(_ <-chan struct{}, in *fusefs.SetAttrIn, out *fusefs.AttrOut) fusefs.Status {
	var mode, uid, gid *uint32
	if in.Valid&fusefs.FATTR_MODE != 0 {
		mode = &in.Mode
	}
	if in.Valid&fusefs.FATTR_UID != 0 {
		uid = &in.Uid
	}
	if in.Valid&fusefs.FATTR_GID != 0 {
		gid = &in.Gid
	}
	a, e := g.t.setAttributes(in.NodeId, mode, uid, gid)
	fill(a, g.t, &out.Attr)
	return fusefs.Status(e)
}

// Open implements fusefs.RawFileSystem.
func (g *goFuse) Open(cancel <-chan struct{}, in *fusefs.OpenIn, out *fusefs.OpenOut) fusefs.Status {
	if !g.t.admits(in.Uid) {
		return fusefs.EACCES
	}
	if d, file := g.t.deviceOf(in.NodeId); d != nil && file == dataFile {
		h, e := g.t.openData(d)
		if e != 0 {
			return fusefs.Status(e)
		}
		out.Fh = g.t.handles.add(h)
		out.OpenFlags = fusefs.FOPEN_DIRECT_IO | fusefs.FOPEN_PARALLEL_DIRECT_WRITES
		return fusefs.OK
	}
	c := newCaller(in.Pid, cancel)
	defer c.end()
	h, e := g.t.openText(c, in.NodeId, in.Flags&unix.O_ACCMODE != unix.O_RDONLY)
	if e != 0 {
		return fusefs.Status(e)
	}
	out.Fh = g.t.handles.add(h)
	out.OpenFlags = fusefs.FOPEN_DIRECT_IO
	return fusefs.OK
}

// A readResult hands a buffer of the engine back to it. It comes from a pool, as one is needed for
// every read.
type readResult struct{ data []byte }

var readResults = sync.Pool{New: func() any { return new(readResult) }}

// Bytes implements fusefs.ReadResult.
func (r *readResult) Bytes([]byte) ([]byte, fusefs.Status) { return r.data, fusefs.OK }

// Size implements fusefs.ReadResult.
func (r *readResult) Size() int { return len(r.data) }

// Done implements fusefs.ReadResult.
func (r *readResult) Done() {
	r.data = nil
	readResults.Put(r)
}

// Read implements fusefs.RawFileSystem.
func (g *goFuse) Read(cancel <-chan struct{}, in *fusefs.ReadIn, buf []byte) (fusefs.ReadResult, fusefs.Status) {
	if in.Offset > math.MaxInt64 {
		return nil, fusefs.EINVAL
	}
	c := newCaller(in.Pid, cancel)
	defer c.end()
	n, e := 0, unix.EBADF
	switch h := g.t.handles.get(in.Fh).(type) {
	case *dataHandle:
		n, e = h.read(c, buf, int64(in.Offset))
	case *textHandle:
		n, e = h.read(c, buf, int64(in.Offset))
	}
	if e != 0 {
		return nil, fusefs.Status(e)
	}
	r := readResults.Get().(*readResult)
	r.data = buf[:n]
	return r, fusefs.OK
}

// Write implements fusefs.RawFileSystem.
func (g *goFuse) Write(cancel <-chan struct{}, in *fusefs.WriteIn, data []byte) (uint32, fusefs.Status) {
	if in.Offset > math.MaxInt64 {
		return 0, fusefs.EINVAL
	}
	c := newCaller(in.Pid, cancel)
	defer c.end()
	n, e := 0, unix.EBADF
	switch h := g.t.handles.get(in.Fh).(type) {
	case *dataHandle:
		n, e = h.write(c, data, int64(in.Offset), in.Flags&unix.O_DSYNC != 0)
	case *textHandle:
		n, e = h.write(c, data)
	}
	return uint32(n), fusefs.Status(e)
}

// Fsync implements fusefs.RawFileSystem.
func (g *goFuse) Fsync(cancel <-chan struct{}, in *fusefs.FsyncIn) fusefs.Status {
	c := newCaller(in.Pid, cancel)
	defer c.end()
	if h, ok := g.t.handles.get(in.Fh).(*dataHandle); ok {
		return fusefs.Status(h.sync(c))
	}
	return fusefs.OK
}

// Flush implements fusefs.RawFileSystem: it is sent for each close(2).
func (g *goFuse) Flush(cancel <-chan struct{}, in *fusefs.FlushIn) fusefs.Status {
	c := newCaller(in.Pid, cancel)
	defer c.end()
	if h, ok := g.t.handles.get(in.Fh).(*textHandle); ok {
		return fusefs.Status(h.flush(c))
	}
	return fusefs.OK
}

// Release implements fusefs.RawFileSystem: the last close.
func (g *goFuse) Release(cancel <-chan struct{}, in *fusefs.ReleaseIn) {
	c := newCaller(in.Pid, cancel)
	defer c.end()
	switch h := g.t.handles.remove(in.Fh).(type) {
	case *dataHandle:
		h.release()
	case *textHandle:
		h.release(c)
	}
}

// Fallocate implements fusefs.RawFileSystem.
func (g *goFuse) Fallocate(cancel <-chan struct{}, in *fusefs.FallocateIn) fusefs.Status {
	h, ok := g.t.handles.get(in.Fh).(*dataHandle)
	if !ok {
		return fusefs.Status(unix.ENODEV)
	}
	if in.Offset > math.MaxInt64 || in.Length > math.MaxInt64 {
		return fusefs.Status(unix.EFBIG)
	}
	c := newCaller(in.Pid, cancel)
	defer c.end()
	return fusefs.Status(h.allocate(c, in.Mode, int64(in.Offset), int64(in.Length)))
}

// Lseek implements fusefs.RawFileSystem. It never answers ENOSYS, which would end SEEK_DATA for all files.
func (g *goFuse) Lseek(cancel <-chan struct{}, in *fusefs.LseekIn, out *fusefs.LseekOut) fusefs.Status {
	h, ok := g.t.handles.get(in.Fh).(*dataHandle)
	if !ok || in.Offset > math.MaxInt64 {
		return fusefs.Status(unix.ENXIO)
	}
	c := newCaller(in.Pid, cancel)
	defer c.end()
	at, e := h.seek(c, int64(in.Offset), in.Whence)
	out.Offset = uint64(at)
	return fusefs.Status(e)
}

// Ioctl implements fusefs.RawFileSystem.
func (g *goFuse) Ioctl(_ <-chan struct{}, in *fusefs.IoctlIn, _ []byte, _ *fusefs.IoctlOut, out []byte) fusefs.Status {
	if h, ok := g.t.handles.get(in.Fh).(*dataHandle); ok {
		return fusefs.Status(h.ioctl(in.Cmd, out))
	}
	return fusefs.Status(unix.ENOTTY)
}

// OpenDir implements fusefs.RawFileSystem. A directory is listed as it was when it was opened.
func (g *goFuse) OpenDir(_ <-chan struct{}, in *fusefs.OpenIn, out *fusefs.OpenOut) fusefs.Status {
	if !g.t.admits(in.Uid) {
		return fusefs.EACCES
	}
	list, e := g.t.list(in.NodeId)
	if e != 0 {
		return fusefs.Status(e)
	}
	out.Fh = g.t.handles.add(list)
	return fusefs.OK
}

// ReadDir implements fusefs.RawFileSystem.
func (g *goFuse) ReadDir(_ <-chan struct{}, in *fusefs.ReadIn, out *fusefs.DirEntryList) fusefs.Status {
	list, ok := g.t.handles.get(in.Fh).([]entry)
	if !ok {
		return fusefs.EBADF
	}
	dots := []entry{{".", in.NodeId, unix.S_IFDIR}, {"..", rootNode, unix.S_IFDIR}}
	for i := in.Offset; i < uint64(len(dots)+len(list)); i++ {
		var e entry
		if i < uint64(len(dots)) {
			e = dots[i]
		} else {
			e = list[i-uint64(len(dots))]
		}
		if !out.AddDirEntry(fusefs.DirEntry{Name: e.name, Ino: e.node, Mode: e.mode, Off: i + 1}) {
			break
		}
	}
	return fusefs.OK
}

// ReleaseDir implements fusefs.RawFileSystem.
func (g *goFuse) ReleaseDir(in *fusefs.ReleaseIn) { g.t.handles.remove(in.Fh) }

// FsyncDir implements fusefs.RawFileSystem.
func (*goFuse) FsyncDir(<-chan struct{}, *fusefs.FsyncIn) fusefs.Status { return fusefs.OK }

// StatFs implements fusefs.RawFileSystem. The block size is what tools take for the alignment of I/O.
func (g *goFuse) StatFs(_ <-chan struct{}, _ *fusefs.InHeader, out *fusefs.StatfsOut) fusefs.Status {
	const block = 4096
	for _, d := range g.t.m.Devices() {
		out.Blocks += uint64(d.Size()) / block
	}
	out.Bsize, out.Frsize, out.NameLen = block, block, 127
	return fusefs.OK
}

// Create implements fusefs.RawFileSystem: devices are made through the control file.
func (*goFuse) Create(<-chan struct{}, *fusefs.CreateIn, string, *fusefs.CreateOut) fusefs.Status {
	return fusefs.EPERM
}

// Mknod implements fusefs.RawFileSystem.
func (*goFuse) Mknod(<-chan struct{}, *fusefs.MknodIn, string, *fusefs.EntryOut) fusefs.Status {
	return fusefs.EPERM
}

// Mkdir implements fusefs.RawFileSystem.
func (*goFuse) Mkdir(<-chan struct{}, *fusefs.MkdirIn, string, *fusefs.EntryOut) fusefs.Status {
	return fusefs.EPERM
}

// Unlink implements fusefs.RawFileSystem.
func (*goFuse) Unlink(<-chan struct{}, *fusefs.InHeader, string) fusefs.Status { return fusefs.EPERM }

// Rmdir implements fusefs.RawFileSystem.
func (*goFuse) Rmdir(<-chan struct{}, *fusefs.InHeader, string) fusefs.Status { return fusefs.EPERM }

// Rename implements fusefs.RawFileSystem.
func (*goFuse) Rename(<-chan struct{}, *fusefs.RenameIn, string, string) fusefs.Status {
	return fusefs.EPERM
}

// Link implements fusefs.RawFileSystem.
func (*goFuse) Link(<-chan struct{}, *fusefs.LinkIn, string, *fusefs.EntryOut) fusefs.Status {
	return fusefs.EPERM
}

// Symlink implements fusefs.RawFileSystem.
func (*goFuse) Symlink(<-chan struct{}, *fusefs.InHeader, string, string, *fusefs.EntryOut) fusefs.Status {
	return fusefs.EPERM
}
