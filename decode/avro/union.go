package avro

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// memberPrefix begins the name of the field that a type of a union has in a struct.
const memberPrefix = "member_"

// memberNames are the names of a union's types as fields of a struct: member_int, member_order, as Spark's from_avro has them with
// enableStableIdentifiersForUnionType. Where the names of two types differ by their namespace alone, or by case, that is a part of it. "" for null.
func memberNames(w *node) []string {
	short, uses := make([]string, len(w.branches)), map[string]int{}
	for i, branch := range w.branches {
		name := branch.kind.String()
		if branch.name != "" {
			name = unqualified(branch.name)
		}
		short[i] = strings.ToLower(name)
		uses[short[i]]++
	}
	out := make([]string, len(w.branches))
	for i, branch := range w.branches {
		switch {
		case branch.kind == kindNull:
		case uses[short[i]] > 1 && branch.name != "":
			out[i] = fullMember(branch)
		default:
			out[i] = memberPrefix + short[i]
		}
	}
	return out
}

func fullMember(n *node) string { return memberPrefix + strings.ReplaceAll(n.name, ".", "_") }

// numbered are the fields member0, member1, ... of a struct by their numbers, as Spark's from_avro names them by default.
func numbered(n *decode.Node) map[int]*decode.Node {
	out := map[int]*decode.Node{}
	if n == nil {
		return out
	}
	for _, f := range n.Fields {
		if digits, ok := strings.CutPrefix(f.Name, "member"); ok {
			if at, err := strconv.Atoi(digits); err == nil && strconv.Itoa(at) == digits && at >= 0 {
				out[at] = f
			}
		}
	}
	return out
}

// members gives each type of a union the fields of n that are its, by the type's name, or by what numbered fields hold: first that of the struct, if there is one,
// then those that only computed columns read. With a reader's union the types count by its names and in its order. has is whether n has such fields.
func members(w, r *node, n *decode.Node) (out [][]*decode.Node, has bool) {
	out = make([][]*decode.Node, len(w.branches))
	if n == nil || len(n.Fields) == 0 {
		return out, false
	}
	as := w.readAs(r)
	add := func(i int, f *decode.Node) {
		if f == nil || slices.Contains(out[i], f) {
			return
		}
		has = true
		if f.Index >= 0 {
			out[i] = slices.Insert(out[i], 0, f)
		} else {
			out[i] = append(out[i], f)
		}
	}
	for i, name := range memberNames(as) {
		if as.branches[i].name != "" {
			add(i, columnOf(n, fullMember(as.branches[i])))
		}
		if name != "" {
			add(i, columnOf(n, name))
		}
	}
	assignNumbered(out, w, as, r, numbered(n), add)
	return out, has
}

// readAs is a union with the reader's types where it has them, by whose names the types count.
func (n *node) readAs(r *node) *node {
	as := &node{kind: kindUnion, branches: slices.Clone(n.branches)}
	for i, branch := range n.branches {
		if named := n.matcher()(branch, r); named != nil {
			as.branches[i] = named
		}
	}
	return as
}

// matcher tells how the reader's type is found for one of a union's.
func (n *node) matcher() func(w, r *node) *node {
	if n.single || len(n.branches) == 2 && slices.ContainsFunc(n.branches, func(b *node) bool { return b.kind == kindNull }) {
		return onlyOne
	}
	return resolved
}

// assignNumbered gives types numbered fields: by their place in the reader's union, or else those of the struct whose column fits best, in the order of the
// schema where two fit as well.
func assignNumbered(out [][]*decode.Node, w, as, r *node, fields map[int]*decode.Node, add func(int, *decode.Node)) {
	order := w
	if r != nil && r.kind == kindUnion {
		order = r
	}
	byPlace, place := map[*node]*decode.Node{}, 0
	for _, branch := range order.branches {
		if branch.kind != kindNull {
			byPlace[branch] = fields[place]
			place++
		}
	}
	for i, branch := range w.branches {
		if order == r {
			add(i, byPlace[as.branches[i]])
		} else if f := byPlace[branch]; f != nil && f.Type == nil { // nothing tells what a field without a column of its own holds
			add(i, f)
		}
	}
	for taken := map[*decode.Node]bool{}; order != r; {
		best, branch, field := 0, 0, (*decode.Node)(nil)
		for i, b := range w.branches {
			if b.kind == kindNull || len(out[i]) > 0 && out[i][0].Index >= 0 {
				continue
			}
			for _, at := range slices.Sorted(maps.Keys(fields)) {
				if s := likeness(b, fields[at]); s > best && !taken[fields[at]] {
					best, branch, field = s, i, fields[at]
				}
			}
		}
		if field == nil {
			return
		}
		add(branch, field)
		taken[field] = true
	}
}

// likeness is how well a type's values fit a field that may have been made for it; 0: not at all.
func likeness(w *node, f *decode.Node) int {
	want, err := (&deriver{within: map[*node]bool{}}).typ(w, nil, "", nil)
	if err != nil || want == nil || f.Type == nil {
		return 0
	}
	a, b := want.ID(), f.Type.ID()
	switch {
	case arrow.TypeEqual(want, f.Type):
		return 1 << 20
	case a == arrow.STRUCT && b == arrow.STRUCT:
		same := 0
		for i := range w.fields {
			if columnOf(f, w.fields[i].name) != nil {
				same += 2
			}
		}
		return same
	case a == b, a == arrow.INT32 && b == arrow.INT64, a == arrow.FLOAT32 && b == arrow.FLOAT64:
		return 1
	}
	return 0
}

