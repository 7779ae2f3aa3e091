package delta

import (
	"cmp"
	"fmt"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// A log checkpoint is untrusted input: the Parquet library believes counts and sizes in page headers when it sets memory
// aside. These are their limits.
const (
	maxPageValues  = 1 << 26   // far more than writers put into a page, even of nulls
	maxPageBytes   = 256 << 20 // of one page, compressed or not
	maxPrefixBytes = 64 << 20  // of values decoded at a time that may be prefixes of each other
)

// maxReaderMemory is the limit of the library's buffers for one file at a time. A variable for the tests' sake.
var maxReaderMemory int64 = 512 << 20

// checkedPages hands on the pages of a column chunk, but for those whose headers cannot be true.
type checkedPages struct {
	file.PageReader
	batch int // values of the current page to decode at a time, at most
	err   error
}

func (p *checkedPages) Next() bool {
	if p.err != nil || !p.PageReader.Next() {
		return false
	}
	page := p.Page()
	p.batch = maxPageValues
	// A value of this encoding takes its beginning from the one before: each may be as long as the page, for nearly nothing.
	if data, ok := page.(file.DataPage); ok && parquet.Encoding(data.Encoding()) == parquet.Encodings.DeltaByteArray {
		p.batch = max(maxPrefixBytes/max(len(data.Data()), 1), 1)
	}
	p.err = checkPage(page)
	return p.err == nil
}

func (p *checkedPages) Err() error { return cmp.Or(p.err, p.PageReader.Err()) }

func (p *checkedPages) GetDictionaryPage() (*file.DictionaryPage, error) {
	page, err := p.PageReader.GetDictionaryPage()
	if err == nil && page != nil {
		err = checkPage(page)
	}
	return page, err
}

func checkPage(page file.Page) error {
	n := int(page.NumValues())
	if _, ok := page.(*file.DictionaryPage); ok && n > len(page.Data()) {
		return fmt.Errorf("a dictionary of %d bytes says that it has %d values", len(page.Data()), n)
	}
	if n < 0 || n > maxPageValues {
		return fmt.Errorf("a page says that it has %d values", n)
	}
	return nil
}

// cappedMemory panics, for guard to catch, when more is asked for than a sane log checkpoint needs.
type cappedMemory struct {
	memory.Allocator
	used atomic.Int64
}

func (m *cappedMemory) take(n int) {
	if m.used.Add(int64(n)) > maxReaderMemory {
		panic(fmt.Sprintf("reading it would need more than %d MiB of buffers", maxReaderMemory>>20))
	}
}

func (m *cappedMemory) Allocate(n int) []byte {
	m.take(n)
	return m.Allocator.Allocate(n)
}

func (m *cappedMemory) Reallocate(n int, b []byte) []byte {
	m.take(n - len(b))
	return m.Allocator.Reallocate(n, b)
}

func (m *cappedMemory) Free(b []byte) {
	m.used.Add(-int64(len(b)))
	m.Allocator.Free(b)
}
