package main

import (
	"encoding/binary"
	"errors"

	"kafkadelta/decode"
	"kafkadelta/decode/avro"
)

// webSchema is the Avro schema of web_requests messages.
const webSchema = `{"type": "record", "name": "web_request", "fields": [
  {"name": "meta", "type": {"type": "record", "name": "meta", "fields": [
    {"name": "producer", "type": {"type": "record", "name": "producer", "fields": [{"name": "timestamp", "type": "string"}]}}]}},
  {"name": "method", "type": "string"}, {"name": "session_id", "type": "string"}, {"name": "status", "type": "int"},
  {"name": "url", "type": "string"}, {"name": "uuid", "type": "string"}]}`

// webSchemaID is its id in a registry.
const webSchemaID = 7

// webAvro makes the same messages as webRequests, in Avro as a schema registry's serializers frame it.
type webAvro struct {
	*webRequests
	text []byte
}

func (g *webAvro) append(to []byte) ([]byte, error) {
	to = binary.BigEndian.AppendUint32(append(to, 0), webSchemaID)
	g.text = g.next.AppendFormat(g.text[:0], webTimestamp)
	g.next = g.next.Add(webInterval)
	to = appendAvro(to, g.text)
	to = appendAvro(to, webMethods[g.random.IntN(len(webMethods))])
	g.text = g.id(g.text[:0])
	to = appendAvro(to, g.text)
	to = binary.AppendVarint(to, webStatuses[g.random.IntN(len(webStatuses))]) // zigzag, as Avro's int
	to = appendAvro(to, g.urls[g.random.IntN(webURLs)])
	g.text = g.id(g.text[:0])
	return appendAvro(to, g.text), nil
}

func appendAvro[T []byte | string](to []byte, text T) []byte {
	return append(binary.AppendVarint(to, int64(len(text))), text...)
}

// newAvroDecoder decodes messages of webSchema.
func newAvroDecoder(plan *decode.Plan) (decoder, error) {
	schema, err := avro.Parse("schema id 7", webSchema)
	if err != nil {
		return nil, err
	}
	find := func(ref decode.SchemaRef) (*avro.Schema, error) {
		if ref.ID != webSchemaID {
			return nil, errors.New("the message is of another schema")
		}
		return schema, nil
	}
	return avro.New(plan, avro.Options{Framing: avro.Registry(decode.ValueSchemaHeader, find)}), nil
}
