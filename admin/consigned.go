package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// OpenStore opens the store of one of a catalog's tables, by its key.
type OpenStore func(ctx context.Context, key string) (delta.LogStore, error)

// Folders of what is on its way to a catalog's tables, and how its objects are named: a manifest beside the catalog's log, a note beside each table's.
const (
	manifestForm = "_connector/manifests/%016x.json"
	noteForm     = "_connector/parcels/%016x.json"
)

// maxNote bounds what is read of one.
const maxNote = 64 << 20

// consigned is what the slots of a catalog name: rows that are decided about, and of which tables may lack some.
type consigned struct {
	stream    string
	slots     map[int32]int64 // manifests, by partition
	manifests map[int64]*consignment
	broken    map[string]error // tables, by key, that can't be looked at
}

// consignment is what is left of one manifest, and of what it names.
type consignment struct {
	missing string // why the tables can't be told; "" if they can
	tables  []string
	unit    []checkpoint.Span            // with rows of any of them
	lost    map[string]string            // by table: what of its part is not there
	spans   map[string][]checkpoint.Span // by table, with the rows that it gets; none where its note is not there
}

// ofReplay stands in the place of a partition for what a replay of dead letters has made.
const ofReplay = -1

// Pending is what tables lack of a partition's rows that the catalog has decided about.
type Pending struct {
	Partition int32    // -1: of those that a replay of dead letters has made
	Tables    []string // that lack them; none where the manifest is gone
	Rows      int64    // that they lack, as far as their notes tell
	Broken    string   // why it can't be told of some table whether it lacks any; "" if it can of all
	Lost      string   // why some can't come any more; "" if all can
	First     int64    // of the offsets of rows that are lost; -1 where nothing tells
}

// slotsOf are the manifests that the txns of a catalog, or of one of its tables, name, by partition, or ofReplay.
func slotsOf(stream string, txns iter.Seq[delta.Txn]) map[int32]int64 {
	slots := map[int32]int64{}
	for txn := range txns {
		if partition, ok := checkpoint.RowsOf(stream, txn.AppID); ok {
			slots[partition] = txn.Version
		} else if txn.AppID == checkpoint.ReplayedRowsAppID(stream) {
			slots[ofReplay] = txn.Version
		}
	}
	return slots
}

// readConsigned looks for what the slots name: manifests, notes, and files. A table's own slots are to be read after that, and then the catalog's
// once more (see pending): what is not there by now may have been delivered and tidied up meanwhile.
func readConsigned(ctx context.Context, catalog delta.LogStore, stream string, slots map[int32]int64, open OpenStore) (*consigned, error) {
	c := &consigned{stream: stream, slots: slots, manifests: map[int64]*consignment{}, broken: map[string]error{}}
	for _, id := range slots {
		if c.manifests[id] != nil {
			continue
		}
		m := &consignment{lost: map[string]string{}, spans: map[string][]checkpoint.Span{}}
		c.manifests[id] = m
		var text struct {
			Tables []string          `json:"tables"`
			Spans  []checkpoint.Span `json:"spans"`
		}
		name := fmt.Sprintf(manifestForm, id)
		if err := readJSON(ctx, catalog, name, &text); errors.Is(err, fs.ErrNotExist) {
			m.missing = fmt.Sprintf("the manifest %s, which lists the tables, is gone", name)
			continue
		} else if err != nil {
			return nil, err
		}
		m.tables, m.unit = text.Tables, text.Spans
		for _, key := range m.tables {
			store, err := open(ctx, key)
			if err == nil {
				err = m.look(ctx, store, key, id)
			}
			if err != nil {
				c.broken[key] = err
			}
		}
	}
	return c, nil
}

