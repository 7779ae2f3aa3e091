package delta

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Options of Open.
type Options struct {
	Now    func() time.Time // clock of commits; required
	Engine string           // engineInfo of commits, such as "kafkadelta/1.2.3"
	// Lasting tells which txns that commits write no log checkpoint may forget, whoever makes it and whatever the table's
	// delta.setTransactionRetentionDuration (see Txn.Lasts). nil: all may be.
	Lasting func(appID string) bool
}

// state is what one version of a table says besides its files (PROTOCOL.md, "Action Reconciliation").
type state struct {
	version  int64
	protocol Protocol
	metadata Metadata
	schema   *arrow.Schema
	txns     map[string]Txn
	domains  map[string]DomainMetadata
	changed  int64       // version of the newest metaData or protocol, or a later one
	info     *CommitInfo // of this very version; nil when it has none or its JSON was cleaned
	ict      *int64      // in-commit timestamp of this very version by its checksum, where its JSON was cleaned
	first    *FileCounts // of version 0, where the state was read as that one
	verdict  *verdict    // of checkAppend; nil before it was asked
}

// Version is the version that the state belongs to.
func (s *state) Version() int64 { return s.version }

// Protocol is the newest protocol action. Its slices must not be changed.
func (s *state) Protocol() Protocol { return s.protocol }

// Metadata is the newest metaData action. Its maps and slices must not be changed.
func (s *state) Metadata() Metadata { return s.metadata }

// Schema is the table's full schema, partition columns included, as SchemaFromJSON gives it. A column of a type that
// SchemaFromJSON refuses has an Arrow extension type that prints the type's name; CheckAppend refuses such a table.
func (s *state) Schema() *arrow.Schema { return s.schema }

// PartitionColumns are the names of the partition columns in their order.
func (s *state) PartitionColumns() []string { return slices.Clone(s.metadata.PartitionColumns) }

// Txn is the newest txn of an app id. Txns never expire here, whatever the table's retention (rule A4).
func (s *state) Txn(appID string) (Txn, bool) {
	t, ok := s.txns[appID]
	return t, ok
}

// Txns yields the newest txn of every app id, by app id.
func (s *state) Txns() iter.Seq[Txn] {
	return func(yield func(Txn) bool) {
		for _, id := range slices.Sorted(maps.Keys(s.txns)) {
			if !yield(s.txns[id]) {
				return
			}
		}
	}
}

// Domains yields the domain metadata that is in force, by domain.
func (s *state) Domains() iter.Seq[DomainMetadata] {
	return func(yield func(DomainMetadata) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.domains)) {
			if !yield(s.domains[name]) {
				return
			}
		}
	}
}

// newState is the state before version 0.
func newState() *state {
	return &state{version: -1, txns: map[string]Txn{}, domains: map[string]DomainMetadata{}}
}

// apply moves the state on to a commit, or leaves it as it was and says why not.
func (s *state) apply(c *Commit) error {
	if c.Metadata != nil {
		schema, err := c.Metadata.schema(c.Version)
		if err != nil {
			return err
		}
		s.schema = schema
	}
	s.merge(c)
	return nil
}

// schema reads the metaData's schema, which must have its partition columns.
func (m *Metadata) schema(version int64) (*arrow.Schema, error) {
	if m.SchemaString == "" {
		return nil, corruptf("version %d: metaData without schemaString", version)
	}
	schema, err := readSchema(m.SchemaString)
	if err != nil {
		return nil, corruptf("version %d: %w", version, err)
	}
	for _, name := range m.PartitionColumns {
		if !schema.HasField(name) {
			return nil, corruptf("version %d: the partition column %q is not in the schema", version, name)
		}
	}
	return schema, nil
}

// merge moves the state on to a commit but for the schema. A metaData that a later one replaces may have any: some writers
// begin a table without.
func (s *state) merge(c *Commit) {
	if c.Metadata != nil {
		s.metadata = *c.Metadata
	}
	if c.Protocol != nil {
		s.protocol = *c.Protocol
	}
	for _, t := range slices.Backward(c.Txns) { // of two in one commit, which rule C3 forbids, the first counts
		s.txns[t.AppID] = t
	}
	for _, d := range slices.Backward(c.Domains) {
		if d.Removed {
			delete(s.domains, d.Domain)
		} else {
			s.domains[d.Domain] = d
		}
	}
	if c.Metadata != nil || c.Protocol != nil {
		s.changed = c.Version
	}
	if c.ChangesTable() {
		s.verdict = nil
	}
	s.version, s.info, s.ict = c.Version, c.Info, nil
}

