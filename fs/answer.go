package fs

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// This file translates requests into calls of tree and their results into replies, and nothing else.

// answer carries out the request in msg, which is in w's buffer, and replies to it.
func (w *worker) answer(msg []byte) {
	h := *view[fusefs.InHeader](msg)
	switch h.Opcode {
	case opRead:
		w.read(msg)
	case opWrite:
		w.writeData(msg)
	case opReadDir:
		w.readDir(msg)
	case opForget:
		w.e.t.aliases.forget(h.NodeId)
	case opBatchForget:
		w.batchForget(msg)
	case opInterrupt:
		if in := view[fusefs.InterruptIn](msg); in != nil {
			w.e.interrupt(h.Unique, in.Unique)
		}
	default:
		n, status := w.small(&h, msg)
		w.replySmall(h.Unique, n, status)
	}
}

// small carries out a request whose reply has a small body and returns its length.
func (w *worker) small(h *fusefs.InHeader, msg []byte) (n int, status unix.Errno) {
	switch h.Opcode {
	case opLookup:
		return w.lookup(h, msg)
	case opGetAttr:
		return w.attributes(w.e.t.attributes(h.NodeId))
	case opSetAttr:
		return w.setAttributes(h, msg)
	case opOpen:
		return w.open(h, msg)
	case opOpenDir:
		return w.openDir(h)
	case opStatFS:
		return w.statFS()
	case opRelease:
		return w.release(h, msg)
	case opReleaseDir:
		if in := view[fusefs.ReleaseIn](msg); in != nil {
			w.e.t.handles.remove(in.Fh)
		}
		return 0, 0
	case opFsync:
		return w.fsync(h, msg)
	case opFlush:
		return w.flush(h, msg)
	case opFallocate:
		return w.fallocate(h, msg)
	case opLseek:
		return w.seek(h, msg)
	case opIoctl:
		return w.ioctl(msg)
	case opFsyncDir, opDestroy:
		return 0, 0
	case opCreate, opMknod, opMkdir, opSymlink, opLink, opUnlink, opRmdir, opRename, opRename2, opTmpFile:
		return 0, unix.EPERM // devices are made through the control file
	}
	return 0, unix.ENOSYS // and the kernel does not ask again
}

// size returns the size of a body.
func size[T any](*T) int { return int(unsafe.Sizeof(*new(T))) }

func (t *tree) fill(a attributes, out *fusefs.Attr) {
	out.Ino, out.Size, out.Blocks = a.node, uint64(a.size), uint64(a.blocks)
	out.Mode, out.Nlink = a.mode, a.links
	out.Uid, out.Gid = t.uid, t.gid
	out.Blksize = 4096
	out.SetTimes(&t.started, &t.started, &t.started)
}

func (w *worker) lookup(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	if !w.e.t.admits(h.Uid) {
		return 0, unix.EACCES
	}
	name, _, ok := bytes.Cut(msg[inHeaderSize:], []byte{0})
	if !ok {
		return 0, unix.EINVAL
	}
	a, node, e := w.e.t.lookup(h.NodeId, string(name))
	if e != 0 {
		return 0, e
	}
	out := body[fusefs.EntryOut](w)
	out.NodeId = node
	w.e.t.fill(a, &out.Attr)
	return size(out), 0
}

func (w *worker) attributes(a attributes, e unix.Errno) (int, unix.Errno) {
	if e != 0 {
		return 0, e
	}
	out := body[fusefs.AttrOut](w)
	w.e.t.fill(a, &out.Attr)
	return size(out), 0
}

func (w *worker) setAttributes(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.SetAttrIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	var mode, uid, gid *uint32
	if in.Valid&fusefs.FATTR_MODE != 0 {
		mode = &in.Mode
	}
	if in.Valid&fusefs.FATTR_UID != 0 {
		uid = &in.Owner.Uid
	}
	if in.Valid&fusefs.FATTR_GID != 0 {
		gid = &in.Owner.Gid
	}
	return w.attributes(w.e.t.setAttributes(h.NodeId, mode, uid, gid))
}

