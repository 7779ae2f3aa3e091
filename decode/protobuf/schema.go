// Package protobuf decodes Protobuf messages straight into Arrow buffers.
//
// It owns the reading of schemas (source text as a registry keeps it, or a descriptor set), the framing of a registry, what
// each field becomes in which column, and the decoder, which is compiled once for each message type and walks a message's
// bytes once.
//
// It promises what decode promises; that no bytes, however broken, make it panic or loop; and that it sees in a message what
// the official runtime sees: the last value of a field counts, messages that come in parts are merged, of a oneof the last
// member counts, and packed and unpacked are the same.
//
// It speaks to no schema registry: the schema of an id comes from a function that it is handed.
//
// Source: protobuf.dev, "Encoding", and the well-known types' documentation.
package protobuf

import (
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Schema is a file of message types.
type Schema struct {
	file protoreflect.FileDescriptor
	id   string // by which errors name it

	mu    sync.Mutex
	types map[string]*Type // by the path of indexes
}

// Type is one message type of a schema. It is told from others by its pointer.
type Type struct {
	descriptor protoreflect.MessageDescriptor
	id         string // of the schema
}

// Reference is a file that another one imports, by the path that it is imported by.
type Reference struct{ Path, Text string }

// mainFile is the path of a schema that has none, but where a reference has that.
const mainFile = "schema.proto"

// builtIn are files that schemas import and registries have built in, so that they keep no reference to them: Confluent's own, and google/type, without their
// comments and the options of languages (Apache License 2.0; their notices stand in them). The types of google/protobuf come with the compiler.
//
//go:embed imports
var builtIn embed.FS

// Parse reads a .proto file: its source text, or its descriptor in base64, as some serializers register it. What it imports is
// among the references, but for what registries have built in. id is how errors name the schema.
func Parse(ctx context.Context, id, text string, references ...Reference) (*Schema, error) {
	found := map[string]protocompile.SearchResult{}
	for _, r := range references {
		found[r.Path] = source(r.Path, r.Text)
	}
	main := mainFile
	for _, taken := found[main]; taken; _, taken = found[main] {
		main = "_" + main
	}
	found[main] = source(main, text)
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		if r, ok := found[path]; ok {
			return r, nil
		}
		if text, err := builtIn.ReadFile("imports/" + path); err == nil {
			return protocompile.SearchResult{Source: bytes.NewReader(text)}, nil
		}
		return protocompile.SearchResult{}, protoregistry.NotFound
	}))}
	files, err := compiler.Compile(ctx, main)
	if err != nil {
		return nil, fmt.Errorf("parsing a Protobuf schema: %w", err)
	}
	return &Schema{file: files[0], id: id, types: map[string]*Type{}}, nil
}

// source tells a descriptor from source text, which has spaces in every statement that declares something.
func source(path, text string) protocompile.SearchResult {
	if data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		file := &descriptorpb.FileDescriptorProto{}
		if proto.Unmarshal(data, file) == nil && len(file.GetMessageType())+len(file.GetEnumType())+len(file.GetDependency()) > 0 {
			file.Name = new(path)
			for _, m := range file.GetMessageType() {
				nameInJSON(m)
			}
			return protocompile.SearchResult{Proto: file}
		}
	}
	return protocompile.SearchResult{Source: strings.NewReader(text)}
}

// nameInJSON gives fields the names in JSON that they have by default: what protoc puts into generated code lacks them.
func nameInJSON(m *descriptorpb.DescriptorProto) {
	for _, f := range m.GetField() {
		if f.JsonName != nil {
			continue
		}
		var name []byte
		upper := false
		for _, c := range []byte(f.GetName()) {
			if upper && 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			if upper = c == '_'; !upper {
				name = append(name, c)
			}
		}
		f.JsonName = new(string(name))
	}
	for _, below := range m.GetNestedType() {
		nameInJSON(below)
	}
}

// FromDescriptorSet finds a message type, by its full name, in what protoc --descriptor_set_out --include_imports writes. The
// name may be empty where the set's last file, the one that it was made for, has one message only.
func FromDescriptorSet(data []byte, name string) (*Type, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("reading a descriptor set: %w", err)
	}
	if len(set.GetFile()) == 0 {
		return nil, errors.New("reading a descriptor set: it has no file")
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("reading a descriptor set: %w; was it made with --include_imports?", err)
	}
	if name == "" {
		last := set.GetFile()[len(set.GetFile())-1]
		if len(last.GetMessageType()) != 1 {
			var names []string
			for _, m := range last.GetMessageType() {
				names = append(names, m.GetName())
			}
			return nil, fmt.Errorf("%s has %d message types: name the one of the messages, with its package, in source.protobuf.message: it has %v", last.GetName(), len(names), names)
		}
		name = last.GetMessageType()[0].GetName()
		if last.GetPackage() != "" {
			name = last.GetPackage() + "." + name
		}
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(name))
	m, ok := found.(protoreflect.MessageDescriptor)
	if err != nil || !ok {
		names := map[string]bool{}
		files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
			for i := range f.Messages().Len() {
				names[string(f.Messages().Get(i).FullName())] = true
			}
			return true
		})
		return nil, fmt.Errorf("the descriptor set has no message type %q: it has %v", name, slices.Sorted(maps.Keys(names)))
	}
	return &Type{descriptor: m}, nil
}

// First is the first message type of the file.
func (s *Schema) First() (*Type, error) { return s.at([]int{0}) }

// Named is the message type of a full name, of the file or nested in one of its types, or the only one of the file for an empty name.
func (s *Schema) Named(name string) (*Type, error) {
	messages := s.file.Messages()
	if name == "" && messages.Len() == 1 {
		return s.First()
	}
	if path := pathTo(messages, protoreflect.FullName(name)); path != nil {
		return s.at(path)
	}
	var names []string
	for i := range messages.Len() {
		names = append(names, string(messages.Get(i).FullName()))
	}
	if name == "" {
		return nil, fmt.Errorf("the file has %d message types: name one of %v", len(names), names)
	}
	return nil, fmt.Errorf("the file has no message type %q: name one of %v, or one nested in them", name, names)
}

// pathTo is the path of indexes to a type; nil for none.
func pathTo(types protoreflect.MessageDescriptors, name protoreflect.FullName) []int {
	for i := range types.Len() {
		m := types.Get(i)
		if m.FullName() == name {
			return []int{i}
		}
		if path := pathTo(m.Messages(), name); path != nil {
			return append([]int{i}, path...)
		}
	}
	return nil
}

// at is the type at a path of indexes: of the file's message types, then of each one's nested types.
func (s *Schema) at(path []int) (*Type, error) {
	key := fmt.Sprint(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.types[key]; t != nil {
		return t, nil
	}
	var m protoreflect.MessageDescriptor
	for level, types := 0, s.file.Messages(); level < len(path); level++ {
		if path[level] < 0 || path[level] >= types.Len() {
			return nil, fmt.Errorf("%s has no message type at the indexes %v", s.id, path)
		}
		m = types.Get(path[level])
		types = m.Messages()
	}
	t := &Type{descriptor: m, id: s.id}
	s.types[key] = t
	return t, nil
}