// loadState rebuilds the state of a segment's version: the log checkpoint's non-file actions, then every JSON after it.
func loadState(ctx context.Context, store LogStore, seg *segment) (*state, error) {
	s := newState()
	if seg.base >= 0 {
		base := &Commit{Version: seg.base}
		seg.broken = true
		for _, f := range seg.files {
			if err := readLogCheckpoint(ctx, store, f, base, nil, memory.DefaultAllocator); err != nil {
				return nil, err
			}
		}
		seg.sidecars, seg.sidecarRefs = nil, base.sidecars
		for i := range base.sidecars {
			f, err := sidecarFile(&base.sidecars[i])
			if err != nil {
				return nil, err
			}
			seg.sidecars = append(seg.sidecars, f)
		}
		if err := s.apply(base); err != nil {
			return nil, err
		}
		seg.broken = false
	}
	described := int64(-1) // the newest version with a metaData, if it is in the JSON
	for first := seg.base + 1; first <= seg.version; first += readsAhead {
		commits := make([]*Commit, min(readsAhead, seg.version-first+1))
		errs := make([]error, len(commits))
		atOnce(len(commits), func(i int) { commits[i], errs[i] = readCommit(ctx, store, first+int64(i), seg.version == 0) })
		if err := cmp.Or(errs...); err != nil {
			return nil, err
		}
		for _, c := range commits {
			if seg.version == 0 && c.Removed.Files == 0 && !c.unsized {
				s.first = &c.Added
			}
			if s.merge(c); c.Metadata != nil {
				described = c.Version
			}
		}
	}
	if described >= 0 {
		var err error
		if s.schema, err = s.metadata.schema(described); err != nil {
			return nil, err
		}
	}
	if err := s.checkWhole(seg); err != nil {
		return nil, err
	}
	return s, s.loadInfo(ctx, store, seg)
}

// checkWhole refuses a log that lacks what every version has.
func (s *state) checkWhole(seg *segment) error {
	missing := ""
	switch {
	case s.protocol.MinReaderVersion == 0:
		missing = "protocol"
	case s.schema == nil:
		missing = "metaData"
	default:
		return nil
	}
	if seg.base < 0 {
		return corruptf("version %d has no %s: no commit up to it has one", seg.version, missing)
	}
	return corruptf("version %d has no %s: the log checkpoint %s lacks it, and no later commit has one", seg.version, missing, seg.files[0].name)
}

// loadInfo fetches the commitInfo of a version that came from a log checkpoint, which keeps none: the in-commit timestamp of
// the next commit follows from it. Where the JSON was cleaned or is broken, which the log checkpoint stands for, the version's
// checksum has it (PROTOCOL.md, "Version Checksum File Schema").
func (s *state) loadInfo(ctx context.Context, store LogStore, seg *segment) error {
	if seg.version > seg.base {
		return nil
	}
	if seg.hasJSON {
		c, err := readCommit(ctx, store, seg.version, false)
		if err == nil {
			s.info = c.Info
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt) {
			return err
		}
	}
	if !seg.hasCRC {
		return nil
	}
	ict, err := checksumTimestamp(ctx, store, seg.version)
	s.ict = ict
	return err
}

// checksumTimestamp is the in-commit timestamp in a version's checksum; nil when there is none to be read.
func checksumTimestamp(ctx context.Context, store LogStore, version int64) (*int64, error) {
	data, err := readHint(ctx, store, checksumName(version))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checksum of version %d: %w", version, err)
	}
	var crc struct {
		InCommitTimestamp *int64 `json:"inCommitTimestampOpt"`
	}
	if json.Unmarshal(data, &crc) != nil {
		return nil, nil //nolint:nilerr // a checksum that can't be understood is none
	}
	return crc.InCommitTimestamp, nil
}

// inCommitTimestamp is that of this very version, in milliseconds since the epoch; false when it is not known (PROTOCOL.md,
// "In-Commit Timestamps").
func (s *state) inCommitTimestamp() (int64, bool) {
	switch {
	case s.info != nil && s.info.InCommitTimestamp != nil:
		return *s.info.InCommitTimestamp, true
	case s.ict != nil:
		return *s.ict, true
	}
	return 0, false
}

