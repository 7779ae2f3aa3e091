package delta

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/bits"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/uuid"
)

const (
	sidecarRows = 250_000 // file actions of a new sidecar, roughly

	// Sidecars are merged when mergeAt of them are of about one size, a factor of mergeAt apart, so that a file action is
	// written again a few times in its life only. From mergeBelow on a sidecar is left alone.
	mergeAt       = 8
	mergeSmallest = 64 << 10
	mergeBelow    = 32 << 20

	// classicEvery is how many log checkpoints pass between two that old clients can see (PROTOCOL.md, "Handling Backward
	// compatibility while moving to UUID-named v2 Checkpoints").
	classicEvery = 10

	sidecarTag = "kafkadelta.sidecar"
)

// sidecarNote is what a sidecar's tag tells, so that an unchanged sidecar need not be opened: version 1.
type sidecarNote struct {
	V          int        `json:"v"`
	Schema     string     `json:"schema"` // fingerprint of the type of add
	Files      FileCounts `json:"files"`
	Tombstones int64      `json:"tombstones"`
}

func (cs *checkpointSchema) fingerprint() string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cs.add.String()))
	return strconv.FormatUint(h.Sum64(), 16)
}

// oldSidecar is a sidecar of the earlier log checkpoint.
type oldSidecar struct {
	ref  Sidecar
	file checkpointFile
	note sidecarNote
}

// v2 writes the files into sidecars and the rest into a UUID-named log checkpoint that refers to them (PROTOCOL.md, "V2
// Spec"). New files go to a new sidecar. One of the earlier log checkpoint's is written anew only if something newer
// speaks of a file in it, or to be merged with others of its size.
func (w *checkpointWriter) v2() (int64, error) {
	open := func() (*checkpointOutput, error) {
		return createCheckpointFile(w.ctx, w.store, sidecarFolder+uuid.NewString()+".parquet", w.schema.sidecar(), w.codec())
	}
	adds, removes := newFileOutput(w.schema, sidecarRows, open), newFileOutput(w.schema, sidecarRows, open)
	defer adds.release()
	defer removes.release()
	kept, err := w.sidecars(adds, removes)
	if err != nil {
		adds.abort()
		removes.abort()
		return 0, err
	}
	refs := w.refer(kept, adds, removes)
	var size int64
	for i := range refs {
		size += refs[i].SizeInBytes
	}
	top, err := w.v2Top(refs, size)
	return size + top, err
}

// sidecars writes the new sidecars and gives those that stay.
func (w *checkpointWriter) sidecars(adds, removes *fileOutput) (kept []oldSidecar, err error) {
	overrides := fileSet{}
	if err := w.newerActions(adds, removes, func(c *Commit, files []fileHash, again bool) {
		// A blind append that changes data speaks of new files only. Without dataChange it may give old ones other statistics.
		if again || c.Info == nil || !c.Info.IsBlindAppend {
			for _, h := range files {
				overrides[h] = struct{}{}
			}
		}
	}); err != nil {
		return nil, err
	}
	c := &carrier{schema: w.schema, newer: w.newer, since: w.tombstonesSince(), adds: adds, removes: removes}
	if len(w.s.seg.sidecars) == 0 {
		for _, f := range w.s.seg.files {
			if err := w.carry(c, f); err != nil {
				return nil, err
			}
		}
	}
	for i, f := range w.s.seg.sidecars {
		old := oldSidecar{ref: w.s.seg.sidecarRefs[i], file: f}
		same, err := w.unchanged(&old, overrides)
		if err != nil {
			return nil, w.earlier(err)
		}
		switch {
		case !same:
			if err := w.carry(c, f); err != nil {
				return nil, err
			}
		case old.note.Files.Files > 0 || old.ref.ModificationTime > c.since:
			kept = append(kept, old)
		}
	}
	kept, merge := mergeable(kept)
	for _, old := range merge {
		if err := w.carry(c, old.file); err != nil {
			return nil, err
		}
	}
	if err := adds.finish(); err != nil {
		return nil, err
	}
	return kept, removes.finish()
}

// mergeable picks the sidecars that are to become one.
func mergeable(all []oldSidecar) (keep, merge []oldSidecar) {
	tiers := map[int][]oldSidecar{}
	for _, s := range all {
		if s.ref.SizeInBytes >= mergeBelow {
			keep = append(keep, s)
			continue
		}
		tier := (bits.Len64(uint64(max(s.ref.SizeInBytes, 1)/mergeSmallest)) + 2) / 3
		tiers[tier] = append(tiers[tier], s)
	}
	for tier := range bits.Len64(mergeBelow/mergeSmallest) + 1 {
		if len(tiers[tier]) >= mergeAt {
			merge = append(merge, tiers[tier]...)
		} else {
			keep = append(keep, tiers[tier]...)
		}
	}
	return keep, merge
}

