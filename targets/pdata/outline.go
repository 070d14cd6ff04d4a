package pdata

// An outline is what a look-up needs to know of a node besides one entry. It lies in the buf, where the look-up is anyway: header, first
// and last key and the searched ones of a node that is in no cache of the processor are one wait for memory each. Where keys follow each
// other without gaps, as those of a filled device do, what is left is one, for the value.
type outline struct {
	first, last uint64 // keys
	len, cap    uint16 // entries, and for how many there is room; len 0: the keys mean nothing
	size        uint16 // of a value, in bytes
	leaf        bool
}

func (n node) outline() outline {
	o := outline{len: uint16(n.len()), cap: uint16(n.cap()), size: uint16(n.size()), leaf: n.leaf()}
	if o.len > 0 {
		o.first, o.last = n.key(0), n.key(n.len()-1)
	}
	return o
}

// note keeps the outline of a node that does not change until it is dirty again.
func (n *buf) note() {
	if n.kind == &NodeKind {
		n.noted = node(n.data).outline()
		n.isNoted.Store(true)
	}
}

// outline returns the outline of a node.
func (n *buf) outline() outline {
	if n.isNoted.Load() {
		return n.noted
	}
	return node(n.data).outline()
}

// seek is find for a node whose outline is o. exact says that the key of the entry is k.
func (n node) seek(o *outline, k uint64) (i int, exact bool) {
	most := int(o.len) - 1
	if most < 0 || k < o.first {
		return -1, false
	}
	if k >= o.last {
		return most, k == o.last
	}
	span := o.last - o.first
	if span == uint64(most) {
		return int(k - o.first), true
	}
	low, high := 0, most // key(low) <= k < key(high)
	const narrow = 1 << 48
	if span < narrow { // keys are often at even distances, so that the first try is right or next to it
		switch try := int((k - o.first) * uint64(most) / span); {
		case n.key(try) > k:
			if high = try; n.key(try-1) <= k {
				low = try - 1
			}
		default:
			if low = try; n.key(try+1) > k {
				high = try + 1
			}
		}
	}
	for high-low > 1 {
		if i := int(uint(low+high) / 2); n.key(i) > k {
			high = i
		} else {
			low = i
		}
	}
	return low, n.key(low) == k
}

// at returns value i of a node whose outline is o.
func (n node) at(o *outline, i int) []byte {
	from := nodeHeader + int(o.cap)*keySize + i*int(o.size)
	return n[from : from+int(o.size)]
}
