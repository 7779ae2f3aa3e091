package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	compute "kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	decodejson "kafkadelta/decode/json"
	"kafkadelta/pipeline"
	"kafkadelta/registry"
	"kafkadelta/sink"
)

// message is what was sent, and what may become of it.
type message struct {
	n       int64
	rest    string // its values in other columns than n and text, as restOf has them
	verdict verdict
	key     string // of the table that it is for; "" where there is but one
}

// verdict is what may become of a message.
type verdict int

const (
	good verdict = iota // a row, unless the table has its rule
	bad                 // never a row
	left                // left out by the filter, and counted
	some                // a row or not, as whoever judges it finds the table or the registry; once these are mended it can be one
)

// filterText leaves out what is named so.
const filterText = "text NOT LIKE 'left out%'"

// text is the column of that name.
func (m *message) text() string {
	switch {
	case m.verdict == left:
		return fmt.Sprintf("left out %d", m.n)
	case m.key == nullKey:
		return ""
	case m.key != "":
		return m.key
	}
	return fmt.Sprintf("message %d", m.n)
}

// tooLarge is a number for the column small, until somebody widens that.
const tooLarge = 40_000

// sureAfter is how long after its registration a schema is known to everybody, also to those who have asked for it before.
const sureAfter = 35 * time.Second

// field is one of an Avro message, or of a record in it.
type field struct {
	path string
	put  func(to []byte, n int64) []byte
	text func(n int64) string
}

func number(path string, of func(n int64) int64) field {
	return field{
		path, func(to []byte, n int64) []byte { return binary.AppendVarint(to, of(n)) },
		func(n int64) string { return fmt.Sprint(of(n)) },
	}
}

func word(path string) field {
	text := func(n int64) string { return fmt.Sprintf("%s %d", path, n) }
	return field{path, func(to []byte, n int64) []byte {
		return append(binary.AppendVarint(to, int64(len(text(n)))), text(n)...)
	}, text}
}

// versions are those of the messages' schema that are registered one after the other: with new columns at two depths, and a type that gets
// wider. The id of each is its place, from 1 on.
var versions = append([]schemaVersion{
	{},
	{`,{"name":"note","type":"string"}`, []field{word("note")}},
	{`,{"name":"note","type":"string"},{"name":"level","type":"int"}`, []field{word("note"), number("level", func(n int64) int64 { return n % 100 })}},
	{`,{"name":"level","type":"long"}`, []field{number("level", func(n int64) int64 { return n << 40 })}},
	{
		`,{"name":"info","type":{"type":"record","name":"info","fields":[{"name":"a","type":"int"}]}}`,
		[]field{number("info.a", func(n int64) int64 { return n })},
	},
	{
		`,{"name":"info","type":{"type":"record","name":"info","fields":[{"name":"b","type":"string"},{"name":"a","type":"int"}]}}`,
		[]field{word("info.b"), number("info.a", func(n int64) int64 { return -n })},
	},
}, pairs(5)...)

// fractions are versions with numbers that readers of FLOAT don't read from a file of DOUBLE, nor the other way round: of a column that the table has had
// for a while, and of one that two versions bring at once.
var fractions = []schemaVersion{
	{`,{"name":"ratio","type":"float"}`, []field{single("ratio")}},
	{`,{"name":"ratio","type":"float"},{"name":"note","type":"string"}`, []field{single("ratio"), word("note")}},
	{`,{"name":"ratio","type":"double"}`, []field{double("ratio")}},
	{`,{"name":"note","type":"string"},{"name":"ratio","type":"double"}`, []field{word("note"), double("ratio")}},
	{`,{"name":"gain","type":"float"}`, []field{single("gain")}},
	{`,{"name":"gain","type":"double"}`, []field{double("gain")}},
}

func single(path string) field {
	of := func(n int64) float32 { return float32(n) / 3 }
	return field{
		path, func(to []byte, n int64) []byte { return binary.LittleEndian.AppendUint32(to, math.Float32bits(of(n))) },
		func(n int64) string { return fractionText(float64(of(n))) },
	}
}

