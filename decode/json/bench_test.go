package json

import (
	"bytes"
	"encoding/json"
	"testing"
)

// spaced is a sample as Python's json.dumps writes it: with a space behind each colon and comma.
func spaced(s sample) sample {
	s.name += "_spaced"
	messages := s.messages
	s.messages = nil
	for _, m := range messages {
		m = bytes.ReplaceAll(m, []byte(`":`), []byte(`": `))
		s.messages = append(s.messages, bytes.ReplaceAll(m, []byte(`,"`), []byte(`, "`)))
	}
	return s
}

// BenchmarkValid is encoding/json's check of the same bytes, to compare machines by.
func BenchmarkValid(b *testing.B) {
	s := webRequests(65536)
	i := 0
	for b.Loop() {
		if !json.Valid(s.messages[i&65535]) {
			b.Fatal("invalid")
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// batchRows is how many rows a batch has in benchmarks, as in the pipeline.
const batchRows = 8192

// BenchmarkDecode decodes each shape into batches, with the metadata column on.
func BenchmarkDecode(b *testing.B) {
	for _, s := range []sample{webRequests(65536), spaced(webRequests(65536)), flights(b), earthquakes(b)} {
		b.Run(s.name, func(b *testing.B) {
			d := newDecoder(b, s.schema, s.config)
			recs := records(s.messages)
			size := 0
			for _, m := range s.messages {
				size += len(m)
			}
			b.SetBytes(int64(size / len(s.messages)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := d.Append(recs[i]); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(recs) {
					i = 0
				}
				if d.Rows() == batchRows {
					d.NewBatch().Release()
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
