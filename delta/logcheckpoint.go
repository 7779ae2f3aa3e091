package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// errStop ends a reading whose caller has seen enough.
var errStop = errors.New("stop")

// fileActions says which file actions a reading wants and takes them. They are valid after the call too, but must not be
// changed. A function that answers false ends the reading with errStop; a nil one wants none of its kind.
type fileActions struct {
	totals bool // only path, size, statistics, deletion vector and, of JSON, dataChange are wanted
	add    func(*Add) (bool, error)
	remove func(*Remove) (bool, error)
}

func (f *fileActions) take(a *Add, r *Remove) error {
	more, err := true, error(nil)
	switch {
	case a != nil && f.add != nil:
		more, err = f.add(a)
	case r != nil && f.remove != nil:
		more, err = f.remove(r)
	}
	if err == nil && !more {
		err = errStop
	}
	return err
}

// readLogCheckpoint reads one file of a log checkpoint of any kind, or a sidecar (PROTOCOL.md, "Checkpoints" and "Checkpoint
// Schema"). Actions other than file actions go into c, unless it is nil, those of files to files, unless it is nil.
func readLogCheckpoint(ctx context.Context, store LogStore, f checkpointFile, c *Commit, files *fileActions, mem memory.Allocator) error {
	if strings.HasSuffix(f.name, ".json") {
		return readJSONCheckpoint(ctx, store, f, c, files)
	}
	src, err := openRanged(ctx, store, f)
	if err != nil {
		return err
	}
	mem = &cappedMemory{Allocator: mem}
	var stop error // of files: neither the store's nor the log's fault
	err = src.guard(func() error {
		props := parquet.NewReaderProperties(mem)
		props.BufferedStreamEnabled, props.BufferSize = true, checkpointBuffer
		props.MaxCompressedPageSize, props.MaxUncompressedPageSize = maxPageBytes, maxPageBytes
		pf, err := file.NewParquetReader(src, file.WithReadProps(props))
		if err != nil {
			return err
		}
		if err := checkRequired(pf.MetaData().Schema); err != nil {
			return err
		}
		for i := range pf.NumRowGroups() {
			rg := rowGroup{RowGroupReader: pf.RowGroup(i), src: src, mem: mem}
			if c != nil {
				if err := rg.state(c); err != nil {
					return err
				}
			}
			if files == nil {
				continue
			}
			if err := rg.files(files, &stop); err != nil {
				return err
			}
		}
		return nil
	})
	return cmp.Or(stop, err)
}

// readJSONCheckpoint reads a UUID-named log checkpoint in JSON (PROTOCOL.md, "V2 Spec").
func readJSONCheckpoint(ctx context.Context, store LogStore, f checkpointFile, c *Commit, files *fileActions) error {
	r, err := store.Get(ctx, f.name, 0, -1)
	if err != nil {
		return fmt.Errorf("reading the log checkpoint %s: %w", f.name, err)
	}
	if c == nil {
		c = &Commit{}
	}
	err = parseActions("log checkpoint "+f.name, r, c, files)
	if errors.Is(err, errStop) {
		return errors.Join(err, r.Close())
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	return nil
}

// requiredColumns are those without which a log checkpoint says something else than its commits, each with its number of leaves. A
// remove without its path harms nobody: tombstones of a log checkpoint are for VACUUM.
var requiredColumns = []struct {
	action, field string
	leaves        int
}{
	{"protocol", "minReaderVersion", 1}, {"protocol", "minWriterVersion", 1},
	{"metaData", "id", 1}, {"metaData", "schemaString", 1}, {"metaData", "partitionColumns", 1}, {"metaData", "configuration", 2},
	{"txn", "appId", 1}, {"txn", "version", 1}, {"domainMetadata", "domain", 1}, {"sidecar", "path", 1},
	{"add", "path", 1}, {"add", "partitionValues", 2}, {"add", "size", 1},
	{"add.deletionVector", "storageType", 1}, {"add.deletionVector", "pathOrInlineDv", 1},
}

// checkRequired refuses a file that has an action's struct without one of its required columns (PROTOCOL.md, "Checkpoint
// Schema"): what is missing would read as if the table had none of it. A file may lack a struct altogether.
func checkRequired(s *schema.Schema) error {
	actions, columns := map[string]bool{}, map[string]int{}
	for i := range s.NumColumns() {
		path := s.Column(i).Path()
		for _, r := range requiredColumns {
			rest, ok := strings.CutPrefix(path, r.action+".")
			actions[r.action] = actions[r.action] || ok
			if ok && (rest == r.field || strings.HasPrefix(rest, r.field+".")) {
				columns[r.action+"."+r.field]++
			}
		}
	}
	for _, r := range requiredColumns {
		name := r.action + "." + r.field
		switch n := columns[name]; {
		case !actions[r.action] || n == r.leaves:
		case n == 0:
			return fmt.Errorf("the required column %s is missing", name)
		default:
			return fmt.Errorf("the column %s has %d leaves, not %d", name, n, r.leaves)
		}
	}
	return nil
}

// sidecarFile finds the sidecar that an action speaks of. Sidecars lie in the table's own _delta_log/_sidecars, so of an
// absolute path only the name counts (PROTOCOL.md, "Sidecar File Information").
func sidecarFile(s *Sidecar) (checkpointFile, error) {
	name, err := DecodePath(s.Path)
	if err != nil {
		return checkpointFile{}, corruptf("sidecar: %w", err)
	}
	if folder, base := path.Split(name); folder == "" || strings.HasSuffix("/"+folder, "/"+sidecarFolder) {
		name = base
	}
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return checkpointFile{}, corruptf("the sidecar %q is not in the table's folder %s", s.Path, sidecarFolder)
	}
	return checkpointFile{name: sidecarFolder + name, size: s.SizeInBytes}, nil
}

