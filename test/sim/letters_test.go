package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/replay"
	"kafkadelta/sink"
)

const replays = "operator-replays-"

// letters are what a reader finds in the dead-letter table, kept up with every version at the moment when it lands.
type letters struct {
	*shelf
	found map[place]int64 // versions by dead letter
	marks map[place]int64 // versions by mark of one that was replayed
	lost  map[place]bool  // of what was never delivered, and can't be
	// cleaned tells that files are gone which no version had named yet.
	cleaned bool
}

func (w *world) newLetters() *letters {
	l := &letters{shelf: newShelf(w, "letters/"), found: map[place]int64{}, marks: map[place]int64{}, lost: map[place]bool{}}
	l.read = l.readVersion
	return l
}

// readVersion takes a version over. The caller holds the lock.
func (l *letters) readVersion(version int64, data []byte) {
	actions := l.actions(version, data)
	l.takeTxns(version, actions)
	for _, a := range actions {
		if a.Remove != nil {
			l.w.fault("version %d of the dead-letter table removes %s", version, a.Remove.Path)
		}
		if a.Add == nil {
			continue
		}
		f := l.open(version, a.Add.Path, a.Add.Size)
		if _, twice := l.files[a.Add.Path]; twice {
			l.w.fault("I11: version %d of the dead-letter table adds %s again", version, a.Add.Path)
		}
		l.files[a.Add.Path] = f
		if f.data == nil {
			continue
		}
		if err := l.readRows(version, f.data); err != nil {
			l.w.fault("version %d of the dead-letter table: reading %s: %v", version, a.Add.Path, err)
		}
	}
}

func (l *letters) readRows(version int64, data []byte) error {
	return eachBatch(data, func(rb arrow.RecordBatch) error {
		column := func(name string) int { return rb.Schema().FieldIndices(name)[0] }
		partitions, offsets := rb.Column(column("partition")).(*array.Int32), rb.Column(column("offset")).(*array.Int64)
		reasons := rb.Column(column("reason")).(*array.String)
		for i := range int(rb.NumRows()) {
			l.take(version, place{partitions.Value(i), offsets.Value(i)}, reasons.Value(i))
		}
		return nil
	})
}

// take looks at one row: the stream's table has said before what it says, and nobody has brought it.
func (l *letters) take(version int64, at place, reason string) {
	table := l.w.ledger
	if reason == pipeline.ReasonReplayed {
		if before, twice := l.marks[at]; twice {
			l.w.fault("I11: version %d of the dead-letter table marks %v, and so did version %d", version, at, before)
		}
		if _, ok := table.replayed[at]; !ok {
			l.w.fault("D6: version %d of the dead-letter table marks %v, which was not replayed", version, at)
		}
		l.marks[at] = version
		return
	}
	if before, twice := l.found[at]; twice {
		l.w.fault("I11: version %d of the dead-letter table has %v (%s), and so had version %d", version, at, reason, before)
	}
	if unit, row := table.brought(at); row {
		l.w.fault("I11: version %d of the dead-letter table has %v (%s), which unit %s has made a row of", version, at, reason, unit)
	}
	if next, ok := table.next[at.partition]; !ok || at.offset >= next {
		l.w.fault("D2: version %d of the dead-letter table has %v, and the table stands at %d", version, at, next)
	}
	if l.lost[at] {
		l.w.fault("D5: version %d of the dead-letter table has %v, whose file is gone", version, at)
	}
	l.found[at] = version
}

