package main

import (
	"errors"
	"fmt"

	"kafkadelta/decode/envelope"
)

// Values of source.format.
const (
	formatJSON     = "json"
	formatAvro     = "avro"
	formatProtobuf = "protobuf"
	formatRaw      = "raw"
	formatString   = "string" // of keys
	formatBinary   = "binary" // of keys
)

// Values of framing.
const (
	framingRegistry     = "registry"
	framingSingleObject = "single_object"
	framingNone         = "none"
)

// rawConfig says where values go that are kept as they are.
type rawConfig struct {
	// Column is the name of their column. Default: value.
	Column string `yaml:"column"`
	// Type is what a new table's column is: binary (default) or string.
	Type string `yaml:"type"`
}

// keyConfig says what becomes of keys.
type keyConfig struct {
	// Format is string, binary, json, avro or protobuf; none: keys are not decoded.
	Format string `yaml:"format"`
	// Column is the name of the column that takes the key. Default: _key.
	Column string `yaml:"column"`
	// Framing is none or registry. Default: none for json, and registry for avro and protobuf, which have no other.
	Framing string `yaml:"framing"`
	// Subject is whose latest schema the column of a new table is made from, with framing registry. Default: <topic>-key.
	Subject string `yaml:"subject"`
}

// Defaults of columns.
const (
	defaultRawColumn = "value"
	defaultKeyColumn = "_key"
)

// noCompression says that values are what they are.
const noCompression = "none"

// defaultMaxDecompressed is what a compressed value may become, in bytes.
const defaultMaxDecompressed = 64 << 20

// jsonConfig says how JSON messages tell their schema.
type jsonConfig struct {
	// Framing is none (default) or registry.
	Framing string `yaml:"framing"`
	// Subject is whose latest schema a new table is made from, with framing registry. Default: <topic>-value.
	Subject string `yaml:"subject"`
}

// avroConfig says how Avro messages tell their schema.
type avroConfig struct {
	// Framing is registry (default), single_object or none.
	Framing string `yaml:"framing"`
	// Schema is a file with a schema, or a folder of such files (*.avsc) for single_object.
	Schema string `yaml:"schema"`
	// Subject is whose latest schema a new table is made from, with framing registry. Default: <topic>-value.
	Subject string `yaml:"subject"`
	// ReaderSchema is a file with a schema whose aliases name columns and whose defaults fill them.
	ReaderSchema string `yaml:"reader_schema"`
}

// protobufConfig says how Protobuf messages tell their type.
type protobufConfig struct {
	// Framing is registry (default) or none.
	Framing string `yaml:"framing"`
	// DescriptorSet is a file as protoc --descriptor_set_out --include_imports writes it, for framing none.
	DescriptorSet string `yaml:"descriptor_set"`
	// Message is the full name of the messages' type in it, and with framing registry of the type whose columns a new table gets. It may be
	// empty where the file has one type.
	Message string `yaml:"message"`
	// Subject is whose latest schema a new table is made from, with framing registry. Default: <topic>-value.
	Subject string `yaml:"subject"`
}