// checkReadable refuses what even a reader of the log alone would get wrong.
func (s *state) checkReadable() error {
	if v := s.protocol.MinReaderVersion; v > 3 {
		return &UnsupportedError{
			Features: []string{fmt.Sprintf("reader version %d", v)},
			Detail:   fmt.Sprintf("version %d asks for it, and the newest known is 3", s.version), Remedy: newerProgram,
		}
	}
	var unknown []string
	for _, f := range slices.Concat(s.protocol.ReaderFeatures, s.protocol.WriterFeatures) {
		if strings.HasPrefix(f, "catalogManaged") || strings.HasPrefix(f, "catalogOwned") {
			unknown = append(unknown, f)
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	return &UnsupportedError{
		Features: slices.Compact(unknown), Detail: fmt.Sprintf("version %d cannot be read from the log alone", s.version),
		Remedy: catalogRemedy,
	}
}

// Table follows the log of one table, version by version. It knows what an append needs (protocol, metaData, txns), never
// the table's files. It is not goroutine-safe.
type Table struct {
	state
	store  LogStore
	opts   Options
	ahead  []*Commit // of the versions from version+1 on: the winner of a lost commit, what ReadAhead found; Next need not read them
	files  fileTally
	base   int64     // version of the log checkpoint that the table was opened from; -1 for none
	latest time.Time // when the version was last known to be the newest; zero for never
	sight  sight     // of the log as it was before commits of this process
	listed sight     // the newest version that ReadAhead was shown, and when
}

// sight is when a version was last read or listed that others had made, or that had been there for a while.
type sight struct {
	seen    time.Time
	version int64
}

// freshFor is how long the knowledge of the newest version stands for a listing (rule C7): a version that is put meanwhile
// can't have been cleaned up again.
const freshFor = time.Minute

// fresh tells whether the version was the newest less than freshFor ago, by the wall clock and by the monotonic one: either
// may stand still while a machine sleeps.
func (t *Table) fresh() bool { return t.lately(t.latest) }

// lately tells whether less than freshFor has passed since.
func (t *Table) lately(since time.Time) bool {
	now := t.opts.Now()
	wall, monotonic := now.Round(0).Sub(since.Round(0)), now.Sub(since)
	return min(wall, monotonic) >= 0 && max(wall, monotonic) < freshFor
}

// Open opens the newest version. It costs a read of _last_checkpoint, a listing from there on, a projected read of the
// log checkpoint and one read for each version after it. ErrNotTable says that there is no table.
func Open(ctx context.Context, store LogStore, o Options) (*Table, error) {
	if o.Now == nil {
		return nil, errors.New("opening a Delta table: Options.Now is required")
	}
	t := &Table{store: store, opts: o}
	if err := t.Reload(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload opens the newest version anew, the remedy after ErrMissingCommit. What happened since the version before is not
// known then (rule C2). On an error the table stays where it was.
func (t *Table) Reload(ctx context.Context) error {
	asked := t.opts.Now()
	s, seg, err := open(ctx, t.store, -1, nil)
	if err != nil {
		return fmt.Errorf("opening the Delta log: %w", err)
	}
	t.state, t.ahead, t.files, t.base, t.latest, t.sight = *s, nil, fileTally{}, seg.base, asked, sight{asked, s.version}
	return nil
}

// open loads the state of one version, the newest for -1. An object that was listed and is gone when it is read was taken
// by a cleanup at that moment; one more listing finds the log checkpoint that covers for it. A log checkpoint that can't be
// understood is passed over where another one, or the log, reaches as far: it is only a shortcut (PROTOCOL.md, "Checkpoints").
// So are those that have one of the broken files.
func open(ctx context.Context, store LogStore, version int64, broken []string) (*state, *segment, error) {
	broken = slices.Clone(broken)
	var first error // what was wrong with the newest log checkpoint
	for attempt := 1; ; attempt++ {
		seg, err := findSegment(ctx, store, version, broken)
		if err != nil {
			return nil, nil, cmp.Or(first, err)
		}
		s, err := loadState(ctx, store, seg)
		if errors.Is(err, fs.ErrNotExist) && attempt == 1 {
			continue
		}
		if errors.Is(err, ErrCorrupt) && seg.broken {
			for _, f := range seg.files {
				broken = append(broken, f.name)
			}
			first = cmp.Or(first, err)
			continue
		}
		if err == nil {
			err = s.checkReadable()
		}
		if err != nil {
			return nil, nil, cmp.Or(first, err)
		}
		return s, seg, nil
	}
}

// Next reads version+1 from its JSON and moves on to it. io.EOF says that it is not there and no later version is;
// ErrMissingCommit that it is gone but a later one is listed (rule C2); after any error the table stays where it was.
//
// Cost: one Get for a version that is there (none for the winner of a lost commit and what ReadAhead has read). Where nothing
// is new, which is every idle poll, one Get that misses and, once a minute, a listing that starts at version+1 and is empty:
// the listing alone tells "not there yet" from "cleaned up", but nothing is cleaned up within a minute (rule C7).
func (t *Table) Next(ctx context.Context) (*Commit, error) {
	var c *Commit
	if len(t.ahead) > 0 {
		c = t.ahead[0]
	} else {
		var err error
		if c, err = t.read(ctx, t.version+1); err != nil {
			return nil, err
		}
	}
	c.tableID = t.metadata.ID
	if err := t.follow(c); err != nil {
		return nil, err
	}
	t.arrive()
	return c, nil
}

// read reads one version after the table's own.
func (t *Table) read(ctx context.Context, version int64) (*Commit, error) {
	c, err := readCommit(ctx, t.store, version, true)
	if errors.Is(err, fs.ErrNotExist) {
		if t.fresh() {
			return nil, io.EOF
		}
		asked := t.opts.Now()
		gone := t.probe(ctx, version)
		if errors.Is(gone, io.EOF) {
			t.latest = asked
		}
		if gone != nil && !errors.Is(gone, ErrMissingCommit) {
			return nil, gone
		}
		// It may have appeared since: with a later one that the listing showed alone, it was not there yet, and is not gone.
		if c, err = readCommit(ctx, t.store, version, true); gone != nil && errors.Is(err, fs.ErrNotExist) {
			return nil, gone
		}
	}
	if err == nil && !t.fresh() {
		err = t.standing(ctx)
	}
	if err != nil {
		return nil, err
	}
	t.sight = sight{t.opts.Now(), c.Version}
	return c, nil
}

// standing looks whether the version that the table stands on is still there and the same (rule C2a). Otherwise what was read
// at the version after it proves nothing: the log was cleaned beyond both, and a late put took the place. Cleaning goes
// from the oldest version on and takes none that is younger than a minute, so that only who has not known the newest version for as
// long needs to ask. Whether the version was found at once or only when it was looked for again, the late put may be what was found.
func (t *Table) standing(ctx context.Context) error {
	c, err := readCommit(ctx, t.store, t.version, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case t.info == nil || c.Info != nil && c.Info.TxnID == t.info.TxnID:
		return nil
	}
	return fmt.Errorf("following the Delta log: version %d, the last that was read, is gone: %w", t.version, ErrMissingCommit)
}

// probe finds out why a version's JSON is not there; nil when it is by now.
func (t *Table) probe(ctx context.Context, version int64) error {
	l, err := t.present(ctx)
	if err != nil {
		return err
	}
	switch newest := l.newest(); {
	case slices.Contains(l.commits, version):
		return nil
	case newest >= version:
		return fmt.Errorf("following the Delta log: version %d is gone, the newest is %d: %w", version, newest, ErrMissingCommit)
	}
	return io.EOF
}

// present lists the log from the version on that was seen last. Where that is not there, and no log checkpoint stands for it, the table
// was removed, or another one is in its place. A later version proves nothing: this process may have put it into the empty place.
func (t *Table) present(ctx context.Context) (*listing, error) {
	asked := t.opts.Now()
	l, err := listLog(ctx, t.store, t.sight.version)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(l.commits, t.sight.version) && l.newestCheckpoint(t.sight.version, math.MaxInt64, nil) < 0 {
		return nil, fmt.Errorf("following the Delta log: version %d is not there any more, and no log checkpoint: %w", t.sight.version, ErrVanished)
	}
	t.sight = sight{asked, t.version}
	return l, nil
}