// wrong tells what the dead-letter table lacks or has too much of, once all is delivered: spans count what it has of them, and what was
// replayed is marked. The caller holds the lock.
func (l *letters) wrong() []string {
	var wrong []string
	counted := map[int32]map[spanAt]int64{}
	found := maps.Clone(l.lost)
	for at := range l.found {
		found[at] = true
	}
	for at := range found {
		for _, s := range l.w.ledger.landed[at.partition] {
			if s.first <= at.offset && at.offset < s.next {
				if counted[at.partition] == nil {
					counted[at.partition] = map[spanAt]int64{}
				}
				counted[at.partition][s]++
			}
		}
	}
	for _, p := range sorted(l.w.ledger.landed) {
		for _, s := range l.w.ledger.landed[p] {
			if n := counted[p][s]; n != s.dead {
				wrong = append(wrong, fmt.Sprintf("I10: [%d, %d) of partition %d counts %d dead letters, and the dead-letter table has %d", s.first, s.next, p, s.dead, n))
			}
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(l.w.ledger.replayed), placeOrder) {
		if _, ok := l.marks[at]; !ok {
			wrong = append(wrong, fmt.Sprintf("I10: %v was replayed, and is not marked", at))
		}
	}
	return wrong
}

// verify compares what the command lists with what has landed.
func (l *letters) verify(ctx context.Context) {
	seen := map[place]bool{}
	err := admin.Letters(ctx, l.store, admin.LetterFilter{Connector: streamName, Partition: -1, Offset: -1}, func(letter *admin.Letter) bool {
		at := place{letter.Partition, letter.Offset}
		_, marked := l.marks[at]
		if _, ok := l.found[at]; !ok || seen[at] || letter.Replayed != marked {
			l.w.fault("the list of dead letters has %v, again: %v, replayed: %v, marked: %v", at, seen[at], letter.Replayed, marked)
		}
		seen[at] = true
		return true
	})
	if err != nil || len(seen) != len(l.found) {
		l.w.fault("the list of dead letters has %d, of %d: %v", len(seen), len(l.found), err)
	}
}

// replayTime is about how long a replay takes with a store that is well.
const replayTime = 2 * time.Second

// lettersOfPart is how many letters a replay lands at a time, so that it has several parts.
const lettersOfPart = 5

// operate has an operator replay dead letters, as `connector dead-letters replay` does, beside the workers. Often it is killed on the way.
func (w *world) operate() *process {
	w.count.Replays++
	p := w.newProcess(fmt.Sprintf("%s%d", replays, w.count.Replays))
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	log := w.logOf(p)
	w.trace.add(p.name, "replays")
	go func() {
		defer close(p.done)
		var done replay.Result
		done, p.err = p.replay(ctx, log)
		w.trace.add(p.name, "has replayed %d, %d are still bad: %v", done.Replayed, len(done.Still), p.err)
		expected := errors.As(p.err, new(*checkpoint.RefusedError)) || errors.Is(p.err, context.Canceled)
		for _, trouble := range []error{errDead, errLost, errDown} {
			expected = expected || errors.Is(p.err, trouble)
		}
		if p.err != nil && !expected {
			w.fault("%s has ended: %v", p.name, p.err)
		}
	}()
	return p
}

// isBegun tells whether both tables are there.
func (w *world) isBegun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.version >= 0 && w.letters.version >= 0
}

// operateAWhile is operate, with an end.
func (w *world) operateAWhile() {
	if !w.isBegun() {
		return
	}
	p := w.operate()
	w.gone = append(w.gone, p)
	if w.rnd.IntN(2) > 0 {
		return
	}
	after := time.Duration(w.rnd.Int64N(int64(replayTime)))
	w.others.Go(func() {
		time.Sleep(after)
		if !p.ended() {
			w.trace.add(p.name, "the replay is killed")
			p.kill()
		}
	})
}

// endReplays waits for the replays under way. What the last one has landed and not marked, since it was killed, is marked by who gets a partition next
// (rule D6): somebody does.
func (w *world) endReplays() {
	for _, p := range w.gone {
		if strings.HasPrefix(p.name, replays) {
			<-p.done
		}
	}
	if len(w.live) > 0 && w.unmarked() {
		w.trace.add("world", "a replay was killed before its marks")
		w.leave()
	}
}

// unmarked tells whether messages were replayed that are not marked.
func (w *world) unmarked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := range w.ledger.replayed {
		if _, ok := w.letters.marks[at]; !ok {
			return true
		}
	}
	return false
}

