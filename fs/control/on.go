package control

import (
	"context"

	"dmfs/mapper"
)

// chosen are the verbs that on carries out.
var chosen = map[string]verb{
	"load": load, "resume": resume, "suspend": suspend, "remove": remove, "rename": rename, "setuuid": setUUID,
	"setgeometry": setGeometry, "message": message, "clear": clearInactive,
}

// on is for callers who do with one command what an ioctl does: "on SELECTOR [inactive] VERB WORDS" carries out VERB, without the
// name among its words, for the device that name=, uuid=, dev= or minor= selects, and answers with the state of that very device as
// the command has left it, or found it if it is removed. "on new create NAME OPTIONS" answers with the device that it made.
func on(ctx context.Context, s *Session, a *args) (string, error) {
	selector, err := a.next("new, name=, uuid=, dev= or minor=")
	if err != nil {
		return "", err
	}
	verbs := map[string]verb{"create": create}
	if selector != "new" {
		verbs = chosen
		a.words = append([]string{selector}, a.words...)
		if a.dev, err = s.selector(a); err != nil {
			return "", err
		}
		if a.dev == nil {
			return "", mapper.BadArg("unexpected word", "%s, want new, name=, uuid=, dev= or minor=", mapper.ShowArg(selector))
		}
	}
	var sel selection
	a.flags(map[string]*bool{"inactive": &sel.inactive})
	name, err := a.next("a command")
	if err != nil {
		return "", err
	}
	v := verbs[name]
	if v == nil {
		return "", mapper.BadArg("unexpected command", "%s", mapper.ShowArg(name))
	}
	doc, err := s.carryOut(ctx, v, a, sel)
	if err != nil {
		return "", err
	}
	doc.Resumed = doc.Resumed && name == "resume"
	return document(doc)
}

// carryOut runs v and returns what on answers, where Resumed is of a resume.
func (s *Session) carryOut(ctx context.Context, v verb, a *args, sel selection) (doc Document, err error) {
	var before Device
	if a.dev != nil {
		if before, err = describe(ctx, a.dev, sel); err != nil {
			return doc, err
		}
	}
	reply, err := v(ctx, s, a)
	if err != nil {
		return doc, err
	}
	after, err := describe(ctx, a.dev, sel)
	if err != nil {
		return doc, err
	}
	if doc.Removed = s.m.ByID(a.dev.ID()) == nil; doc.Removed {
		after = before
	}
	doc.Resumed = before.Suspended || before.Inactive
	doc.Reply, doc.RawReply = reply, raw(reply)
	doc.Devices = []Device{after}
	return doc, nil
}
