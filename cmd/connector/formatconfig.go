package main

import (
	"errors"
	"fmt"
)

// Values of source.format.
const (
	formatJSON     = "json"
	formatAvro     = "avro"
	formatProtobuf = "protobuf"
)

// Values of framing.
const (
	framingRegistry     = "registry"
	framingSingleObject = "single_object"
	framingNone         = "none"
)

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
	// Message is the full name of the messages' type in it. It may be empty where the set was made for a file with one type.
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
	framing := ""
	switch c.Format {
	case formatAvro:
		framing = c.Avro.Framing
		errs = append(errs, c.Avro.validate())
	case formatProtobuf:
		framing = c.Protobuf.Framing
		errs = append(errs, c.Protobuf.validate())
	case formatJSON:
		framing = c.JSON.Framing
		errs = append(errs, c.JSON.validate())
	default:
		bad("source.format is %q: use json, avro or protobuf", c.Format)
	}
	switch uses := framing == framingRegistry; {
	case uses && len(c.Registry.URLs) == 0:
		bad("source.schema_registry.urls is empty: name the registry whose serializers wrote the messages, or set source.%s.framing", c.Format)
	case !uses && len(c.Registry.URLs) > 0:
		bad("source.schema_registry is set, but nothing asks it: it is for messages with source.%s.framing: %s", c.Format, framingRegistry)
	}
	return errors.Join(errs...)
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
		if c.DescriptorSet != "" || c.Message != "" {
			return fmt.Errorf("source.protobuf.descriptor_set and message are for framing %s: with a registry each message names its type", framingNone)
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
