package fs

import "sync"

// A handleTable numbers what is open. The numbers are what the kernel calls file handles.
type handleTable struct {
	mu   sync.RWMutex
	open []any // *dataHandle, *textHandle or []entry; nil where free
	free []uint64
}

func (h *handleTable) add(v any) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.free); n > 0 {
		fh := h.free[n-1]
		h.free = h.free[:n-1]
		h.open[fh] = v
		return fh
	}
	h.open = append(h.open, v)
	return uint64(len(h.open) - 1)
}

// get returns what is open under fh, nil if nothing is.
func (h *handleTable) get(fh uint64) any {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if fh >= uint64(len(h.open)) {
		return nil
	}
	return h.open[fh]
}

func (h *handleTable) remove(fh uint64) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fh >= uint64(len(h.open)) || h.open[fh] == nil {
		return nil
	}
	v := h.open[fh]
	h.open[fh] = nil
	h.free = append(h.free, fh)
	return v
}
