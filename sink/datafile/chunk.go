package datafile

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
)

// chunk is one column of the row group that is being filled: its finished pages and the page being filled.
type chunk struct {
	shredder
	leaf   leaf
	values values

	rows  int64 // of the row group
	first int64 // of them in finished pages

	pages   [][]byte // finished, headers included
	encoded int64    // bytes of pages
	mapped  bool     // a page refers to the dictionary
	meta    columnMeta
}

// take adds rows of a batch, and finishes the page when it is full.
func (c *chunk) take(rb arrow.RecordBatch, from, to int, limit int64, p *packer) {
	c.shredder.take(rb, from, to)
	if len(c.spans) > 0 {
		c.values.take(c.array, c.spans)
	}
	c.rows += int64(to - from)
	// A level is counted like two bytes, so that pages of few bits have an end as well.
	if int64(max(c.values.held(), 2*c.def.n)) >= limit {
		c.cut(p)
	}
}

// cut finishes the page being filled, if there is one.
func (c *chunk) cut(p *packer) {
	if c.first == c.rows {
		return
	}
	meta := pageMeta{firstRow: c.first, nulls: int64(c.def.n - c.values.count()), encoding: parquet.Encodings.Plain}
	p.begin()
	p.page = c.def.appendTo(c.rep.appendTo(p.page))
	if c.values.count() == 0 {
		meta.empty = true // PLAIN stands for nothing, which is what every reader understands
	} else {
		p.page, meta.encoding, meta.bounds = c.values.appendPage(p.page)
	}
	c.mapped = c.mapped || meta.encoding == parquet.Encodings.RLEDict
	page, unpacked := p.pack(dataPage, c.def.n, meta.encoding)
	meta.bytes = len(page)
	c.pages = append(c.pages, page)
	c.encoded += int64(len(page))
	c.meta.pages = append(c.meta.pages, meta)
	c.meta.unpacked += int64(unpacked)
	c.meta.values += int64(c.def.n)
	c.meta.nulls += meta.nulls
	c.first = c.rows
	c.reset()
}

// finish writes the column chunk of a row group that has rows, and begins the next one.
func (c *chunk) finish(p *packer, out *output) columnMeta {
	c.cut(p)
	meta := c.meta
	start := out.n
	if c.mapped {
		var n int
		p.begin()
		p.page, n = c.values.appendDictionary(p.page)
		page, unpacked := p.pack(dictionaryPage, n, parquet.Encodings.Plain)
		meta.dictionary = start
		meta.unpacked += int64(unpacked)
		out.write(page)
	}
	for i, page := range c.pages {
		meta.pages[i].offset = out.n
		out.write(page)
	}
	meta.compressed = out.n - start
	meta.bounds = c.values.restart()
	c.pages = slices.Delete(c.pages, 0, len(c.pages)) // clears the pointers
	c.rows, c.first, c.encoded, c.mapped, c.meta = 0, 0, 0, false, columnMeta{}
	return meta
}
