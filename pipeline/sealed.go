package pipeline

import (
	"context"
	"maps"
	"slices"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// sealed is what a lane has taken of an epoch: encoded, and on its way to the store. It becomes a unit while the lane fills the next epoch.
type sealed struct {
	spans   []checkpoint.Span
	files   *sink.Sealed
	letters SealedLetters                           // nil for none
	tables  func(context.Context, *sink.Unit) error // rows of many tables; nil for none
}

// flush answers a marker: what the lane took of the epoch becomes a unit, once the store has all of it. The answer is always sent, once.
func (l *lane) flush(e *epoch) {
	s, err := l.seal()
	if err != nil {
		l.fail(err)
	}
	if s == nil {
		var stopped []checkpoint.Partition
		counted := l.tally
		if err == nil {
			l.tally, stopped = tally{}, slices.Collect(maps.Keys(l.stopped))
		}
		l.d.tell(func() { l.d.flushed(e, nil, counted, stopped) })
		return
	}
	counted, stopped := l.tally, slices.Collect(maps.Keys(l.stopped))
	l.tally = tally{}
	l.d.goDo(func() {
		unit, err := s.finish(e.ctx, l.d.table)
		told := l.d.tell(func() {
			if err != nil {
				l.d.quota.giveBack(counted)
				stopped = nil
				if e.ctx.Err() == nil { // else it was cut off, and is read again for that
					l.d.laneFailed(l, err)
				}
			}
			l.d.flushed(e, unit, counted, stopped)
		})
		if !told && unit != nil {
			cleanup, cancel := dropping(l.d.ctx)
			defer cancel()
			l.d.table.Discard(cleanup, []*sink.Unit{unit})
		}
	})
}

// seal encodes what the lane has; nil for nothing.
func (l *lane) seal() (*sealed, error) {
	if l.broken {
		return nil, nil
	}
	if err := l.write(); err != nil {
		return nil, err
	}
	s := &sealed{spans: l.ledger.Spans()}
	if len(s.spans) == 0 {
		l.ledger.Reset()
		return nil, nil
	}
	err := l.sealInto(s)
	if err != nil {
		gone, cancel := context.WithCancel(l.d.ctx)
		cancel()
		_, _ = s.finish(gone, l.d.table)
		return nil, err
	}
	l.ledger.Reset()
	l.filled.Store(0)
	return s, nil
}

func (l *lane) sealInto(s *sealed) (err error) {
	if l.letters != nil {
		if s.letters, err = l.letters.Seal(l.d.ctx); err != nil {
			return err
		}
	}
	if l.router != nil {
		for i, span := range s.spans {
			s.spans[i].Rows, s.spans[i].Routed = 0, span.Rows
		}
		if s.tables, err = l.router.seal(l.d.ctx, s.spans); err != nil {
			return err
		}
	}
	s.files, err = l.writer.Seal()
	return err
}

// finish waits until the store has everything, and makes the unit. After an error, which is also that the context is done, nothing is left.
func (s *sealed) finish(ctx context.Context, table *sink.Table) (unit *sink.Unit, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := func(e error) {
		if e != nil && err == nil {
			err = e
			cancel() // the rest is given up
		}
	}
	if s.files != nil {
		u, e := s.files.Unit(ctx, s.spans)
		unit = u
		failed(e)
	}
	if s.tables != nil {
		failed(s.tables(ctx, unit))
	}
	if s.letters != nil {
		parcel, e := s.letters(ctx, s.spans)
		failed(e)
		if parcel != nil && err == nil {
			failed(unit.Attach(parcel))
		}
		if parcel != nil && err != nil {
			cleanup, cancel := dropping(ctx)
			defer cancel()
			parcel.Discard(cleanup)
		}
	}
	if err != nil && unit != nil {
		cleanup, cancel := dropping(ctx)
		defer cancel()
		table.Discard(cleanup, []*sink.Unit{unit})
		unit = nil
	}
	return unit, err
}
