package mapper

import "fmt"

// A Registry knows the target types a table may use. It is filled before the first table is
// loaded and only read after.
type Registry struct {
	types []*Type
	byNam map[string]*Type
}

// Register adds a type. Two types of one name are a mistake in the program.
func (g *Registry) Register(t *Type) {
	if g.byNam == nil {
		g.byNam = make(map[string]*Type)
	}
	if g.byNam[t.Name] != nil {
		panic(fmt.Sprintf("mapper: target type %q registered twice", t.Name))
	}
	g.byNam[t.Name] = t
	g.types = append(g.types, t)
}

// Lookup returns the type of that name, or nil.
func (g *Registry) Lookup(name string) *Type { return g.byNam[name] }

// Types returns all types in the order they were registered. The slice is the registry's own.
func (g *Registry) Types() []*Type { return g.types }

// hint lists the types there are, for whoever named another.
func (g *Registry) hint() string {
	text := "known are"
	for _, t := range g.types {
		text += " " + t.Name
	}
	return text
}