func double(path string) field {
	of := func(n int64) float64 { return float64(n) / 3 }
	return field{
		path, func(to []byte, n int64) []byte { return binary.LittleEndian.AppendUint64(to, math.Float64bits(of(n))) },
		func(n int64) string { return fractionText(of(n)) },
	}
}

// fractionText is one text for a number, whichever type it has.
func fractionText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// versionsOf are those of a world: half of them have fractions.
func versionsOf(rnd *rand.Rand) []schemaVersion {
	if rnd.IntN(2) == 0 {
		return versions
	}
	return slices.Insert(slices.Clone(versions), 2, fractions...)
}

type schemaVersion struct {
	more   string  // fields behind n and text
	fields []field // the same, in order; those of records one by one
}

// pairs are versions of which two bring one new column with different types. They are registered at once.
func pairs(n int) (all []schemaVersion) {
	for i := range n {
		name := fmt.Sprintf("pair_%d", i)
		for _, t := range []string{"int", "long"} {
			all = append(all, schemaVersion{fmt.Sprintf(`,{"name":%q,"type":%q}`, name, t), []field{number(name, func(n int64) int64 { return n })}})
		}
	}
	return all
}

func (w *world) schemaText(version int) string {
	return `{"type":"record","name":"message","fields":[{"name":"n","type":"long"},{"name":"text","type":"string"}` + w.versions[version].more + `]}`
}

// compose makes the value of the next message.
func (w *world) compose(n int64, rnd *rand.Rand) (*message, []byte) {
	m := &message{n: n}
	often := 40
	if w.buries {
		often = 12
	}
	isBad := rnd.IntN(often) == 0
	if isBad {
		m.verdict = bad
		w.count.Poison++
	} else if w.filters && rnd.IntN(6) == 0 {
		m.verdict = left
		w.count.Filtered++
	}
	if w.divided != nil {
		w.divided.address(m, rnd)
	}
	if w.evolves {
		return w.composeAvro(m, rnd)
	}
	switch {
	case isBad:
		return m, []byte(`{"n": "no number"}`)
	case w.buries && m.verdict == good && rnd.IntN(12) == 0:
		m.rest, m.verdict = fmt.Sprintf("small=%d", tooLarge), some
		return m, fmt.Appendf(nil, `{"n": %d, "text": %q, "small": %d}`, n, m.text(), tooLarge)
	}
	return m, fmt.Appendf(nil, `{"n": %d, "text": %q}`, n, m.text())
}

func (w *world) composeAvro(m *message, rnd *rand.Rand) (*message, []byte) {
	known := w.registry.versions()
	if known < len(w.versions) && rnd.IntN(60) == 0 {
		w.registry.register(min(known+rnd.IntN(3), len(w.versions)-1) | 1) // never half a pair
		known = w.registry.versions()
	}
	version := rnd.IntN(known)
	if rnd.IntN(2) == 0 {
		version = max(0, known-1-rnd.IntN(2)) // the newest
	}
	if known < len(w.versions) && rnd.IntN(40) == 0 {
		version = known // the producer is ahead of the registry
	}
	if m.verdict != bad && !w.registry.isSure(version) {
		m.verdict = some
	}
	text := m.text()
	value := binary.BigEndian.AppendUint32([]byte{0}, uint32(version+1))
	value = append(binary.AppendVarint(binary.AppendVarint(value, m.n), int64(len(text))), text...)
	values := map[string]string{}
	for _, f := range w.versions[version].fields {
		value = f.put(value, m.n)
		values[f.path] = f.text(m.n)
	}
	m.rest = restOf(values)
	if m.verdict == bad {
		value = append(value, 0) // behind the datum
	}
	return m, value
}

// schemas is the registry that all share.
type schemas struct {
	w *world

	mu    sync.Mutex
	rnd   *rand.Rand
	known int
	since []time.Time // by version, when it was registered
	asked []bool      // by version, whether somebody may have heard that it does not exist
	down  bool
}

func newSchemas(w *world) *schemas {
	return &schemas{w: w, rnd: rand.New(rand.NewPCG(w.seed, 3)), known: 1, since: make([]time.Time, len(w.versions)), asked: make([]bool, len(w.versions))}
}

