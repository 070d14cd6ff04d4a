package fs

import (
	"fmt"
	"os"
	"time"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// DriverVersion is the version of the kernel's device mapper interface that the mount speaks.
const DriverVersion = "4.47.0"

// Options are how a mount is made.
type Options struct {
	MountPoint    string   // absolute
	Source        string   // what the first field of /proc/mounts says
	AllowOther    bool     // users other than the one who mounts may use it
	AllowRoot     bool     // root may
	KernelOptions []string // handed to mount(2) or fusermount3 as they are
	Direct        bool     // mount(2) instead of fusermount3
	Version       string   // of the program
}

// A Server is a mount that is being served.
type Server struct {
	engine *engine
	tree   *tree
	done   chan struct{}
}

// Mount shows the devices of m at o.MountPoint. They are served when it returns. If it fails nothing is mounted.
func Mount(m *mapper.Manager, o Options) (*Server, error) {
	t := newTree(m, control.Version{
		Program: o.Version, Driver: DriverVersion, PID: os.Getpid(), MountPoint: o.MountPoint, Major: m.Major(),
	})
	t.rootOnly = o.AllowRoot && !o.AllowOther
	e, err := attachEngine(t, o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.MountPoint, err)
	}
	s := &Server{engine: e, tree: t, done: make(chan struct{})}
	m.SetMountDev(e.dev)
	m.Observe(s)
	go func() {
		defer close(s.done)
		e.serve()
	}()
	return s, nil
}

// Done is closed when the file system was unmounted and the last request answered.
func (s *Server) Done() <-chan struct{} { return s.done }

// Changed implements mapper.Observer.
func (s *Server) Changed(d *mapper.Device) {
	s.tree.forgetAllocated(d)
	dropped := make(chan struct{})
	go func() {
		defer close(dropped)
		// Dirty pages of shared mappings are written back first, which takes the device's own I/O.
		s.engine.dropCache(deviceNode(d, dataFile), !d.Info().Suspended)
	}()
	const patience = time.Second // a device below may be suspended
	select {
	case <-dropped:
	case <-time.After(patience):
	}
}

// Gone implements mapper.Observer.
func (s *Server) Gone(d *mapper.Device) { s.tree.forgetAllocated(d) }