// look reads a table's note, and whether the files that it names are there.
func (m *consignment) look(ctx context.Context, store delta.LogStore, key string, id int64) error {
	var note struct {
		Adds   []delta.Add `json:"adds"`
		Routed struct {
			Spans []checkpoint.Span `json:"spans"`
		} `json:"routed"`
	}
	name := fmt.Sprintf(noteForm, id)
	if err := readJSON(ctx, store, name, &note); errors.Is(err, fs.ErrNotExist) {
		m.lost[key] = fmt.Sprintf("the note %s is gone", name)
		return nil
	} else if err != nil {
		return err
	}
	m.spans[key] = note.Routed.Spans
	for _, a := range note.Adds {
		r, err := store.Get(ctx, nameOf(a.Path), 0, 1)
		if errors.Is(err, fs.ErrNotExist) {
			m.lost[key] = fmt.Sprintf("the file %s is gone", nameOf(a.Path))
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

func readJSON(ctx context.Context, store delta.LogStore, name string, to any) error {
	r, err := store.Get(ctx, name, 0, maxNote)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

// pending tells what tables lack, by their slots, which were read after the rest, and by those of the catalog, read after them: a table whose slot
// is another than that of the catalog had not followed by then, since the catalog goes on only once all have (rule T3). What the catalog has gone on
// from meanwhile has arrived.
func (c *consigned) pending(tables map[string]map[int32]int64, now map[int32]int64) (all []Pending) {
	for partition, id := range c.slots {
		if now[partition] != id {
			continue
		}
		m := c.manifests[id]
		p := Pending{Partition: partition, Lost: m.missing, First: -1}
		for _, key := range m.tables {
			if at, ok := tables[key][partition]; ok && at == id {
				continue
			}
			p.Tables = append(p.Tables, key)
			if err := c.broken[key]; err != nil {
				if p.Broken == "" {
					p.Broken = fmt.Sprintf("table %s: %v", key, err)
				}
				continue
			}
			if lost := m.lost[key]; lost != "" && p.Lost == "" {
				p.Lost = fmt.Sprintf("table %s: %s", key, lost)
			}
			spans, known := m.spans[key]
			if !known {
				spans = m.unit
			}
			for _, s := range spans {
				if s.ID != partition && partition != ofReplay || s.Rows+s.Routed == 0 {
					continue
				}
				if p.Rows += s.Rows; m.lost[key] != "" && partition != ofReplay {
					p.First = s.First // the same for all: it is the catalog's unit
				}
			}
		}
		if p.Lost != "" || len(p.Tables) > 0 {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Pending) int { return int(a.Partition) - int(b.Partition) })
	return all
}

// keys are the tables that the manifests name.
func (c *consigned) keys() []string {
	var keys []string
	for _, m := range c.manifests {
		keys = append(keys, m.tables...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// pendingRows tells what tables lack of what a catalog has decided about. Where the catalog has other slots by the end, nothing is said of what those
// name.
func pendingRows(ctx context.Context, catalog delta.LogStore, stream string, open OpenStore) ([]Pending, error) {
	snap, err := delta.OpenSnapshot(ctx, catalog, -1)
	if err != nil {
		return nil, err
	}
	c, err := readConsigned(ctx, catalog, stream, slotsOf(stream, snap.Txns()), open)
	if err != nil {
		return nil, err
	}
	tables := map[string]map[int32]int64{}
	for _, key := range c.keys() {
		store, err := open(ctx, key)
		if err == nil {
			if snap, err = delta.OpenSnapshot(ctx, store, -1); err == nil {
				tables[key] = slotsOf(stream, snap.Txns())
			}
		}
		if errors.Is(err, delta.ErrNotTable) {
			err = errNotThere
		}
		if err != nil {
			c.broken[key] = err
		}
	}
	if err := ctx.Err(); err != nil { // no table is broken for that
		return nil, err
	}
	if snap, err = delta.OpenSnapshot(ctx, catalog, -1); err != nil {
		return nil, err
	}
	return c.pending(tables, slotsOf(stream, snap.Txns())), nil
}

// errNotThere is of a table that the catalog knows (rule T6).
var errNotThere = errors.New("the catalog knows it, and it is not there")
