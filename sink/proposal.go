package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// proposalFolder holds the units that wait to be carried (rule P2): readers and VACUUM pass over folders that begin with
// an underscore, and listings of the log don't see it.
const proposalFolder = "_connector/proposals/"

// proposalVersion is the format that is written. Another one is passed over: its writer lands it by itself.
const proposalVersion = 1

// maxClockSkew is by how much the carrier's clock may be behind the store's. If it is more, files may be older than they seem.
const maxClockSkew = 5 * time.Minute

// maxProposal bounds a proposal's size in bytes. A unit that needs more is not proposed.
const maxProposal = 4 << 20

// proposal is one unit that any writer of the table may bring into the next version (rule P1). It never changes, and holds
// nothing that depends on the version that it will be in. Its txns follow from its spans.
type proposal struct {
	Version int                   `json:"v"`
	Table   string                `json:"table"` // metaData id
	Born    int64                 `json:"born"`  // when the oldest file was finished, in milliseconds since the epoch, by its owner's clock (rule C8)
	Age     int64                 `json:"age"`   // of that file when the proposal was left, in milliseconds
	Reads   int                   `json:"reads"` // newest format of spans that its owner understands; 0: it is of a release that did not tell
	Record  checkpoint.UnitRecord `json:"record"`
	Adds    []delta.Add           `json:"adds"`
}

// untoldReads is what those understand whose proposals don't tell: some of them know no filtered messages.
const untoldReads = 2

// sealed is the stored form: the proposal's bytes with their SHA-256, so that a torn or changed one is never carried.
type sealed struct {
	Sum      string          `json:"sha256"`
	Proposal json.RawMessage `json:"proposal"`
}

func (p *proposal) encode() ([]byte, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return json.Marshal(sealed{hex.EncodeToString(sum[:]), body})
}

func decodeProposal(data []byte) (*proposal, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(s.Proposal); hex.EncodeToString(sum[:]) != s.Sum {
		return nil, errors.New("its checksum is wrong")
	}
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(s.Proposal, &head); err != nil {
		return nil, err
	}
	if head.Version != proposalVersion {
		return nil, fmt.Errorf("its format version is %d, and this binary knows %d", head.Version, proposalVersion)
	}
	p := &proposal{}
	if err := json.Unmarshal(s.Proposal, p); err != nil {
		return nil, err
	}
	return p, p.check()
}

// check refuses what no writer of ours leaves.
func (p *proposal) check() error {
	if p.Record.Version < 1 || p.Record.Version > checkpoint.FormatVersion {
		return fmt.Errorf("its spans have format version %d", p.Record.Version)
	}
	if p.Record.Unit == "" || len(p.Record.Spans) == 0 || p.Record.Pin {
		return errors.New("it is not a unit of messages")
	}
	seen := map[int32]bool{}
	rows := int64(0)
	for _, s := range p.Record.Spans {
		if seen[s.ID] {
			return fmt.Errorf("partition %d is in it twice", s.ID)
		}
		if s.Dead > 0 {
			return errors.New("it has dead letters, which no carrier answers for")
		}
		seen[s.ID] = true
		rows += s.Rows
	}
	for i := range p.Adds {
		a := &p.Adds[i]
		n, _ := a.NumRecords()
		switch path := a.Path; {
		case strings.Contains(path, ":") || strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../"):
			return fmt.Errorf("the path %q does not lie in the table", path)
		case a.BaseRowID != nil || a.DefaultRowCommitVersion != nil:
			return errors.New("it has row ids already")
		}
		rows -= n
	}
	if rows != 0 {
		return fmt.Errorf("its files and its spans differ by %d rows", rows)
	}
	return nil
}

// propose makes a proposal of a unit, for others to carry: an object's name and what is in it. Once the put of it has begun, the unit
// may land at any time, as long as rule C1 lets it: it can't be taken back, since a carrier may have read it. A put that failed may
// have landed, so it counts.
//
// Its rv is the newest version that was judged: no version up to that touches a claim of the unit, which fits. Its name begins with
// the time, for people who look.
func (t *Table) propose(u *Unit) (name string, data []byte, err error) {
	record := t.recordFor(u, t.log.Version())
	now := t.opts.Now()
	born, ok := u.born()
	if !ok {
		born = now
	}
	adds, err := u.taggedAdds(record)
	if err != nil {
		return "", nil, err
	}
	p := proposal{Version: proposalVersion, Table: t.log.Metadata().ID, Born: born.UnixMilli(), Age: age(now, born).Milliseconds(), Reads: checkpoint.FormatVersion, Record: record, Adds: adds}
	if data, err = p.encode(); err != nil {
		return "", nil, err
	}
	if len(data) > maxProposal {
		return "", nil, fmt.Errorf("it has %d bytes, and %d are allowed", len(data), maxProposal)
	}
	name = fmt.Sprintf("%s%013d-%s-%d.json", proposalFolder, now.UnixMilli(), u.ID, record.ReadAt)
	u.proposals = append(u.proposals, name)
	u.proposedAt = record.ReadAt
	if t.opts.Events.Proposed != nil {
		t.opts.Events.Proposed()
	}
	return name, data, nil
}