// rowGroup is one row group of a log checkpoint.
type rowGroup struct {
	*file.RowGroupReader
	src *rangedObject
	mem memory.Allocator
}

// find gives the indexes of the leaf columns that are or are below a field of an action.
func (rg *rowGroup) find(action, field string) []int {
	var found []int
	prefix := action + "." + field
	s := rg.MetaData().Schema
	for i := range s.NumColumns() {
		if p := s.Column(i).Path(); p == prefix || strings.HasPrefix(p, prefix) && p[len(prefix)] == '.' {
			found = append(found, i)
		}
	}
	return found
}

// check refuses what only a broken or hostile footer says of a column chunk, before memory is set aside for it.
func (rg *rowGroup) check(column int) error {
	md, err := rg.MetaData().ColumnChunk(column)
	if err != nil {
		return err
	}
	size := rg.src.Size()
	from, n := chunkRange(md.DataPageOffset(), md.DictionaryPageOffset(), md.HasDictionaryPage()), md.TotalCompressedSize()
	if from < 0 || n < 0 || from > size || n > size-from {
		return fmt.Errorf("column %d says that it lies outside of the file", column)
	}
	return nil
}

func chunkRange(data, dictionary int64, hasDictionary bool) int64 {
	if hasDictionary && dictionary > 0 && dictionary < data {
		return dictionary
	}
	return data
}

// leaf opens a flat field of an action; nil when the file has no such column, which reads as null everywhere.
func (rg *rowGroup) leaf(action, field string, kind parquet.Type) (*leaf, error) {
	found := rg.find(action, field)
	if len(found) != 1 {
		return nil, nil
	}
	if err := rg.check(found[0]); err != nil {
		return nil, err
	}
	return newLeaf(rg, found[0], kind)
}

// allNull says that a column has no value in the row group, by its statistics.
func (rg *rowGroup) allNull(action, field string) bool {
	found := rg.find(action, field)
	if len(found) != 1 {
		return true
	}
	md, err := rg.MetaData().ColumnChunk(found[0])
	if err != nil {
		return false
	}
	if set, err := md.StatsSet(); err != nil || !set {
		return false
	}
	stats, err := md.Statistics()
	return err == nil && stats != nil && stats.HasNullCount() && stats.NullCount() == md.NumValues() && md.NumValues() > 0
}

// mapLeaf is a map of texts, as a column of keys and one of values; or a list, which has keys only.
type mapLeaf struct {
	keys, values *leaf
	k, v         []entry
}

// group opens a map or list. Whatever its inner groups are called, its leaves come in order.
func (rg *rowGroup) group(action, field string) (m mapLeaf, err error) {
	for i, column := range rg.find(action, field) {
		if err := rg.check(column); err != nil {
			return m, err
		}
		l, err := newLeaf(rg, column, parquet.Types.ByteArray)
		if err != nil {
			return m, err
		}
		switch i {
		case 0:
			m.keys = l
		case 1:
			m.values = l
		default:
			return m, fmt.Errorf("the column %s.%s is no map or list of strings", action, field)
		}
	}
	return m, nil
}