// ofOne makes a union of a single type that goes into a struct with a field for it; nil where the type goes into the struct itself, or into no struct.
func ofOne(w, r *node, n *decode.Node) *node {
	if n == nil || len(n.Fields) == 0 || w.kind == kindNull || w.kind == kindUnion || w.kind == kindMap && n.Type == nil || n.Type != nil && n.Type.ID() != arrow.STRUCT {
		return nil
	}
	for i := range w.fields {
		if columnOf(n, w.fields[i].name) != nil {
			return nil
		}
	}
	u := &node{kind: kindUnion, branches: []*node{w}, single: true}
	if _, has := members(u, r, n); !has {
		return nil
	}
	return u
}

// union compiles a union: of null and one type, which is what most are; as the struct of its members, where the column is one
// that has fields for them; or by the type of each. Fields below it are read from its members by their names, and from records of it by theirs.
func (c *compiler) union(w, r *node, n *decode.Node, b *decode.Builder) (value, error) {
	fields, has := members(w, r, n)
	null := slices.IndexFunc(w.branches, func(b *node) bool { return b.kind == kindNull })
	if len(w.branches) == 2 && null >= 0 && ofOne(w.branches[1-null], r, n) == nil {
		v, err := c.value(w.branches[1-null], r, n, b)
		v.nullable = uint8(null + 1)
		return v, err
	}
	v := value{op: opUnion, typ: w, path: n.Path, b: b}
	asStruct := has && b != nil && b.Kind == decode.KindStruct
	if asStruct {
		v.op = opMembers
	}
	below := *n // what each type is read for
	below.Computed = slices.DeleteFunc(slices.Clone(n.Computed), func(from *decode.Computed) bool { return from.Cast == decode.CastNone })
	below.Fields = slices.DeleteFunc(slices.Clone(n.Fields), func(f *decode.Node) bool {
		return has && (f.Index >= 0 || slices.ContainsFunc(fields, func(of []*decode.Node) bool { return slices.Contains(of, f) }))
	})
	fits := false
	for i, branch := range w.branches {
		out, err := c.branch(branch, w.matcher()(branch, r), below, fields[i], b, asStruct)
		if e, ok := err.(*decode.Mismatch); ok { //nolint:errorlint // never wrapped
			out = value{op: opRefuse, typ: branch, path: e.Path, refusal: e.Detail}
			err = nil
		}
		if err != nil {
			return v, err
		}
		fits = fits || out.op != opRefuse && out.op != opNull
		v.branches = append(v.branches, out)
	}
	if !fits && (len(w.branches) > 1 || null < 0) {
		return v, c.noMember(w, n, v.branches)
	}
	var misfits decode.Misfits
	for _, from := range n.Computed {
		if from.Cast != decode.CastNone {
			continue
		}
		out := computed{Computed: from, b: c.d.Batch.Columns[from.Column]}
		var err error
		out.value, err = c.value(w, r, from.Value, out.b)
		if err = misfits.Add(err); err != nil {
			return v, err
		}
		v.computed = append(v.computed, out)
	}
	v.extra = len(v.computed) > 0
	return v, misfits.Err()
}

// branch compiles one type of a union, whose fields are these.
func (c *compiler) branch(w, r *node, below decode.Node, fields []*decode.Node, b *decode.Builder, asStruct bool) (value, error) {
	if w.kind == kindNull {
		v, err := c.value(w, r, &decode.Node{Path: below.Path, Type: below.Type, Computed: below.Computed}, nil)
		v.op, v.b = opNull, b
		return v, err
	}
	if w.kind != kindRecord && w.kind != kindMap {
		below.Fields = nil // fields of other types: this one has none
	}
	n := &below
	if asStruct {
		if len(fields) == 0 || fields[0].Index < 0 {
			return value{}, &decode.Mismatch{Path: below.Path, Detail: fmt.Sprintf("the struct has no field for %s, such as %s", w.described(), memberNames(&node{branches: []*node{w}})[0])}
		}
		n, b = merged(*fields[0], below), b.Children[fields[0].Index]
		fields = fields[1:]
	}
	for _, f := range fields { // that are read only
		n = merged(*n, *f)
	}
	return c.value(w, r, n, b)
}

// merged is a member's node, with what is read of the union's own node besides.
func merged(n, more decode.Node) *decode.Node {
	n.Computed = slices.Concat(n.Computed, more.Computed)
	n.Below = slices.Concat(n.Below, more.Below)
	n.Fields = slices.Clone(n.Fields)
	for _, f := range more.Fields {
		if i := slices.IndexFunc(n.Fields, func(g *decode.Node) bool { return g.Name == f.Name }); i >= 0 {
			n.Fields[i] = merged(*n.Fields[i], *f)
		} else {
			n.Fields = append(n.Fields, f)
		}
	}
	return &n
}

func (c *compiler) noMember(w *node, n *decode.Node, refused []value) error {
	var why []string
	for i := range refused {
		if refused[i].op == opRefuse {
			why = append(why, refused[i].refusal)
		}
	}
	if n.Type == nil {
		return &decode.Mismatch{Path: n.Path, Detail: strings.Join(why, "; ")}
	}
	return &decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("%s fits no column of type %s: use a struct with a field for each type, %s",
		w, decode.TypeName(n.Type), strings.Join(slices.DeleteFunc(memberNames(w), func(s string) bool { return s == "" }), ", "))}
}
