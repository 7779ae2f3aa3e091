package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"

	"kafkadelta/decode"
	"kafkadelta/delta"
)

// shape is a kind of message with the table that it goes to.
type shape struct {
	name        string
	ddl         string
	partitionBy []string
	columns     map[string]decode.Column
	open        func(data string) (feed, error)
}

// feed is an endless, repeatable stream of messages.
type feed interface {
	// append appends the next message.
	append(to []byte) ([]byte, error)
}

var shapes = []shape{
	{
		name: "web_requests",
		ddl: "meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, " +
			"uuid STRING, date DATE",
		partitionBy: []string{"date"},
		columns:     map[string]decode.Column{"date": {From: "meta.producer.timestamp", Cast: "date"}},
		open:        func(string) (feed, error) { return newWebRequests(webSeed), nil },
	},
	{
		name: "flights",
		ddl: "year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, " +
			"arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT, " +
			"hour INT, minute INT, time_hour TIMESTAMP",
		open: func(data string) (feed, error) { return openLines(filepath.Join(data, "flights-2013.jsonl.zst")) },
	},
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