// validateFormat checks what goes with which format.
func (c sourceSection) validateFormat() error {
	errs := []error{c.Registry.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Format != formatJSON && c.JSON != (jsonConfig{Framing: framingNone}) {
		bad("source.json is set, but source.format is %s: set source.format to json", c.Format)
	}
	if c.Format != formatAvro && c.Avro != (avroConfig{Framing: framingRegistry}) {
		bad("source.avro is set, but source.format is %s: set source.format to avro", c.Format)
	}
	if c.Format != formatProtobuf && c.Protobuf != (protobufConfig{Framing: framingRegistry}) {
		bad("source.protobuf is set, but source.format is %s: set source.format to protobuf", c.Format)
	}
	if c.Format != formatRaw && c.Raw != (rawConfig{Column: defaultRawColumn, Type: formatBinary}) {
		bad("source.raw is set, but source.format is %s: set source.format to raw", c.Format)
	}
	switch c.Format {
	case formatAvro:
		errs = append(errs, c.Avro.validate())
	case formatProtobuf:
		errs = append(errs, c.Protobuf.validate())
	case formatJSON:
		errs = append(errs, c.JSON.validate())
	case formatRaw:
		errs = append(errs, c.Raw.validate())
	default:
		bad("source.format is %q: use json, avro, protobuf or raw", c.Format)
	}
	errs = append(errs, c.Key.validate(), c.validateCompression())
	switch uses := c.framing() == framingRegistry || c.Key.byRegistry(); {
	case uses && len(c.Registry.URLs) == 0:
		bad("source.schema_registry.urls is empty: name the registry whose serializers wrote the messages, or set framing of source.%s or source.key", c.Format)
	case !uses && len(c.Registry.URLs) > 0:
		bad("source.schema_registry is set, but nothing asks it: it is for values and keys with framing %s", framingRegistry)
	}
	return errors.Join(errs...)
}

// framing is how values tell their schema; "" where they have none.
func (c sourceSection) framing() string {
	switch c.Format {
	case formatAvro:
		return c.Avro.Framing
	case formatProtobuf:
		return c.Protobuf.Framing
	case formatJSON:
		return c.JSON.Framing
	}
	return ""
}

func (c rawConfig) validate() error {
	switch {
	case c.Column == "":
		return errors.New("source.raw.column is empty: name the column that takes the values")
	case c.Type != formatString && c.Type != formatBinary:
		return fmt.Errorf("source.raw.type is %q: use %s or %s", c.Type, formatBinary, formatString)
	}
	return nil
}

// valuesTell says that values tell their schema.
func (c sourceSection) valuesTell() bool {
	return c.Format != formatRaw && (c.Format != formatJSON || c.JSON.Framing == framingRegistry)
}

// byRegistry says that keys tell their schema by a registry.
func (c keyConfig) byRegistry() bool {
	return c.Format == formatAvro || c.Format == formatProtobuf || c.Framing == framingRegistry
}

func (c keyConfig) validate() error {
	if c.Format == "" {
		if c != (keyConfig{Column: defaultKeyColumn}) {
			return errors.New("source.key is set, but source.key.format is not: use string, binary, json, avro or protobuf")
		}
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Format {
	case formatString, formatBinary:
		if c.Framing != "" {
			bad("source.key.framing is for json, avro and protobuf")
		}
	case formatAvro, formatProtobuf:
		if c.Framing != "" && c.Framing != framingRegistry {
			bad("source.key.framing is %q: keys of format %s are read with framing %s only", c.Framing, c.Format, framingRegistry)
		}
	case formatJSON:
		if c.Framing != "" && c.Framing != framingRegistry && c.Framing != framingNone {
			bad("source.key.framing is %q: use %s or %s", c.Framing, framingNone, framingRegistry)
		}
	default:
		bad("source.key.format is %q: use string, binary, json, avro or protobuf", c.Format)
	}
	if c.Column == "" {
		bad("source.key.column is empty: name the column that takes the keys")
	}
	if c.Subject != "" && !c.byRegistry() {
		bad("source.key.subject is for framing %s", framingRegistry)
	}
	return errors.Join(errs...)
}

func (c sourceSection) validateCompression() error {
	switch {
	case c.Compression != noCompression && c.Compression != envelope.Gzip && c.Compression != envelope.Zstd:
		return fmt.Errorf("source.compression is %q: use %s, %s or %s", c.Compression, noCompression, envelope.Gzip, envelope.Zstd)
	case c.MaxDecompressed < 1<<10 || c.MaxDecompressed > 1<<30:
		return fmt.Errorf("source.max_decompressed is %d bytes: use 1KiB to 1GiB", c.MaxDecompressed)
	case c.Compression == noCompression && c.MaxDecompressed != defaultMaxDecompressed:
		return errors.New("source.max_decompressed is for values that are compressed: set source.compression")
	}
	return nil
}

func (c jsonConfig) validate() error {
	switch {
	case c.Framing != framingRegistry && c.Framing != framingNone:
		return fmt.Errorf("source.json.framing is %q: use %s or %s", c.Framing, framingNone, framingRegistry)
	case c.Framing == framingNone && c.Subject != "":
		return fmt.Errorf("source.json.subject is for framing %s", framingRegistry)
	}
	return nil
}

func (c avroConfig) validate() error {
	switch c.Framing {
	case framingRegistry:
		if c.Schema != "" {
			return fmt.Errorf("source.avro.schema is for framing %s and %s: with a registry each message names its schema", framingSingleObject, framingNone)
		}
		return nil
	case framingSingleObject, framingNone:
		var errs []error
		if c.Schema == "" {
			errs = append(errs, fmt.Errorf("source.avro.schema is empty: framing %s needs the schema's file%s", c.Framing, map[string]string{framingSingleObject: ", or a folder of them"}[c.Framing]))
		}
		if c.Subject != "" {
			errs = append(errs, fmt.Errorf("source.avro.subject is for framing %s", framingRegistry))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("source.avro.framing is %q: use %s, %s or %s", c.Framing, framingRegistry, framingSingleObject, framingNone)
}

func (c protobufConfig) validate() error {
	switch c.Framing {
	case framingRegistry:
		if c.DescriptorSet != "" {
			return fmt.Errorf("source.protobuf.descriptor_set is for framing %s: with a registry each message names its type", framingNone)
		}
		return nil
	case framingNone:
		var errs []error
		if c.DescriptorSet == "" {
			errs = append(errs, errors.New("source.protobuf.descriptor_set is empty: framing none needs the file that protoc --descriptor_set_out --include_imports writes"))
		}
		if c.Subject != "" {
			errs = append(errs, fmt.Errorf("source.protobuf.subject is for framing %s", framingRegistry))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("source.protobuf.framing is %q: use %s or %s", c.Framing, framingRegistry, framingNone)
}
