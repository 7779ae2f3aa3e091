package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
	"kafkadelta/delta"
)

// shape is a kind of message with the table that it goes to.
type shape struct {
	name        string
	ddl         string
	partitionBy []string
	columns     map[string]decode.Column
	// scale is how many of the messages asked for make one of this shape, so that runs of large messages end; 0 stands for 1.
	scale int64
	open  func(data string) (feed, error)
	// decoder is nil for JSON. Other formats have no path stage.
	decoder func(*decode.Plan) (decoder, error)
}

// decoder is what the formats' decoders have in common.
type decoder interface {
	Append(r *kgo.Record) error
	Rows() int
	Bytes() int
	NewBatch() arrow.RecordBatch
}

// feed is an endless, repeatable stream of messages.
type feed interface {
	// append appends the next message.
	append(to []byte) ([]byte, error)
}

const webDDL = "meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, uuid STRING"

// usualShapes are run where the command line names none.
var usualShapes = []string{"web_requests", "flights"}

var shapes = []shape{
	{
		name: "web_requests", ddl: webDDL + ", date DATE", partitionBy: []string{"date"},
		columns: map[string]decode.Column{"date": {From: "meta.producer.timestamp", Cast: "date"}},
		open:    func(string) (feed, error) { return newWebRequests(webSeed), nil },
	},
	{ // the same, in Avro
		name: "web_requests_avro", ddl: webDDL + ", date DATE", partitionBy: []string{"date"},
		columns: map[string]decode.Column{"date": {From: "meta.producer.timestamp", Cast: "date"}},
		open:    func(string) (feed, error) { return &webAvro{webRequests: newWebRequests(webSeed)}, nil },
		decoder: newAvroDecoder,
	},
	{ // numbers and nulls
		name: "flights",
		ddl: "year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, " +
			"arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT, " +
			"hour INT, minute INT, time_hour TIMESTAMP",
		open: func(data string) (feed, error) { return openLines(filepath.Join(data, "flights-2013.jsonl.zst")) },
	},
	{ // nested
		name: "earthquakes", scale: 4,
		ddl: "id STRING NOT NULL, type STRING, properties STRUCT<mag: DOUBLE, place: STRING, time: TIMESTAMP, updated: TIMESTAMP, " +
			"tz: INT, url: STRING, detail: STRING, felt: INT, cdi: DOUBLE, mmi: DOUBLE, alert: STRING, status: STRING, tsunami: INT, " +
			"sig: INT, net: STRING, code: STRING, ids: STRING, sources: STRING, types: STRING, nst: INT, dmin: DOUBLE, rms: DOUBLE, " +
			"gap: DOUBLE, magType: STRING, type: STRING, title: STRING>, geometry STRUCT<type: STRING, coordinates: ARRAY<DOUBLE>>",
		open: func(data string) (feed, error) { return openLines(filepath.Join(data, "earthquakes.jsonl.zst")) },
	},
	{ // 200 columns
		name: "wide", scale: 16, ddl: wideDDL(),
		open: func(string) (feed, error) { return &wide{random: rand.New(rand.NewPCG(webSeed, 1))}, nil },
	},
	{ // text of some kilobytes, of words
		name: "long_strings", scale: 16, ddl: "id BIGINT, title STRING, body STRING",
		open: func(string) (feed, error) { return newProse(), nil },
	},
	{ // a thousand partition values at once
		name: "tenants", scale: 8, ddl: "tenant STRING, " + webDDL, partitionBy: []string{"tenant"},
		open: func(string) (feed, error) {
			return &tenants{random: rand.New(rand.NewPCG(webSeed, 2)), web: newWebRequests(webSeed)}, nil
		},
	},
	blobs("blobs_10k", 10<<10, 40),
	blobs("blobs_1m", 1<<20, 4_000),
	blobs("blobs_10m", 10<<20, 40_000),
}

func shapeNames() []string {
	var names []string
	for _, s := range shapes {
		names = append(names, s.name)
	}
	return names
}

func shapeOf(name string) (shape, error) {
	for _, s := range shapes {
		if s.name == name {
			return s, nil
		}
	}
	return shape{}, fmt.Errorf("shape %q is not known", name)
}

// schema is the table's schema as the connector makes it: the columns, then the Kafka metadata.
func (s shape) schema() (*arrow.Schema, error) {
	schema, err := delta.ParseDDL(s.ddl)
	if err != nil {
		return nil, fmt.Errorf("parsing the columns of %s: %w", s.name, err)
	}
	field, _ := decode.MetadataConfig{}.Field()
	return arrow.NewSchema(append(schema.Fields(), field), nil), nil
}

// messages is how many messages of this shape stand for so many.
func (s shape) messages(asked int64) int64 { return max(asked/max(s.scale, 1), 1) }

// bytes counts the input bytes of so many messages.
func (s shape) bytes(data string, messages int64) (int64, error) {
	in, err := s.open(data)
	if err != nil {
		return 0, err
	}
	var total int64
	var buf []byte
	for range messages {
		if buf, err = in.append(buf[:0]); err != nil {
			return 0, err
		}
		total += int64(len(buf))
	}
	return total, nil
}

// lines feeds the lines of a compressed file, and begins again at its end.
type lines struct {
	path    string
	file    *os.File
	decoder *zstd.Decoder
	scanner *bufio.Scanner
}

func openLines(path string) (*lines, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the sample data: %w; name its folder with -data", err)
	}
	// One goroutine: nothing is decompressed while something else is measured.
	d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", path, err), f.Close())
	}
	return &lines{path: path, file: f, decoder: d, scanner: bufio.NewScanner(d)}, nil
}

func (l *lines) append(to []byte) ([]byte, error) {
	for range 2 {
		if l.scanner.Scan() {
			return append(to, l.scanner.Bytes()...), nil
		}
		if err := l.scanner.Err(); err != nil {
			return to, fmt.Errorf("reading %s: %w", l.path, err)
		}
		if _, err := l.file.Seek(0, io.SeekStart); err != nil {
			return to, err
		}
		if err := l.decoder.Reset(l.file); err != nil {
			return to, fmt.Errorf("reading %s: %w", l.path, err)
		}
		l.scanner = bufio.NewScanner(l.decoder)
	}
	return to, fmt.Errorf("reading %s: it has no lines", l.path)
}