func (m *mapLeaf) at(row int64) (ok bool, err error) {
	if m.k, ok, err = m.keys.entries(row, m.k[:0]); err != nil {
		return ok, err
	}
	if m.v, _, err = m.values.entries(row, m.v[:0]); err != nil {
		return ok, err
	}
	if m.values != nil && len(m.k) != len(m.v) {
		return ok, fmt.Errorf("column %s: a map has %d keys and %d values", m.keys.name, len(m.k), len(m.v))
	}
	return ok, nil
}

// fields reads the fields of one action in one row; after an error every field is absent, and err says why.
type fields struct {
	rg     *rowGroup
	action string
	row    int64
	flat   map[string]*leaf
	groups map[string]*mapLeaf
	err    error
}

func (rg *rowGroup) fields(action string) *fields {
	return &fields{rg: rg, action: action, flat: map[string]*leaf{}, groups: map[string]*mapLeaf{}}
}

func (f *fields) close() {
	for _, l := range f.flat {
		l.close()
	}
	for _, m := range f.groups {
		m.keys.close()
		m.values.close()
	}
}

// column opens a field on its first use, so that fields of actions that are not there cost nothing.
func (f *fields) column(name string, kind parquet.Type) *leaf {
	l, ok := f.flat[name]
	if !ok && f.err == nil {
		l, f.err = f.rg.leaf(f.action, name, kind)
		f.flat[name] = l
	}
	return l
}

func (f *fields) text(name string) (string, bool) {
	l := f.column(name, parquet.Types.ByteArray)
	if f.err != nil {
		return "", false
	}
	i, ok, err := l.here(f.row)
	if f.err = err; !ok || err != nil {
		return "", false
	}
	return l.texts[i], true
}

func (f *fields) str(name string) string {
	s, _ := f.text(name)
	return s
}

func (f *fields) int(name string) (int64, bool) {
	l := f.column(name, parquet.Types.Int64)
	if f.err != nil {
		return 0, false
	}
	i, ok, err := l.here(f.row)
	if f.err = err; !ok || err != nil {
		return 0, false
	}
	return l.ints[i], true
}

func (f *fields) intPtr(name string) *int64 {
	if v, ok := f.int(name); ok {
		return &v
	}
	return nil
}

func (f *fields) bool(name string) (v, ok bool) {
	l := f.column(name, parquet.Types.Boolean)
	if f.err != nil {
		return false, false
	}
	i, ok, err := l.here(f.row)
	if f.err = err; !ok || err != nil {
		return false, false
	}
	return l.bools[i], true
}

// group moves a map or list to the row; nil when it is null there.
func (f *fields) group(name string) *mapLeaf {
	m, ok := f.groups[name]
	if !ok && f.err == nil {
		var g mapLeaf
		g, f.err = f.rg.group(f.action, name)
		m = &g
		f.groups[name] = m
	}
	if f.err != nil {
		return nil
	}
	if ok, f.err = m.at(f.row); !ok || f.err != nil {
		return nil
	}
	return m
}

func (f *fields) strings(name string) []string {
	m := f.group(name)
	if m == nil {
		return nil
	}
	out := make([]string, 0, len(m.k))
	for _, e := range m.k {
		if !e.null {
			out = append(out, e.text)
		}
	}
	return out
}

// stringMap is for what is kept; it leaves out entries whose value is null.
func (f *fields) stringMap(name string) map[string]string {
	m := f.group(name)
	if m == nil || m.values == nil {
		return nil
	}
	out := make(map[string]string, len(m.k))
	for i, k := range m.k {
		if !k.null && !m.v[i].null {
			out[ownText(k.text)] = ownText(m.v[i].text)
		}
	}
	return out
}

func (f *fields) partitionValues() map[string]*string {
	m := f.group("partitionValues")
	if m == nil || m.values == nil {
		return nil
	}
	out := make(map[string]*string, len(m.k))
	texts := make([]string, len(m.v))
	for i, k := range m.k {
		switch {
		case k.null:
		case m.v[i].null:
			out[k.text] = nil
		default:
			texts[i] = m.v[i].text
			out[k.text] = &texts[i]
		}
	}
	return out
}

