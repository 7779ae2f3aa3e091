package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"sync"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// DefaultColumn is the metadata column of rows unless a stream's configuration names another one.
const DefaultColumn = "_kafka"

// Options of Verify and Explain.
type Options struct {
	// Column holds topic, partition and offset of each row's message. "" is DefaultColumn.
	Column string
	// Since and Until bound the versions that are verified: what the versions after Since and up to Until have brought. -1 is
	// everything, and the newest version.
	Since, Until int64
	// Letters is the dead-letter table's store, where Explain looks for the reasons, and Verify for what a RESTORE took; nil for none.
	Letters delta.LogStore
	// Kafka is what the table is compared with. Nil: the table is verified by itself.
	Kafka Kafka
	// Topic is the one that is compared; "" where the table has but one.
	Topic string
	// Readers are the files that are read at the same time; 0: as many as the machine has use for.
	Readers int
	// Progress is told now and then how far the reading is, from any goroutine. It may be nil.
	Progress func(Progress)
}

// Progress is how far Verify or Explain is. Totals are 0 as long as they are not known.
type Progress struct {
	Doing       string // "log", then "files", then "Kafka"
	Done, Total int64  // versions, files, or offsets
	Rows        int64  // in the files so far
}

// Verify checks that each message is in the table exactly once, as far as that can be told from what is left of it. The
// error says that it could not be done at all; what was found is in the report.
func Verify(ctx context.Context, store delta.LogStore, o Options) (*Report, error) {
	v, err := verify(ctx, store, o, nil)
	if err != nil {
		return nil, err
	}
	return v.report(), nil
}

// verify is Verify. The book is that of the catalog whose table it is; nil for none.
func verify(ctx context.Context, store delta.LogStore, o Options, book *letterBook) (*verifier, error) {
	v := &verifier{ledger: newLedger(store, o.Progress), opts: o, book: book}
	if err := v.load(ctx, o.Since, o.Until); err != nil {
		return nil, fmt.Errorf("reading the table's log: %w", err)
	}
	v.follows = v.follower()
	name := o.Column
	if name == "" {
		name = DefaultColumn
	}
	v.columns, v.offsets = findColumns(v.snap.Schema(), name)
	if err := v.readFiles(ctx); err != nil {
		return nil, fmt.Errorf("reading the table's files: %w", err)
	}
	v.judge()
	if o.Letters != nil && !v.since {
		if err := v.compareLetters(ctx, o.Letters); err != nil {
			return nil, fmt.Errorf("comparing with the dead-letter table: %w", err)
		}
	}
	if o.Kafka != nil {
		if err := v.compare(ctx); err != nil {
			return nil, fmt.Errorf("comparing with Kafka: %w", err)
		}
	}
	return v, nil
}

// verifier is one run of Verify.
type verifier struct {
	*ledger
	opts    Options
	columns columns
	offsets bool // the rows tell their offsets
	book    *letterBook
	follows bool // replays have brought rows that a catalog has decided about

	mu         sync.Mutex // guards what follows, faults and units while files are read
	files      int64
	rows       int64
	otherRows  int64
	unverified []Finding
	notes      []string
	kafka      *KafkaReport
	stood      map[standKey]int64 // what stoodAt has found
}

// job is one file to read.
type job struct {
	name string
	add  delta.Add
	unit int32 // -1: no unit's
	tag  checkpoint.UnitRecord
	// replay: its rows are those of dead letters, which no span counts.
	replay bool
	moved  bool // rows of others' files may be in it
}

// readFiles reads the files turn by turn: which generation a row of another file is of shows by what is missing.
func (v *verifier) readFiles(ctx context.Context) error {
	var total int64
	var files [3]int64
	for a, err := range v.live(ctx) {
		if err != nil {
			return err
		}
		total++
		j := v.jobOf(&a)
		files[j.turn()]++
	}
	for turn, n := range files {
		if n == 0 {
			continue
		}
		if err := v.readAll(ctx, turn, total); err != nil {
			return err
		}
	}
	return nil
}

// turn is when the file is read: those of units first, and copies of rows last, so that they are not taken for what they are copies of.
func (j *job) turn() int {
	switch {
	case j.unit >= 0:
		return 0
	case j.moved:
		return 1
	}
	return 2
}

// jobOf is what to do with a file.
func (v *verifier) jobOf(a *delta.Add) job {
	j := job{name: nameOf(a.Path), add: *a, unit: -1}
	j.replay, j.moved = v.ledger.replays[j.name], !v.appended[j.name]
	if text, ok := a.Tags[checkpoint.TagKey]; ok {
		if u, err := checkpoint.DecodeUnit(text); err == nil {
			if at, known := v.unitByID[u.Unit]; known {
				j.unit, j.tag = at, u
			}
		}
	}
	return j
}