func (w *worker) open(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	t := w.e.t
	in := view[fusefs.OpenIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	if !t.admits(h.Uid) {
		return 0, unix.EACCES
	}
	out := body[fusefs.OpenOut](w)
	if d, file := t.deviceOf(h.NodeId); d != nil && file == dataFile {
		handle, e := t.openData(d)
		if e != 0 {
			return 0, e
		}
		out.Fh = t.handles.add(handle)
		out.OpenFlags = dataFlags
		return size(out), 0
	}
	c := w.begin(h)
	defer w.done(c)
	handle, e := t.openText(c, h.NodeId, in.Flags&unix.O_ACCMODE != unix.O_RDONLY)
	if e != 0 {
		return 0, e
	}
	out.Fh = t.handles.add(handle)
	out.OpenFlags = fusefs.FOPEN_DIRECT_IO
	return size(out), 0
}

// dataFlags say how the kernel treats an open device file. Nothing is cached. Writes run side by side, under the lock of the inode,
// which they share, unless they append or go past the end; fsync and fallocate take it alone. close(2) needs nothing of us, and
// older kernels, 6.1 among them, would take it alone for that, too: a process that is killed could not end before the writes of others had.
const dataFlags = fusefs.FOPEN_DIRECT_IO | fusefs.FOPEN_PARALLEL_DIRECT_WRITES | fusefs.FOPEN_NOFLUSH

// release is the last close.
func (w *worker) release(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.ReleaseIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	c := w.begin(h)
	defer w.done(c)
	switch handle := w.e.t.handles.remove(in.Fh).(type) {
	case *dataHandle:
		handle.release()
	case *textHandle:
		handle.release(c)
	}
	return 0, 0
}

func (w *worker) read(msg []byte) {
	in := view[fusefs.ReadIn](msg)
	if in == nil || in.Size > maxWrite || in.Offset > math.MaxInt64 {
		w.replySmall(view[fusefs.InHeader](msg).Unique, 0, unix.EINVAL)
		return
	}
	// From here on the request is not looked at any more: what is read replaces it.
	unique, n, off, handle := in.Unique, int(in.Size), int64(in.Offset), w.e.t.handles.get(in.Fh)
	c := w.begin(&in.InHeader)
	e := unix.EBADF
	switch handle := handle.(type) {
	case *dataHandle:
		if handle.waits() {
			if e = w.await(handle, c); e != 0 {
				w.done(c)
				w.write(bytesOf(new(fusefs.OutHeader)), unique, e)
				return
			}
		}
		w.buf.suit(n)
		n, e = handle.read(c, w.buf.payload(n), off)
	case *textHandle:
		n, e = handle.read(c, w.buf.payload(n), off)
	}
	w.done(c)
	w.replyData(unique, n, e)
}

// await waits without a buffer until h's device is not suspended. If it fails w has no buffer any more.
func (w *worker) await(h *dataHandle, c *caller) unix.Errno {
	w.giveBuffer()
	if e := h.await(c); e != 0 {
		return e
	}
	return w.takeBuffer()
}

func (w *worker) writeData(msg []byte) {
	in := view[fusefs.WriteIn](msg)
	if in == nil || int(in.Size) != len(msg)-writeInSize || in.Offset > math.MaxInt64 {
		w.replySmall(view[fusefs.InHeader](msg).Unique, 0, unix.EINVAL)
		return
	}
	data := msg[writeInSize:]
	c := w.begin(&in.InHeader)
	n, e := 0, unix.EBADF
	switch handle := w.e.t.handles.get(in.Fh).(type) {
	case *dataHandle:
		w.buf.suit(len(data))
		n, e = handle.write(c, data, int64(in.Offset), in.Flags&unix.O_DSYNC != 0)
	case *textHandle:
		n, e = handle.write(c, data)
	}
	w.done(c)
	out := body[fusefs.WriteOut](w)
	out.Size = uint32(n)
	w.replySmall(in.Unique, size(out), e)
}

func (w *worker) fsync(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.FsyncIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	handle, ok := w.e.t.handles.get(in.Fh).(*dataHandle)
	if !ok {
		return 0, 0
	}
	c := w.begin(h)
	defer w.done(c)
	return 0, handle.sync(c)
}

// flush is sent for each close(2).
func (w *worker) flush(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.FlushIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	handle, ok := w.e.t.handles.get(in.Fh).(*textHandle)
	if !ok {
		return 0, 0
	}
	c := w.begin(h)
	defer w.done(c)
	return 0, handle.flush(c)
}

func (w *worker) fallocate(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.FallocateIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	handle, ok := w.e.t.handles.get(in.Fh).(*dataHandle)
	if !ok {
		return 0, unix.ENODEV
	}
	if in.Offset > math.MaxInt64 || in.Length > math.MaxInt64 {
		return 0, unix.EFBIG
	}
	c := w.begin(h)
	defer w.done(c)
	return 0, handle.allocate(c, in.Mode, int64(in.Offset), int64(in.Length))
}

// seek never answers ENOSYS, which would end SEEK_DATA for all files.
func (w *worker) seek(h *fusefs.InHeader, msg []byte) (int, unix.Errno) {
	in := view[fusefs.LseekIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	handle, ok := w.e.t.handles.get(in.Fh).(*dataHandle)
	if !ok || in.Offset > math.MaxInt64 {
		return 0, unix.ENXIO
	}
	c := w.begin(h)
	defer w.done(c)
	at, e := handle.seek(c, int64(in.Offset), in.Whence)
	out := body[fusefs.LseekOut](w)
	out.Offset = uint64(at)
	return size(out), e
}

func (w *worker) ioctl(msg []byte) (int, unix.Errno) {
	in := view[fusefs.IoctlIn](msg)
	if in == nil {
		return 0, unix.EINVAL
	}
	handle, ok := w.e.t.handles.get(in.Fh).(*dataHandle)
	if !ok {
		return 0, unix.ENOTTY
	}
	out := body[fusefs.IoctlOut](w)
	data := w.buf.small()[outHeaderSize+size(out):]
	data = data[:min(len(data), int(in.OutSize))]
	clear(data)
	return size(out) + len(data), handle.ioctl(in.Cmd, data)
}

// openDir: a directory is listed as it was when it was opened.
func (w *worker) openDir(h *fusefs.InHeader) (int, unix.Errno) {
	t := w.e.t
	if !t.admits(h.Uid) {
		return 0, unix.EACCES
	}
	list, e := t.list(h.NodeId)
	if e != 0 {
		return 0, e
	}
	out := body[fusefs.OpenOut](w)
	out.Fh = t.handles.add(list)
	return size(out), 0
}

func (w *worker) readDir(msg []byte) {
	in := view[fusefs.ReadIn](msg)
	if in == nil || in.Size > maxWrite {
		w.replySmall(view[fusefs.InHeader](msg).Unique, 0, unix.EINVAL)
		return
	}
	unique, node, from := in.Unique, in.NodeId, in.Offset
	list, ok := w.e.t.handles.get(in.Fh).([]entry)
	if !ok {
		w.replySmall(unique, 0, unix.EBADF)
		return
	}
	dots := [...]entry{{".", node, unix.S_IFDIR}, {"..", rootNode, unix.S_IFDIR}}
	out := w.buf.payload(int(in.Size))[:0]
	for i := from; i < uint64(len(dots)+len(list)); i++ {
		var e entry
		if i < uint64(len(dots)) {
			e = dots[i]
		} else {
			e = list[i-uint64(len(dots))]
		}
		if out, ok = appendDirent(out, e, i+1); !ok {
			break
		}
	}
	w.replyData(unique, len(out), 0)
}

func (w *worker) batchForget(msg []byte) {
	for rest := msg[min(len(msg), inHeaderSize+8):]; len(rest) >= forgetOneSize; rest = rest[forgetOneSize:] {
		w.e.t.aliases.forget(binary.NativeEndian.Uint64(rest))
	}
}

// statFS: the block size is what tools take for the alignment of I/O.
func (w *worker) statFS() (int, unix.Errno) {
	const block = 4096
	out := body[fusefs.StatfsOut](w)
	for _, d := range w.e.t.m.Devices() {
		out.Blocks += uint64(d.Size()) / block
	}
	out.Bsize, out.Frsize, out.NameLen = block, block, 127
	return size(out), 0
}