// unitIDLength is that of what newUnitID returns.
const unitIDLength = 36

// proposedUnit is the id of the unit that is proposed under the name.
func proposedUnit(name string) string {
	name = name[:max(0, strings.LastIndexByte(name, '-'))]
	return name[max(0, len(name)-unitIDLength):]
}

// readProposal fetches one; fs.ErrNotExist says that its unit is done with.
func (t *Table) readProposal(ctx context.Context, name string) (*proposal, error) {
	data, err := t.read(ctx, name, maxProposal) // a larger one is cut, so that its sum is wrong
	if err != nil {
		return nil, err
	}
	p, err := decodeProposal(data)
	if err != nil {
		return nil, &badProposal{err}
	}
	return p, nil
}

// badProposal marks a proposal that nobody will ever carry.
type badProposal struct{ error }

// cargo is what a version has while it is put together.
type cargo struct {
	taken  map[string]bool // app ids and paths
	format int             // of its record
	reads  int             // newest format that the owners of all that it carries understand
}

func (t *Table) cargoOf(units []*Unit) *cargo {
	c := &cargo{taken: map[string]bool{}, format: 1, reads: checkpoint.FormatVersion}
	for _, u := range units {
		for _, s := range u.Spans {
			c.taken[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
		for _, f := range u.files {
			c.taken[delta.EncodePath(f.Name)] = true
		}
		c.format = max(c.format, checkpoint.FormatOf(u.Spans))
	}
	return c
}

// with is the format of the record, and what the owners understand, once the proposal is in it.
func (c *cargo) with(p *proposal) (format, reads int) {
	reads = p.Reads
	if reads == 0 {
		reads = untoldReads
	}
	return max(c.format, p.Record.Version, checkpoint.FormatOf(p.Record.Spans)), min(c.reads, reads)
}

// take notes what a version has by carrying the proposal.
func (c *cargo) take(p *proposal) {
	c.format, c.reads = c.with(p)
	for _, s := range p.Record.Spans {
		c.taken[checkpoint.AppID(p.Record.Name, s.ID)] = true
	}
	for i := range p.Adds {
		c.taken[p.Adds[i].Path] = true
	}
}

// misfit says why the proposal may not be in the next version (rules C1, C3, C8 and P3), which has the cargo by now; "" if it may. It was put at a
// time by the store's clock.
//
// Files have the age that their owner told, and the time that the proposal has been there. So the owner's clock does not matter. Where it
// says more by itself, that counts: the put may have been under way for long.
//
// Each owner must understand the version's record: one of an older release would see itself touched there, and not its unit, and delete the files.
func (p *proposal) misfit(t *Table, now, put time.Time, cargo *cargo) string {
	there := now.Sub(put)
	record := &p.Record
	switch {
	case p.Table != t.log.Metadata().ID:
		return "it is for another table"
	case record.ReadAt > t.log.Version():
		return "it was made at a later version than is known here"
	case record.ReadAt < t.judgedFrom:
		return "not all versions since it was made were read here" // C2
	case record.ReadAt < t.changed:
		return "the table has changed since" // C1b
	case max(now.Sub(time.UnixMilli(p.Born)), time.Duration(p.Age)*time.Millisecond+there) > maxUnitAge:
		return "its files are too old" // C8
	case there < -maxClockSkew:
		return "this clock is behind the store's: how old its files are can't be told"
	}
	if format, reads := cargo.with(p); format > reads {
		return fmt.Sprintf("the version would tell of spans of format %d, and it or another proposal is of a worker that understands %d", format, reads)
	}
	if gen, _ := t.log.Txn(checkpoint.GenerationAppID(record.Name)); gen.Version != record.Generation {
		return fmt.Sprintf("it is of generation %d, and the stream was rewound to generation %d", record.Generation, gen.Version) // A5
	}
	if filter := checkpoint.FilterAppID(record.Name); t.touched[filter] > record.ReadAt {
		return filter + " was written since: its owner may bring what the stream leaves out by now" // A1c
	}
	for _, s := range record.Spans {
		appID := checkpoint.AppID(record.Name, s.ID)
		txn, ok := t.log.Txn(appID)
		_, claimed := t.claims[appID]
		switch {
		case claimed:
			return "this process holds " + appID // and would only fence itself
		case cargo.taken[appID]:
			return appID + " is in the commit already" // C3
		case t.touched[appID] > record.ReadAt:
			return appID + " was touched since" // C1a
		case !ok || s.First != txn.Version+1:
			return fmt.Sprintf("it begins at offset %d of %s, where the table is not", s.First, appID)
		}
	}
	for i := range p.Adds {
		if cargo.taken[p.Adds[i].Path] {
			return "another unit of the commit has its file " + p.Adds[i].Path
		}
	}
	if err := t.log.CheckAdds(p.Adds); err != nil {
		return err.Error()
	}
	return ""
}