// unchanged reports whether a sidecar can stay as it is, and completes its note. One that tells its form and counts is
// opened only if something may be overridden.
func (w *checkpointWriter) unchanged(old *oldSidecar, overrides fileSet) (bool, error) {
	noted := json.Unmarshal([]byte(old.ref.Tags[sidecarTag]), &old.note) == nil && old.note.V == 1
	if noted && old.note.Schema != w.schema.fingerprint() {
		return false, nil
	}
	if noted && len(overrides) == 0 {
		return true, nil
	}
	if !noted {
		if same, err := w.sameForm(old.file); err != nil || !same {
			return false, err
		}
	}
	note, hit := sidecarNote{V: 1, Schema: w.schema.fingerprint()}, false
	err := eachBatch(w.ctx, w.store, old.file, func(path string) bool { return keyColumns(path) || path == "add.size" },
		func(rb arrow.RecordBatch) error {
			add, remove := structAt(rb, "add"), structAt(rb, "remove")
			for row := range int(rb.NumRows()) {
				if a := addAt(add, row); a != nil {
					hit = hit || overrides.has(a.Path, a.DeletionVector)
					note.Files.add(a.Size, a.DeletionVector)
				}
				if r := removeAt(remove, row); r != nil {
					hit = hit || overrides.has(r.Path, r.DeletionVector)
					note.Tombstones++
				}
			}
			return nil
		})
	old.note = note
	return !hit, err
}

// sameForm reports whether another writer's sidecar keeps statistics as this table wants them: readers take the form of all
// sidecars from one.
func (w *checkpointWriter) sameForm(f checkpointFile) (same bool, err error) {
	src, err := openRanged(w.ctx, w.store, f)
	if err != nil {
		return false, err
	}
	err = src.guard(func() error {
		pf, err := file.NewParquetReader(src)
		if err != nil {
			return err
		}
		schema, err := pqarrow.FromParquet(pf.MetaData().Schema, nil, nil)
		if err != nil {
			return err
		}
		for _, f := range schema.Fields() {
			if st, ok := f.Type.(*arrow.StructType); ok && f.Name == "add" {
				same = w.schema.sameForm(st)
			}
		}
		return nil
	})
	return same, err
}

func (cs *checkpointSchema) sameForm(add *arrow.StructType) bool {
	for _, name := range []string{"stats", "stats_parsed", "partitionValues_parsed"} {
		_, have := add.FieldIdx(name)
		if _, want := cs.add.FieldIdx(name); want != have {
			return false
		}
	}
	none := array.MakeArrayOfNull(memory.DefaultAllocator, add, 0)
	defer none.Release()
	a, ok := conform(none, cs.add)
	if ok {
		a.Release()
	}
	return ok
}

// refer gives the sidecar actions of the new log checkpoint and sums up the result.
func (w *checkpointWriter) refer(kept []oldSidecar, adds, removes *fileOutput) []Sidecar {
	refs := make([]Sidecar, 0, len(kept)+len(adds.done)+len(removes.done))
	put := func(ref Sidecar, note sidecarNote) {
		text, _ := json.Marshal(note) // numbers and a text always fit
		ref.Tags = map[string]string{sidecarTag: string(text)}
		refs = append(refs, ref)
		w.result.Files.plus(note.Files)
		w.result.Tombstones += note.Tombstones
	}
	for _, old := range kept {
		put(old.ref, old.note)
	}
	for _, o := range append(adds.done, removes.done...) {
		w.result.Bytes += o.size
		put(Sidecar{
			Path: strings.TrimPrefix(o.name, sidecarFolder), SizeInBytes: o.size, ModificationTime: w.now.UnixMilli(),
		}, sidecarNote{V: 1, Schema: w.schema.fingerprint(), Files: o.counts, Tombstones: o.stones})
	}
	w.result.Sidecars, w.result.Reused = len(refs), len(kept)
	return refs
}

// v2Top writes the log checkpoint itself: everything but files, and the references to the sidecars.
func (w *checkpointWriter) v2Top(refs []Sidecar, sidecarBytes int64) (int64, error) {
	top := w.schema.top(true)
	rows := newCheckpointRows(w.schema, top)
	defer rows.release()
	actions := w.result.Files.Files + w.result.Tombstones
	rows.checkpointMetadata(w.s.version, map[string]string{
		"sidecarNumActions": strconv.FormatInt(actions, 10), "sidecarSizeInBytes": strconv.FormatInt(sidecarBytes, 10),
		"numOfAddFiles": strconv.FormatInt(w.result.Files.Files, 10),
	})
	rows.state(&w.s.state, w.txnsSince())
	for i := range refs {
		rows.sidecar(&refs[i])
	}
	rb := rows.take()
	defer rb.Release()
	names := []string{fmt.Sprintf("%s%020d.checkpoint.%s.parquet", logFolder, w.s.version, uuid.NewString())}
	if w.s.version/w.s.CheckpointInterval()%classicEvery == 0 {
		names = append(names, classicName(w.s.version))
	}
	var size int64
	for _, name := range names {
		out, err := createCheckpointFile(w.ctx, w.store, name, top, w.codec())
		if err != nil {
			return 0, err
		}
		if err := out.write(rb); err != nil {
			out.abort()
			return 0, err
		}
		if err := out.close(); err != nil {
			return 0, err
		}
		size = out.size
		w.result.Bytes += size
	}
	w.result.Actions = actions + rb.NumRows()
	return size, nil
}