func (f *fields) deletionVector() *DeletionVector {
	storage, ok := f.text("deletionVector.storageType")
	if !ok || storage == "" {
		return nil
	}
	d := &DeletionVector{StorageType: storage, PathOrInlineDv: f.str("deletionVector.pathOrInlineDv")}
	if offset, ok := f.int("deletionVector.offset"); ok {
		o := int32(offset)
		d.Offset = &o
	}
	size, _ := f.int("deletionVector.sizeInBytes")
	d.SizeInBytes = int32(size)
	d.Cardinality, _ = f.int("deletionVector.cardinality")
	return d
}

// each calls visit in every row where an action is: where its required field has a value. Some writers store the structs
// of other actions as not null, some even the fields, which are empty then.
func (rg *rowGroup) each(action, required string, kind parquet.Type, visit func(*fields) error) error {
	if rg.allNull(action, required) {
		return nil
	}
	f := rg.fields(action)
	defer f.close()
	l := f.column(required, kind)
	if f.err != nil || l == nil {
		return f.err
	}
	for row := int64(0); ; row++ {
		var err error
		if row, err = l.next(row); row < 0 || err != nil {
			return err
		}
		f.row = row
		if kind == parquet.Types.ByteArray && l.texts[l.value] == "" {
			continue
		}
		if err := visit(f); err != nil {
			return err
		}
		if f.err != nil {
			return f.err
		}
	}
}

// readAhead fetches all columns of an action with one request where they lie close together, as they do in most files: a
// request costs more than the bytes between.
func (rg *rowGroup) readAhead(action string) error {
	size := rg.src.Size()
	if size <= wholeCheckpoint {
		return nil
	}
	from, to := size, int64(0)
	for i := range rg.MetaData().Schema.NumColumns() {
		if !strings.HasPrefix(rg.MetaData().Schema.Column(i).Path(), action+".") {
			continue
		}
		if err := rg.check(i); err != nil {
			return err
		}
		md, err := rg.MetaData().ColumnChunk(i)
		if err != nil {
			return err
		}
		start := chunkRange(md.DataPageOffset(), md.DictionaryPageOffset(), md.HasDictionaryPage())
		from, to = min(from, start), max(to, start+md.TotalCompressedSize())
	}
	if to <= from || to-from > wholeCheckpoint || rg.src.at.ahead(from, to-from) {
		return nil
	}
	return rg.src.at.prefetch(from, to-from)
}

// files hands on the file actions of a row group. What the caller answers goes to stop too: it is not the file's fault.
func (rg *rowGroup) files(w *fileActions, stop *error) error {
	if w.add != nil {
		if err := rg.each("add", "path", parquet.Types.ByteArray, func(f *fields) error {
			a := f.add(w.totals)
			if f.err == nil {
				*stop = w.take(a, nil)
			}
			return cmp.Or(f.err, *stop)
		}); err != nil {
			return err
		}
	}
	if w.remove == nil {
		return nil
	}
	return rg.each("remove", "path", parquet.Types.ByteArray, func(f *fields) error {
		r := f.remove()
		if f.err == nil {
			*stop = w.take(nil, r)
		}
		return cmp.Or(f.err, *stop)
	})
}

func (f *fields) add(totals bool) *Add {
	a := &Add{Path: f.str("path"), Stats: f.str("stats"), DeletionVector: f.deletionVector()}
	a.Size, _ = f.int("size")
	if n, ok := f.int("stats_parsed.numRecords"); ok && a.Stats == "" {
		a.Stats = `{"numRecords":` + strconv.FormatInt(n, 10) + `}`
	}
	if totals {
		return a
	}
	if a.PartitionValues = f.partitionValues(); a.PartitionValues == nil {
		a.PartitionValues = map[string]*string{}
	}
	a.Tags = f.stringMap("tags")
	a.ModificationTime, _ = f.int("modificationTime")
	a.DataChange, _ = f.bool("dataChange")
	a.BaseRowID, a.DefaultRowCommitVersion = f.intPtr("baseRowId"), f.intPtr("defaultRowCommitVersion")
	a.ClusteringProvider = f.str("clusteringProvider")
	return a
}

func (f *fields) remove() *Remove {
	r := &Remove{
		Path: f.str("path"), DeletionTimestamp: f.intPtr("deletionTimestamp"), Size: f.intPtr("size"),
		PartitionValues: f.partitionValues(), DeletionVector: f.deletionVector(),
		BaseRowID: f.intPtr("baseRowId"), DefaultRowCommitVersion: f.intPtr("defaultRowCommitVersion"),
	}
	r.DataChange, _ = f.bool("dataChange")
	if v, ok := f.bool("extendedFileMetadata"); ok {
		r.ExtendedFileMetadata = &v
	}
	return r
}