func (v *verifier) readAll(ctx context.Context, turn int, total int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan job)
	var wg sync.WaitGroup
	readers := v.opts.Readers
	if readers == 0 {
		readers = min(max(runtime.GOMAXPROCS(0), 4), 16) // more than cores: most of the time may be the store's
	}
	for range readers {
		wg.Go(func() {
			for j := range jobs {
				if err := v.read(ctx, j); err != nil {
					cancel(err)
					return
				}
				v.mu.Lock()
				v.files++
				done, rows := v.files, v.rows
				v.mu.Unlock()
				if v.opts.Progress != nil {
					v.opts.Progress(Progress{"files", done, total, rows})
				}
			}
		})
	}
	err := v.send(ctx, jobs, turn)
	close(jobs)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (v *verifier) send(ctx context.Context, jobs chan<- job, turn int) error {
	for a, err := range v.live(ctx) {
		if err != nil {
			return err
		}
		j := v.jobOf(&a)
		if j.turn() != turn {
			continue
		}
		select {
		case jobs <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// read reads one file.
func (v *verifier) read(ctx context.Context, j job) error {
	dead, err := v.deadRows(ctx, &j)
	if err != nil {
		return err
	}
	c := v.columns
	if !v.offsets {
		c = columns{}
	}
	p := placer{v: v, job: &j, dead: dead}
	rows, err := readFile(ctx, v.store, j.name, j.add.Size, c, nil, p.place)
	if err != nil {
		return v.unread(&j, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if told, ok := j.add.NumRecords(); ok && told != rows {
		v.faults.add(Finding{Kind: RowCount, File: j.name, Text: fmt.Sprintf("%s has %d rows, the log says %d", j.name, rows, told)})
	}
	gone := cardinality(j.add.DeletionVector)
	v.rows += rows - gone
	switch blind := rows - gone - p.told; {
	case j.unit >= 0:
		v.units[j.unit].live += rows - gone
		v.units[j.unit].blind += blind
	default:
		v.otherRows += blind + p.strangers
	}
	return nil
}

// deadRows reads which rows of the file a deletion vector deletes.
func (v *verifier) deadRows(ctx context.Context, j *job) (*delta.RowSet, error) {
	if j.add.DeletionVector == nil || !v.offsets {
		return nil, nil
	}
	dead, err := delta.ReadDeletionVector(ctx, v.store, j.add.DeletionVector)
	switch {
	case err == nil:
		return dead, nil
	case errors.Is(err, errors.ErrUnsupported):
		v.doubt(Finding{Kind: Unreadable, File: j.name, Text: fmt.Sprintf("%s: %v", j.name, err)})
	case errors.Is(err, fs.ErrNotExist):
		v.fault(Finding{Kind: MissingFile, File: j.name, Text: fmt.Sprintf("%s: its deletion vector is not there: %v", j.name, err)})
	case errors.Is(err, delta.ErrCorrupt):
		v.fault(Finding{Kind: BrokenFile, File: j.name, Text: fmt.Sprintf("%s: %v", j.name, err)})
	default:
		return nil, err
	}
	return nil, nil
}

// unread says why a file could not be read. What is the store's fault is an error.
func (v *verifier) unread(j *job, err error) error {
	_, broken := errors.AsType[*brokenError](err)
	if j.unit >= 0 {
		v.mu.Lock()
		v.units[j.unit].unread = true
		v.mu.Unlock()
	}
	switch {
	case errors.Is(err, errOtherStore):
		v.doubt(Finding{Kind: Unreadable, File: j.name, Text: fmt.Sprintf("%s can't be read: %v", j.name, err)})
	case errors.Is(err, fs.ErrNotExist):
		v.fault(Finding{Kind: MissingFile, File: j.name, Text: fmt.Sprintf("%s is named by the log and is not there%s", j.name, v.lost(j))})
	case broken:
		v.fault(Finding{Kind: BrokenFile, File: j.name, Text: fmt.Sprintf("%s can't be read: %v%s", j.name, err, v.lost(j))})
	default:
		return err
	}
	return nil
}

// lost tells what a file has held.
func (v *verifier) lost(j *job) string {
	if j.unit < 0 || len(j.tag.Spans) == 0 {
		return ""
	}
	s := j.tag.Spans[0]
	text := fmt.Sprintf("; it is of the unit with offsets [%d, %d) of %s", s.First, s.Next, s.Partition)
	if n := len(j.tag.Spans); n > 1 {
		text += fmt.Sprintf(" and of %d partitions more", n-1)
	}
	return text
}

func (v *verifier) fault(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faults.add(f)
}

func (v *verifier) doubt(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unverified = append(v.unverified, f)
}

// placer puts the rows of one file to the tracks that they are of.
type placer struct {
	v    *verifier
	job  *job
	dead *delta.RowSet

	told      int64 // rows, deleted ones left out, that told their offset
	strangers int64 // of them, rows of no stream

	at     checkpoint.Partition // the place of the row before, and what is known of it
	tracks []*track
	first  int64 // offsets that the file's unit has of it
	next   int64
	origin int64 // where the stream began; rows of others before it are of another program
}

func (p *placer) place(b *batch) {
	for i := 0; i < len(b.offsets); {
		if b.offsets[i] < 0 {
			i++
			continue
		}
		n := i + 1 // rows of one place
		if b.topics == nil {
			for n < len(b.offsets) && b.offsets[n] >= 0 && b.partitions[n] == b.partitions[i] {
				n++
			}
		}
		at := checkpoint.Partition{Topic: b.topicOf(i), ID: b.partitions[i]}
		if at != p.at || p.tracks == nil {
			p.turnTo(at)
		}
		if p.job.unit >= 0 {
			p.ofUnit(b, i, n)
		} else {
			p.ofOthers(b, i, n)
		}
		i = n
	}
}

// turnTo finds the tracks of a place. Where the rows don't tell a topic, it is that of the unit, or the only one.
func (p *placer) turnTo(at checkpoint.Partition) {
	p.at, p.first, p.next, p.origin = at, 0, 0, 0
	p.tracks = []*track{}
	if p.job.unit < 0 {
		p.tracks = append(p.tracks, p.v.byPlace[at]...)
		if len(p.tracks) == 0 { // a stream of which nothing but the txns is left
			p.tracks = append(p.tracks, p.v.byPlace[checkpoint.Partition{ID: at.ID}]...)
		}
		if at.Topic == "" && len(p.tracks) == 0 {
			for place, tracks := range p.v.byPlace {
				if place.ID == at.ID {
					p.tracks = append(p.tracks, tracks...)
				}
			}
		}
		p.origin = origin(p.tracks)
		return
	}
	for _, s := range p.job.tag.Spans {
		if s.ID == at.ID && (s.Topic == at.Topic || at.Topic == "") {
			p.first, p.next = s.First, s.Next
			p.tracks = append(p.tracks, p.v.tracks[trackKey{p.job.tag.Name, s.Partition, p.job.tag.Generation}])
		}
	}
}

// origin is where the first generation of one stream began, behind what another program had taken; 0 where that is not known.
func origin(tracks []*track) int64 {
	first := int64(math.MaxInt64)
	for _, t := range tracks {
		if t.gen == 0 {
			first = min(first, max(t.pin, t.before, 0))
		}
	}
	if first == math.MaxInt64 {
		return 0
	}
	return first
}

// ofUnit takes rows of a file of a unit.
func (p *placer) ofUnit(b *batch, i, n int) {
	if len(p.tracks) == 1 {
		p.tracks[0].mu.Lock()
		defer p.tracks[0].mu.Unlock()
	}
	for ; i < n; i++ {
		o := b.offsets[i]
		dead := p.dead != nil && p.dead.Has(b.row+int64(i))
		if !dead {
			p.told++
		}
		switch {
		case len(p.tracks) != 1 || o < p.first || o >= p.next:
			if !dead {
				p.v.fault(p.finding(OutsideSpan, o, fmt.Sprintf(
					"%s has a row of %s offset %d, which is not in the spans of its unit %s", p.job.name, p.at, o, p.job.tag.Unit)))
			}
		case dead:
			p.tracks[0].deleted.add(o)
		case !p.tracks[0].have.add(o):
			p.double(o)
		}
	}
}

func (p *placer) double(o int64) {
	p.v.fault(p.finding(Duplicate, o, fmt.Sprintf("%s offset %d is in more than one row, one of them in %s; `connector explain %d %d` lists them all",
		p.at, o, p.job.name, p.at.ID, o)))
}

func (p *placer) finding(kind Kind, o int64, text string) Finding {
	partition, next := p.at.ID, o+1
	return Finding{Kind: kind, Topic: p.at.Topic, Partition: &partition, First: &o, Next: &next, File: p.job.name, Text: text}
}
