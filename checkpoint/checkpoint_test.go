package checkpoint

import (
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"web_requests": true, "a": true, "A.b-c_9": true, "-": true, "events-0": true, strings.Repeat("x", 200): true,
		"": false, strings.Repeat("x", 201): false, "a b": false, "a/b": false, "a#b": false, "é": false, "a\n": false, "a:b": false,
	} {
		if err := ValidateName(name); (err == nil) != good {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestAppIDsRoundTrip(t *testing.T) {
	for _, name := range []string{"events", "events-1", "a.b", "-", "7"} {
		for _, id := range []int32{0, 1, 9, 10, 4711, math.MaxInt32} {
			if got, ok := PartitionOf(name, AppID(name, id)); !ok || got != id {
				t.Errorf("app id %q of %q reads as %d, %v", AppID(name, id), name, got, ok)
			}
		}
	}
	if got := AppID("events", 7); got != "events-7" { // persisted: kafka-delta-ingest's layout
		t.Errorf("the app id is %q", got)
	}
}

func TestForeignAppIDsAreNotOurs(t *testing.T) {
	for _, appID := range []string{
		"", "events", "events-", "events-007", "events-00", "events-+1", "events--1", "events- 1", "events-1 ", "events-1a",
		"events-2147483648", "events-99999999999999999999", "events-1-2", "event-1", "Events-1", "xevents-1", "events_1",
		"events#topic/a/b", "events-1#x", "events/topic/1", "events-١", "events-0x1",
	} {
		if id, ok := PartitionOf("events", appID); ok {
			t.Errorf("app id %q reads as partition %d", appID, id)
		}
	}
	// A longer name of another stream: only one of the two readings is right for each name.
	if _, ok := PartitionOf("events", "events-1-2"); ok {
		t.Error("an app id of stream events-1 is taken for one of events")
	}
	if id, ok := PartitionOf("events-1", "events-1-2"); !ok || id != 2 {
		t.Error("an app id of stream events-1 is not recognised")
	}
}

func pairs(m map[string]int64) iter.Seq2[string, int64] { return maps.All(m) }

func TestReadProgress(t *testing.T) {
	id := Identity{"cluster", "topic"}
	p, err := ReadProgress("events", pairs(map[string]int64{
		"events-0": 41, "events-1": -1, "events-1-0": 7, "other-0": 9, "events-007": 1, "delta-rs": 3,
		IdentityAppID("events", id): 2, IdentityAppID("event", id): 5, IdentityAppID("events-1", id): 6,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[int32]int64{0: 41, 1: -1}; !maps.Equal(p.Last, want) {
		t.Errorf("offsets are %v, want %v", p.Last, want)
	}
	if want := map[Identity]int32{id: 2}; !maps.Equal(p.Identities, want) {
		t.Errorf("identities are %v, want %v", p.Identities, want)
	}
	if p.Fresh() {
		t.Error("the progress is fresh")
	}
	former := Identity{"cluster", "former"}
	p, err = ReadProgress("events", pairs(map[string]int64{
		IdentityAppID("events", id): 2, IdentityAppID("events", former): 0, "events#gen": 3, "events-1#gen": 9,
	}))
	if err != nil || p.Generation != 3 || len(p.Identities) != 1 || !slices.Equal(p.Former, []Identity{former}) || p.Fresh() {
		t.Errorf("after a rewind to another topic: %+v, %v", p, err)
	}
	if p, err := ReadProgress("events", pairs(map[string]int64{"other-0": 1})); err != nil || !p.Fresh() {
		t.Errorf("a table of others is not fresh for us: %v, %v", p, err)
	}
}

func TestReadProgressRefusesWhatIsNoIdentity(t *testing.T) {
	for appID, version := range map[string]int64{"events#topic/": 1, "events#topic/only-a-cluster": 1, "events#topic/c/t": -1, "events#topic/c/u": math.MaxInt32 + 1} {
		if _, err := ReadProgress("events", pairs(map[string]int64{appID: version})); err == nil {
			t.Errorf("txn %q version %d is taken for an identity", appID, version)
		}
	}
}

func TestPins(t *testing.T) {
	here, elsewhere := Identity{"cluster", "topic"}, Identity{"cluster", "topic made anew"}
	cases := map[string]struct {
		progress   Progress
		partitions int32
		missing    []int32
		fresh      bool
		refused    string
	}{
		"a fresh table pins all":     {partitions: 3, missing: []int32{0, 1, 2}, fresh: true},
		"a topic without partitions": {fresh: true},
		"all pinned":                 {progress: Progress{Identities: map[Identity]int32{here: 2}, Last: map[int32]int64{0: 5, 1: -1}}, partitions: 2},
		"new partitions":             {progress: Progress{Identities: map[Identity]int32{here: 2}, Last: map[int32]int64{0: 5, 1: 6}}, partitions: 4, missing: []int32{2, 3}},
		"new partitions, one of them written by a newer worker already": {
			progress: Progress{Identities: map[Identity]int32{here: 2}, Last: map[int32]int64{0: 5, 1: 6, 3: 1}}, partitions: 4, missing: []int32{2},
		},
		"fewer partitions than pinned":            {progress: Progress{Identities: map[Identity]int32{here: 3}, Last: map[int32]int64{0: 5, 1: 6, 2: 7}}, partitions: 2, refused: "has 2 partitions, but 3"},
		"an offset has expired":                   {progress: Progress{Identities: map[Identity]int32{here: 2}, Last: map[int32]int64{0: 5}}, partitions: 2, refused: `no txn "events-1"`},
		"all offsets have expired":                {progress: Progress{Identities: map[Identity]int32{here: 2}, Last: nil}, partitions: 2, refused: `no txn "events-0"`},
		"another topic":                           {progress: Progress{Identities: map[Identity]int32{elsewhere: 2}, Last: map[int32]int64{0: 5, 1: 6}}, partitions: 2, refused: "topic made anew"},
		"another topic, all offsets expired":      {progress: Progress{Identities: map[Identity]int32{elsewhere: 2}, Last: nil}, partitions: 2, refused: "topic made anew"},
		"both topics, after a change of identity": {progress: Progress{Identities: map[Identity]int32{elsewhere: 2, here: 2}, Last: map[int32]int64{0: 5, 1: 6}}, partitions: 2},
		"rewound to the topic, from another one": {
			progress: Progress{Identities: map[Identity]int32{here: 2}, Former: []Identity{elsewhere}, Last: map[int32]int64{0: 5, 1: 6}}, partitions: 2,
		},
		"rewound to another topic": {
			progress: Progress{Identities: map[Identity]int32{elsewhere: 2}, Former: []Identity{here}, Last: map[int32]int64{0: 5, 1: 6}}, partitions: 2, refused: "topic made anew",
		},
		"filled by kafka-delta-ingest": {progress: Progress{Identities: nil, Last: map[int32]int64{0: 5, 2: 9}}, partitions: 3, missing: []int32{1}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			missing, fresh, err := c.progress.Pins("events", here, c.partitions)
			if c.refused != "" {
				var refused *RefusedError
				if !errors.As(err, &refused) || !strings.Contains(refused.Cause, c.refused) || refused.Remedy == "" {
					t.Fatalf("Pins answered %v, want a refusal that says %q", err, c.refused)
				}
				return
			}
			if err != nil || !slices.Equal(missing, c.missing) || fresh != c.fresh {
				t.Errorf("Pins answered %v, fresh %v, %v; want %v, fresh %v", missing, fresh, err, c.missing, c.fresh)
			}
		})
	}
}

func TestSpanArithmetic(t *testing.T) {
	p := Partition{"t", 1}
	for name, c := range map[string]struct {
		span Span
		good bool
	}{
		"empty":                 {Span{p, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0}, true},
		"at the beginning":      {Span{p, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}, true},
		"gaps":                  {Span{p, 5, 50, 3, 2, 1, 0, 0, 0, 0, 0}, true},
		"only gaps":             {Span{p, 5, 9, 0, 0, 0, 0, 0, 0, 0, 0}, true},
		"far":                   {Span{p, math.MaxInt64 - 5, math.MaxInt64, 5, 5, 0, 0, 0, 0, 0, 0}, true},
		"backwards":             {Span{p, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		"negative":              {Span{p, -1, 4, 1, 1, 0, 0, 0, 0, 0, 0}, false},
		"more than fit":         {Span{p, 0, 2, 3, 3, 0, 0, 0, 0, 0, 0}, false},
		"rows without message":  {Span{p, 0, 5, 2, 3, 0, 0, 0, 0, 0, 0}, false},
		"dead letters":          {Span{p, 0, 5, 5, 2, 1, 2, 0, 0, 0, 0}, true},
		"dead letters twice":    {Span{p, 0, 5, 5, 2, 2, 2, 0, 0, 0, 0}, false},
		"negative dead letters": {Span{p, 0, 5, 1, 2, 0, -1, 0, 0, 0, 0}, false},
		"routed":                {Span{p, 0, 9, 8, 0, 1, 2, 1, 4, 0, 0}, true},
		"routed twice":          {Span{p, 0, 9, 8, 4, 1, 2, 1, 4, 0, 0}, false},
		"negative routed":       {Span{p, 0, 9, 8, 12, 0, 0, 0, -4, 0, 0}, false},
		"lost messages":         {Span{p, 0, 5, 4, 3, 0, 0, 0, 0, 0, 0}, false},
		"negative skips":        {Span{p, 0, 5, 2, 3, -1, 0, 0, 0, 0, 0}, false},
		"lost offsets":          {Span{p, 0, 5, 2, 2, 0, 0, 0, 0, 3, 0}, true},
		"more lost than gaps":   {Span{p, 0, 5, 2, 2, 0, 0, 0, 0, 4, 0}, false},
		"negative losses":       {Span{p, 0, 5, 2, 2, 0, 0, 0, 0, -1, 0}, false},
		"negative records":      {Span{p, 0, 5, -2, -2, 0, 0, 0, 0, 0, 0}, false},
	} {
		if err := c.span.Validate(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := (Span{p, 5, 50, 3, 2, 1, 0, 0, 0, 0, 0}); s.Gaps() != 42 || s.Empty() || !(Span{First: 3, Next: 3}).Empty() {
		t.Error("gaps or emptiness are wrong")
	}
}

// The golden texts are in tables out there. If this test fails, the format changed: raise FormatVersion, keep reading
// versions 1 to 4, and leave these texts as they are.
const (
	goldenUnit   = `{"v":1,"unit":"u-1","name":"events","gen":0,"rv":7,"spans":[{"topic":"t","partition":0,"first":10,"next":20,"records":8,"rows":7,"skipped":1,"gaps":2},{"topic":"t","partition":3,"first":0,"next":1,"records":1,"rows":1,"skipped":0,"gaps":0}]}`
	goldenPin    = `{"v":1,"unit":"u-2","name":"events","gen":0,"rv":0,"spans":[{"topic":"t","partition":0,"first":5,"next":5,"records":0,"rows":0,"skipped":0,"gaps":0}],"pin":true}`
	goldenLoss   = `{"v":1,"unit":"u-3","name":"events","gen":0,"rv":0,"spans":[{"topic":"t","partition":0,"first":5,"next":50,"records":1,"rows":1,"skipped":0,"gaps":44,"lost":40,"leader_epoch":0}]}`
	goldenDead   = `{"v":2,"unit":"u-5","name":"events","gen":0,"rv":8,"spans":[{"topic":"t","partition":0,"first":20,"next":30,"records":9,"rows":6,"skipped":1,"dead":2,"gaps":1}]}`
	goldenFilter = `{"v":3,"unit":"u-6","name":"events","gen":0,"rv":9,"spans":[{"topic":"t","partition":0,"first":30,"next":40,"records":9,"rows":2,"skipped":1,"dead":2,"filtered":4,"gaps":1}]}`
	goldenRouted = `{"v":4,"unit":"u-7","name":"events","gen":0,"rv":10,"spans":[{"topic":"t","partition":0,"first":40,"next":50,"records":9,"rows":0,"skipped":1,"dead":2,"filtered":2,"routed":4,"gaps":1}]}`
	goldenCommit = `{"v":1,"units":[` + goldenUnit + `,` + goldenPin + `]}`
)

var (
	unit = UnitRecord{Version: 1, Unit: "u-1", Name: "events", ReadAt: 7, Spans: []Span{{Partition{"t", 0}, 10, 20, 8, 7, 1, 0, 0, 0, 0, 0}, {Partition{"t", 3}, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}}}
	pin  = UnitRecord{Version: 1, Unit: "u-2", Name: "events", Spans: []Span{{Partition{"t", 0}, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0}}, Pin: true}
	loss = UnitRecord{Version: 1, Unit: "u-3", Name: "events", Spans: []Span{{Partition{"t", 0}, 5, 50, 1, 1, 0, 0, 0, 0, 40, EpochOf(0)}}}
	left = UnitRecord{Version: 3, Unit: "u-6", Name: "events", ReadAt: 9, Spans: []Span{{Partition{"t", 0}, 30, 40, 9, 2, 1, 2, 4, 0, 0, 0}}}
	away = UnitRecord{Version: 4, Unit: "u-7", Name: "events", ReadAt: 10, Spans: []Span{{Partition{"t", 0}, 40, 50, 9, 0, 1, 2, 2, 4, 0, 0}}}
	dead = UnitRecord{Version: 2, Unit: "u-5", Name: "events", ReadAt: 8, Spans: []Span{{Partition{"t", 0}, 20, 30, 9, 6, 1, 2, 0, 0, 0, 0}}}
)

func TestPersistedFormIsKept(t *testing.T) {
	if FormatVersion != 4 {
		t.Error("a new format version: add golden texts of it, and keep those of versions 1 to 4 readable")
	}
	if CommitInfoKey != "kafkadelta" || TagKey != "kafkadelta.spans" {
		t.Error("the keys under which spans are stored have changed")
	}
	for golden, u := range map[string]UnitRecord{goldenUnit: unit, goldenPin: pin, goldenLoss: loss, goldenDead: dead, goldenFilter: left, goldenRouted: away} {
		unsaid := u
		unsaid.Version = 0 // it comes from what there is to say
		text, err := unsaid.Encode()
		if err != nil || text != golden {
			t.Errorf("encoded is\n%s, %v; want\n%s", text, err, golden)
		}
		got, err := DecodeUnit(golden)
		if err != nil || !reflect.DeepEqual(got, u) {
			t.Errorf("decoded is %+v, %v; want %+v", got, err, u)
		}
	}
	commit := CommitRecord{Version: 1, Units: []UnitRecord{unit, pin}}
	value, err := commit.Encode()
	if err != nil || string(value) != goldenCommit {
		t.Errorf("encoded is\n%s, %v; want\n%s", value, err, goldenCommit)
	}
	got, err := DecodeCommit(json.RawMessage(goldenCommit))
	if err != nil || !reflect.DeepEqual(got, commit) {
		t.Errorf("decoded is %+v, %v; want %+v", got, err, commit)
	}
}

const goldenRewind = `{"v":1,"unit":"u-4","name":"events","gen":2,"rv":9,"spans":[{"topic":"t","partition":0,"first":5,"next":5,"records":0,"rows":0,"skipped":0,"gaps":0}],"pin":true,"rewind":{"how":"--to earliest","from":[41]}}`

func TestRewindRoundTrips(t *testing.T) {
	u := UnitRecord{
		Version: 1, Unit: "u-4", Name: "events", Generation: 2, ReadAt: 9, Spans: []Span{{Partition: Partition{"t", 0}, First: 5, Next: 5}},
		Pin: true, Rewind: &Rewind{How: "--to earliest", From: []int64{41}},
	}
	text, err := u.Encode()
	if err != nil || text != goldenRewind {
		t.Errorf("encoded is\n%s, %v; want\n%s", text, err, goldenRewind)
	}
	if got, err := DecodeUnit(goldenRewind); err != nil || !reflect.DeepEqual(got, u) {
		t.Errorf("decoded is %+v, %v; want %+v", got, err, u)
	}
}

func TestUnknownFieldsArePassedOver(t *testing.T) {
	got, err := DecodeUnit(strings.Replace(goldenUnit, `"gen":0`, `"gen":0,"new":{"a":[1]}`, 1))
	if err != nil || !reflect.DeepEqual(got, unit) {
		t.Errorf("decoded is %+v, %v; want %+v", got, err, unit)
	}
}

func TestDecodingRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a newer version":            {`{"v":5,"spans":"another form"}`, "use a newer binary"},
		"version 0":                  {`{"v":0}`, "format version 0"},
		"no version":                 {`{"unit":"u"}`, "format version 0"},
		"not JSON":                   {`{"v":1`, "unexpected end"},
		"nothing":                    {``, "unexpected end"},
		"a wrong type":               {`{"v":1,"rv":"x"}`, "cannot unmarshal"},
		"two versions":               {`{"v":1,"V":5}`, "format version"},
		"a span that runs back":      {`{"v":1,"spans":[{"topic":"t","first":5,"next":4}]}`, "not an offset range"},
		"rows that do not add up":    {`{"v":1,"spans":[{"topic":"t","first":0,"next":5,"records":5,"rows":4,"gaps":0}]}`, "5 records but 4 rows"},
		"gaps that do not add up":    {`{"v":1,"spans":[{"topic":"t","first":0,"next":5,"records":4,"rows":4,"gaps":0}]}`, "0 gaps are written"},
		"a rewind without starts":    {strings.Replace(goldenRewind, `[41]`, `[]`, 1), "0 starts for 1 partitions"},
		"a rewind of generation 0":   {strings.Replace(goldenRewind, `"gen":2`, `"gen":0`, 1), "generation 0"},
		"a rewind that brings files": {strings.Replace(goldenRewind, `"pin":true,`, ``, 1), "is a rewind"},
		"an overflow":                {`{"v":1,"spans":[{"topic":"t","first":-9223372036854775808,"next":9223372036854775807,"gaps":-1}]}`, "not an offset range"},
	} {
		if _, err := DecodeUnit(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: decoding answered %v, want %q", name, err, c.want)
		}
		commit := `{"v":1,"units":[` + c.text + `]}`
		if name == "version 0" || name == "no version" || name == "a newer version" || name == "two versions" {
			commit = strings.Replace(c.text, `"spans"`, `"units"`, 1)
		}
		if _, err := DecodeCommit(json.RawMessage(commit)); err == nil && c.text != "" {
			t.Errorf("%s: a commit with it is decoded", name)
		}
	}
}

// TestUnitsOfACommitHaveTheirOwnVersion: a unit in a form that this binary does not know must not be read as if it were
// known, whatever the commit around it says.
func TestUnitsOfACommitHaveTheirOwnVersion(t *testing.T) {
	text := strings.Replace(goldenCommit, `{"v":1,"unit":"u-2"`, `{"v":5,"unit":"u-2"`, 1)
	if _, err := DecodeCommit(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), "newer binary") {
		t.Errorf("decoding answered %v, want a refusal of version 5", err)
	}
}

func TestPartitionsAreOrderedByTopicThenId(t *testing.T) {
	got := []Partition{{"b", 0}, {"a", 10}, {"a", 9}}
	slices.SortFunc(got, Partition.Compare)
	if want := []Partition{{"a", 9}, {"a", 10}, {"b", 0}}; !slices.Equal(got, want) {
		t.Errorf("the order is %v", got)
	}
	if got := (Partition{"a", 3}).String(); got != "a[3]" {
		t.Errorf("a partition is spelled %q", got)
	}
}

func FuzzDecodeUnit(f *testing.F) {
	for _, s := range []string{goldenUnit, goldenPin, goldenLoss, goldenDead, goldenFilter, goldenRouted, `{"v":1}`, `{"v":2}`, `{"v":3}`, `{"v":4}`, `{"v":5}`, `null`, `[]`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := DecodeUnit(text)
		if err != nil {
			return
		}
		for _, s := range u.Spans {
			if err := s.Validate(); err != nil {
				t.Errorf("decoded a span that is not valid: %v", err)
			}
		}
		again, err := u.Encode()
		if err != nil {
			t.Fatal(err)
		}
		u.Version = max(u.Version, FormatOf(u.Spans)) // a text may name an older form than its spans need
		if u2, err := DecodeUnit(again); err != nil || !reflect.DeepEqual(u, u2) {
			t.Errorf("%+v was encoded as %s, which reads as %+v, %v", u, again, u2, err)
		}
	})
}

func FuzzDecodeCommit(f *testing.F) {
	for _, s := range []string{goldenCommit, `{"v":1,"units":[]}`, `{"v":1,"units":null}`, `{"v":4}`, `null`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := DecodeCommit(value)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCommit(again); err != nil {
			t.Errorf("%s reads as %v", again, err)
		}
	})
}

// TestLastUnit holds what counts as rewriting of a unit's rows (rule A6a): a younger file without a tag, unless its statistics say that none of its rows
// is of Kafka, while those of the stream's are.
func TestLastUnit(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	updated := at.UnixMilli()
	tag := func(name, unit string) string {
		text, err := UnitRecord{Unit: unit, Name: name, Spans: []Span{{Partition: Partition{"t", 0}, First: 0, Next: 3, Records: 3, Rows: 3}}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const of, bare = `{"numRecords":3,"nullCount":{"n":0,"_kafka":{"partition":0,"offset":0,"timestamp":1}}}`, `{"numRecords":3,"nullCount":{"n":0,"_kafka":{"partition":3,"offset":3,"timestamp":3}}}`
	type file struct {
		tag   string
		age   time.Duration // before the unit's commit
		stats string
	}
	earlier := file{tag("s", "earlier"), time.Minute, of}
	for name, tt := range map[string]struct {
		files            []file
		found, rewritten bool
	}{
		"the unit":                               {files: []file{earlier, {tag("s", "last"), 0, of}}, found: true},
		"of the same id, another stream":         {files: []file{earlier, {tag("other", "last"), 0, of}}},
		"no file":                                {},
		"rows of Kafka":                          {files: []file{earlier, {"", 0, of}}, rewritten: true},
		"rows of Kafka, as old as others":        {files: []file{earlier, {"", 2 * time.Hour, of}}},
		"a clock that is behind":                 {files: []file{earlier, {"", time.Minute, of}}, rewritten: true},
		"no row of Kafka":                        {files: []file{earlier, {"", 0, bare}}},
		"no row of Kafka, told before":           {files: []file{{"", 0, bare}, earlier}},
		"no row of Kafka, and rows of it":        {files: []file{earlier, {"", 0, bare}, {"", 0, of}}, rewritten: true},
		"no partition":                           {files: []file{earlier, {"", 0, `{"numRecords":3,"nullCount":{"_kafka":{"partition":3,"offset":0}}}`}}},
		"a row of Kafka":                         {files: []file{earlier, {"", 0, `{"numRecords":3,"nullCount":{"_kafka":{"partition":2,"offset":2}}}`}}, rewritten: true},
		"by another name":                        {files: []file{earlier, {"", 0, `{"numRecords":3,"nullCount":{"origin":{"partition":3,"offset":3}}}`}}},
		"column mapping":                         {files: []file{earlier, {"", 0, `{"numRecords":3,"nullCount":{"col-1":{"col-2":3,"col-3":3}}}`}}, rewritten: true},
		"no statistics":                          {files: []file{earlier, {"", 0, ""}}, rewritten: true},
		"the number of rows alone":               {files: []file{earlier, {"", 0, `{"numRecords":3}`}}, rewritten: true},
		"the stream's rows tell no offsets":      {files: []file{{earlier.tag, time.Minute, bare}, {"", 0, bare}}, rewritten: true},
		"those of another stream do":             {files: []file{{tag("other", "earlier"), time.Minute, of}, {"", 0, bare}}, rewritten: true},
		"those that were rewritten before it do": {files: []file{{"", 2 * time.Hour, of}, {"", 0, bare}}},
	} {
		l, ok := NewLastUnit("s", UnitMark("last"), &updated)
		if !ok {
			t.Fatal("no unit")
		}
		for _, f := range tt.files {
			l.See(f.tag, at.Add(-f.age).UnixMilli(), f.stats)
		}
		if l.Found != tt.found || l.Rewritten() != tt.rewritten {
			t.Errorf("%s: found %v, rewritten %v; want %v, %v", name, l.Found, l.Rewritten(), tt.found, tt.rewritten)
		}
	}
}
