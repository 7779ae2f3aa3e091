package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"kafkadelta/checkpoint"
)

// lostRows says that rows which the catalog has decided about are gone before their table had them, or that it does not take them any more (rules D5
// and T5). Its remedy is what would bring them after all; "" for nothing.
type lostRows struct {
	*checkpoint.RefusedError
	spans []checkpoint.Span // that they are of; none where not even that is known
}

func (l *lostRows) Unwrap() error { return l.RefusedError }

func newLostRows(spans []checkpoint.Span, format string, args ...any) *lostRows {
	l := &lostRows{&checkpoint.RefusedError{Cause: fmt.Sprintf(format, args...)}, nil}
	l.of(spans)
	return l
}

func lostFile(file string, spans []checkpoint.Span) *lostRows {
	return newLostRows(spans, "the file %s is gone before it was committed (a VACUUM while no worker ran?)", file)
}

// unfitRows is for a table that was altered between the writing of rows for it and their delivery.
func unfitRows(spans []checkpoint.Span, reason string) *lostRows {
	l := newLostRows(spans, "it was changed after rows for it were written, and does not take them any more (%s)", reason)
	l.Remedy = "take back what was altered, and start; alter it again afterwards, and the catalog too"
	return l
}

// of takes over those of the spans that have rows of a table, or of any.
func (l *lostRows) of(spans []checkpoint.Span) {
	l.spans = slices.DeleteFunc(slices.Clone(spans), func(s checkpoint.Span) bool { return s.Rows+s.Routed == 0 })
}

// what tells what is lost, for people.
func (l *lostRows) what() string {
	var held []string
	for _, s := range l.spans {
		switch {
		case s.Rows > 0:
			held = append(held, fmt.Sprintf("%d rows of offsets [%d, %d) of %s", s.Rows, s.First, s.Next, s.Partition))
		default:
			held = append(held, fmt.Sprintf("rows of offsets [%d, %d) of %s", s.First, s.Next, s.Partition))
		}
	}
	if len(held) == 0 {
		return l.Cause
	}
	return l.Cause + ": " + strings.Join(held, ", ")
}

// refuseLost names all that is lost, and one rewind that has it read again; nil where nothing is.
func refuseLost(tables []*addressee) error {
	var causes, remedies, offsets []string
	first := map[int32]int64{}
	for _, a := range tables {
		for _, l := range a.lost {
			causes = append(causes, fmt.Sprintf("table %s: %s", a.key, l.what()))
			if l.Remedy != "" && !slices.Contains(remedies, l.Remedy) {
				remedies = append(remedies, l.Remedy)
			}
			for _, s := range l.spans {
				if at, ok := first[s.ID]; !ok || s.First < at {
					first[s.ID] = s.First
				}
			}
		}
	}
	if len(causes) == 0 {
		return nil
	}
	if len(first) > 0 {
		for _, p := range slices.Sorted(maps.Keys(first)) {
			offsets = append(offsets, fmt.Sprintf("%d=%d", p, first[p]))
		}
		remedies = append(remedies, fmt.Sprintf("`connector rewind --to-offsets %s` reads them again, in a new generation of all tables: rows behind these offsets that others have come again unless they are deleted", strings.Join(offsets, ",")))
	}
	remedies = append(remedies, "`connector settle --give-up` goes on without them")
	return &checkpoint.RefusedError{Cause: strings.Join(causes, "; "), Remedy: strings.Join(remedies, "; or ")}
}

// passOver goes on without a parcel that is lost, once the catalog stands before its rows: they are read again (rule T5). Its partitions have been
// rewound since then, for it was behind them when it decided, and no unit of them lands before they are settled.
func (s *settling) passOver(ctx context.Context, a *addressee, lost *lostRows, m *manifest, slots []Slot) (bool, error) {
	if len(lost.spans) == 0 {
		lost.of(m.Spans)
	}
	again, err := s.catalog.standsBefore(ctx, lost.spans)
	if err != nil {
		return false, err
	}
	switch {
	case again:
		a.table.opts.Log.Warn("rows of an earlier generation can't be committed any more: the stream was rewound since, and goes on without them",
			"table", a.key, "reason", lost.what())
	case !s.giveUp:
		if lost.Remedy == "" && slots[0].AppID == checkpoint.ReplayedRowsAppID(s.catalog.opts.Name) {
			lost.Remedy = "they were dead letters: give them up (see below), take the marks of those that have no row in any table out of the dead-letter table " +
				"(DELETE FROM ... WHERE reason = 'replayed' AND ...), and replay them again"
		}
		a.lost = append(a.lost, lost)
		return true, nil
	}
	done, err := a.table.Deliver(ctx, nil, slots)
	if done && !again {
		a.lost = append(a.lost, lost)
	}
	return done, err
}

// standsBefore tells whether all messages of the spans, of which there are some, are yet to be read.
func (t *Table) standsBefore(ctx context.Context, spans []checkpoint.Span) (bool, error) {
	if err := t.lock(ctx); err != nil {
		return false, err
	}
	defer t.unlock()
	for _, s := range spans {
		if txn, ok := t.log.Txn(checkpoint.AppID(t.opts.Name, s.ID)); !ok || txn.Version >= s.First {
			return false, nil
		}
	}
	return len(spans) > 0, nil
}

// GiveUpRows is SettleRows that goes on without what is lost, as GiveUp does for dead letters, and tells it, a line each: what is there yet is
// delivered. Where a manifest is gone, it goes by the notes that the tables have.
func GiveUpRows(ctx context.Context, catalog *Table, partitions []int32, open OpenTable) ([]string, error) {
	s := &settling{catalog: catalog, open: open, giveUp: true}
	_, err := s.run(ctx, partitions)
	return s.given, err
}

func (s *settling) takeDown(tables []*addressee) {
	for _, a := range tables {
		for _, l := range a.lost {
			s.given = append(s.given, fmt.Sprintf("table %s: %s", a.key, l.what()))
		}
	}
}

// manifestAgain makes a manifest that is gone of the notes that the tables have: any that it can have named, the catalog knows (rule T6).
func (s *settling) manifestAgain(ctx context.Context, id int64) (*manifest, error) {
	keys, _, err := s.catalog.Tables(ctx)
	if err != nil {
		return nil, err
	}
	m := &manifest{Version: manifestVersion}
	var mu sync.Mutex
	var tables []*addressee
	for _, key := range keys {
		tables = append(tables, &addressee{key: key})
	}
	err = each(ctx, tables, func(ctx context.Context, a *addressee) error {
		table, err := s.open(ctx, a.key)
		if err != nil {
			return err
		}
		note, err := table.noteOf(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if lost, ok := errors.AsType[*lostRows](err); ok && len(lost.spans) > 0 { // it is of a table that was made anew
			m.Tables = append(m.Tables, a.key)
			return nil
		} else if ok {
			return nil
		}
		if err == nil && note.Routed != nil {
			m.Tables, m.Generation = append(m.Tables, a.key), note.Routed.Generation
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(m.Tables)
	s.given = append(s.given, fmt.Sprintf("the manifest %016x: what it has named is known of the tables %v alone", id, m.Tables))
	return m, s.catalog.putManifest(ctx, id, m)
}