func (s *schemas) versions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// register registers a version, and those before it.
func (s *schemas) register(version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; s.known <= version; s.known++ {
		s.since[s.known] = time.Now()
		s.w.trace.add("registry", "has version %d", s.known)
	}
}

// isSure tells whether a message of the version that is sent now is good for everybody.
func (s *schemas) isSure(version int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return version < s.known && (!s.asked[version] || time.Since(s.since[version]) > sureAfter)
}

func (s *schemas) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.w.trace.add("registry", "is down: %v", down)
}

// RoundTrip answers for the registry. What it says is as of the moment when it is heard.
func (s *schemas) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	wait, refuses := time.Duration(s.rnd.Int64N(int64(100*time.Millisecond))), s.rnd.IntN(2) == 0
	s.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, body any) (*http.Response, error) {
		text, err := json.Marshal(body)
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, err
	}
	var id int
	_, err := fmt.Sscanf(r.URL.Path, "/schemas/ids/%d", &id)
	switch {
	case s.down && refuses:
		return nil, errors.New("no route to the registry")
	case s.down:
		return answer(http.StatusServiceUnavailable, nil)
	case err != nil || id < 1 || id > len(s.w.versions):
		return nil, fmt.Errorf("the registry is asked for %s", r.URL.Path)
	case id > s.known:
		s.asked[id-1] = true
		return answer(http.StatusNotFound, map[string]any{"error_code": 40403, "message": "schema not found"})
	}
	return answer(http.StatusOK, map[string]any{"schema": s.w.schemaText(id - 1)})
}

// wire is a process's way to the registry.
type wire struct{ process *process }

func (t wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.process.thawed(); err != nil {
		return nil, err
	}
	answer, err := t.process.w.registry.RoundTrip(r)
	t.process.w.trace.add(t.process.name, "asks the registry for %s: %v", r.URL.Path, err == nil && answer.StatusCode == http.StatusOK)
	return answer, err
}

// decoders makes what a process decodes with; it is to be closed.
func (p *process) decoders(ctx context.Context, log *slog.Logger) (pipeline.NewDecoder, func()) {
	if !p.w.evolves {
		return func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
			plan, made, err := p.w.plan(layout)
			if err != nil {
				return nil, nil, err
			}
			return decodejson.New(plan), made, nil
		}, func() {}
	}
	client, err := registry.NewOver(ctx, registry.Config{URLs: []string{"http://registry"}}, wire{p}, func(string) string { return "" }, log)
	p.w.check(err)
	find := finder(client)
	return func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
		plan, made, err := p.w.plan(layout)
		if err != nil {
			return nil, nil, err
		}
		plan.Follow = func(want *arrow.Schema) (*arrow.Schema, error) { return layout.Lacks(want, evolution) }
		return avro.New(plan, avro.Options{Framing: avro.Registry(decode.ValueSchemaHeader, find)}), made, nil
	}, client.Close
}

// plan compiles what is decoded, and what becomes of it.
func (w *world) plan(layout *sink.Layout) (*decode.Plan, *compute.Plan, error) {
	cfg := decode.Config{}
	if w.filters {
		cfg.Filter = filterText
	}
	made, err := compute.New(layout.Schema, cfg, nil, false)
	if err != nil {
		return nil, nil, err
	}
	plan, err := decode.NewPlan(made.Schema(), made.Config())
	return plan, made, err
}

// finder is how cmd/connector has schemas found: parsed once for all decoders.
func finder(client *registry.Client) func(decode.SchemaRef) (*avro.Schema, error) {
	var mu sync.Mutex
	parsed := map[int32]*avro.Schema{}
	return func(ref decode.SchemaRef) (*avro.Schema, error) {
		text, err := client.ByID(ref.ID)
		if errors.Is(err, registry.ErrUnknown) {
			return nil, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: err.Error()}
		}
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if s := parsed[ref.ID]; s != nil {
			return s, nil
		}
		s, err := avro.Parse(fmt.Sprint(ref.ID), text.Text)
		if err == nil {
			parsed[ref.ID] = s
		}
		return s, err
	}
}

// restOf writes values down by the paths of their columns.
func restOf(values map[string]string) string {
	var all []string
	for _, path := range sorted(values) {
		all = append(all, path+"="+values[path])
	}
	return strings.Join(all, " ")
}