func (p *process) replay(ctx context.Context, log *slog.Logger) (replay.Result, error) {
	w := p.w
	stream, err := sink.Open(ctx, p.stores[0], w.tableConfig(), sink.Options{Name: streamName, Engine: "kafkadelta/sim", Now: time.Now, Log: log})
	if err != nil {
		return replay.Result{}, err
	}
	table, err := w.openLetters(ctx, p, sink.Options{Engine: "kafkadelta/sim", Now: time.Now, Log: log})
	if err != nil {
		return replay.Result{}, err
	}
	decoder, closed := p.decoders(ctx, log)
	defer closed()
	return replay.Run(ctx, replay.Options{
		Name: streamName, Stream: stream, Letters: table, NewDecoder: decoder, LettersOfPart: lettersOfPart, Log: log, Now: time.Now,
		Standing: func(ctx context.Context) (*admin.Standing, error) {
			return admin.StandingOf(ctx, p.stores[0], streamName, p.w.divided != nil)
		},
		Read: func(ctx context.Context, visit func(*admin.Letter) bool) error {
			return admin.Letters(ctx, p.stores[1], admin.LetterFilter{Connector: streamName, Partition: -1, Offset: -1}, visit)
		},
	})
}

func (w *world) openLetters(ctx context.Context, p *process, o sink.Options) (*sink.Table, error) {
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.Parquet.Compression = "memory://letters", "none"
	cfg.Properties = map[string]string{"delta.checkpointInterval": w.properties["delta.checkpointInterval"]}
	if keep, ok := w.properties["delta.logRetentionDuration"]; ok {
		cfg.Properties["delta.logRetentionDuration"] = keep
	}
	return sink.Open(ctx, p.stores[1], cfg, o)
}

// mend has others take away what makes messages bad that could be good: the table's rule, a column that is too narrow, a schema that is
// not registered.
func (w *world) mend() {
	switch w.rnd.IntN(3) {
	case 0:
		w.dropRule()
	case 1:
		w.widen()
	case 2:
		w.registerAll()
	}
}

func (w *world) mendAll() {
	w.dropRule()
	w.widen()
	w.registerAll()
}

func (w *world) registerAll() {
	if w.evolves {
		w.registry.register(len(w.versions) - 1)
	}
}

// dropRule takes the CHECK constraint away, for good.
func (w *world) dropRule() {
	w.mu.Lock()
	ruled := w.ledger.ruledAt >= 0 && w.ledger.freeAt < 0
	w.mu.Unlock()
	if ruled {
		w.alter("DROP CONSTRAINT", &w.count.Mended, func(m map[string]any) { delete(m["configuration"].(map[string]any), ruleKey) })
	}
}

// widen makes the column small wider.
func (w *world) widen() {
	if w.widened || w.evolves {
		return
	}
	w.alterSchema("CHANGE COLUMN", &w.count.Mended, func(fields []any) []any {
		for _, f := range fields {
			if f := f.(map[string]any); f["name"] == "small" {
				f["type"] = "integer"
				f["metadata"] = map[string]any{"delta.typeChanges": []any{map[string]any{"fromType": "short", "toType": "integer"}}}
			}
		}
		w.widened = true
		return fields
	})
}

// replayAll mends everything, and has operators replay until one of them comes to its end. Then only what can never be a row is still a dead
// letter.
func (w *world) replayAll() {
	w.mendAll()
	for begun := time.Now(); !w.broken(); {
		p := w.operate()
		<-p.done
		if p.err == nil {
			break
		}
		if time.Since(begun) > settleLimit {
			w.fault("no replay has come to its end within %v: %v", settleLimit, p.err)
		}
		time.Sleep(time.Second)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range slices.SortedFunc(maps.Keys(w.letters.found), placeOrder) {
		_, replayed := w.ledger.replayed[at]
		if m := w.want[at]; m != nil && replayed != (m.verdict != bad) {
			w.fault("after all was mended, %v of verdict %d is replayed: %v", at, m.verdict, replayed)
		}
	}
	w.trace.add("world", "all is mended, and %d of %d dead letters are rows", len(w.ledger.replayed), len(w.letters.found))
}
