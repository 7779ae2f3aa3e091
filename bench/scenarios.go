package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/local"
)

// figure is one result of a scenario.
type figure struct {
	Scenario string  `json:"scenario"`
	Round    int     `json:"round"`
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
}

// scenarios are questions about a connector that runs, other than how fast it catches up.
var scenarios = []struct {
	name string
	run  func(context.Context, *liveSuite, string) ([]figure, error)
}{
	{"fresh", runFresh},
	{"start", runStart},
	{"idle", runIdle},
	{"processes", runProcesses},
	{"values", runValues},
	{"grown", grownBy(grownRows, 0)},
	{"grown_long", grownBy(grownLongRows, grownLongBase)},
}

// liveSuite is one call of `bench scenarios`.
type liveSuite struct {
	options
	rate          int64         // fresh: messages a second
	length        time.Duration // fresh and idle: how long is looked
	files         int64         // start: data files of the table
	scaleMessages int64         // processes and grown: messages of each run
	root, work    string
	connector     string
	round         int // from 0
	topicPrefix   string
	onlyScenarios []string
}

// liveResult is what is saved.
type liveResult struct {
	Format  int       `json:"format"`
	At      time.Time `json:"at"`
	Machine machine   `json:"machine"`
	liveSettings
	Figures []figure `json:"figures"`
}

// liveSettings are those that change the figures.
type liveSettings struct {
	Rate     int64   `json:"messages_per_second,omitzero"` // fresh
	Seconds  float64 `json:"seconds,omitzero"`             // fresh and idle
	Files    int64   `json:"files,omitzero"`               // start
	Messages int64   `json:"messages,omitzero"`            // of a run of processes, values, grown and grown_long; 0 in files that were saved before it was said, on 2026-11-28
	Broker   string  `json:"broker"`
	Config   string  `json:"config,omitzero"`
}

// conditions are the settings that move the figures of a scenario.
func (s liveSettings) conditions(scenario string) liveSettings {
	c := liveSettings{Broker: s.Broker, Config: s.Config}
	switch scenario {
	case "fresh":
		c.Rate, c.Seconds = s.Rate, s.Seconds
	case "start":
		c.Files = s.Files
	case "idle":
		c.Seconds = s.Seconds
	default:
		c.Messages = s.Messages
	}
	return c
}

func scenariosCommand(ctx context.Context, args []string) (m measurement, err error) {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	s := &liveSuite{}
	var only, brokers string
	f := flag.NewFlagSet("bench scenarios", flag.ContinueOnError)
	f.StringVar(&only, "only", strings.Join(names, ","), "scenarios to run")
	f.StringVar(&brokers, "brokers", "", "host:port,... (default: an embedded broker in a process of its own)")
	f.IntVar(&s.rounds, "rounds", 3, "times that each is run")
	f.Int64Var(&s.rate, "rate", 20_000, "fresh: messages that are produced each second")
	f.DurationVar(&s.length, "length", 30*time.Second, "fresh and idle: how long is looked")
	f.Int64Var(&s.files, "files", 100_000, "start: data files of the table")
	f.Int64Var(&s.scaleMessages, "messages", 2_000_000, "processes and grown: messages of each run")
	f.StringVar(&s.connectorYAML, "config", "", "YAML lines to add to the connector's configuration")
	f.StringVar(&s.dir, "dir", "", "folder for tables and binaries (default: the system's folder for temporary files)")
	f.StringVar(&m.output, "o", "", "file for the results (default: a new one in bench/results)")
	if err := f.Parse(args); err != nil {
		return m, err
	}
	s.onlyScenarios, s.brokers, s.partitions, s.messages, s.compression = split(only), split(brokers), 4, 1, "none"
	for _, name := range s.onlyScenarios {
		if !slices.Contains(names, name) {
			return m, fmt.Errorf("scenario %q is not known: use %s", name, strings.Join(names, ", "))
		}
	}
	if s.rate < 1 || s.length < time.Second || s.files < 1 || s.scaleMessages < 1000 {
		return m, errors.New("-rate and -files must be at least 1, -length at least 1s, and -messages at least 1000")
	}
	if err := s.validate(f.Args()); err != nil {
		return m, err
	}
	var leave func() error
	if s.root, s.work, leave, err = workplace(ctx, s.dir); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	r, err := s.run(ctx)
	m.kind, m.result = "scenarios-", r
	return m, err
}

func (s *liveSuite) run(ctx context.Context) (liveResult, error) {
	r := liveResult{
		Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, s.root),
		liveSettings: liveSettings{Rate: s.rate, Seconds: s.length.Seconds(), Files: s.files, Messages: s.scaleMessages, Broker: "real", Config: s.connectorYAML},
	}
	v, err := buildVariant(ctx, variantNow, s.root, filepath.Join(s.work, "now"))
	if err != nil {
		return r, err
	}
	s.connector = v.connector
	if len(s.brokers) == 0 {
		r.Broker = "embedded"
		brokers, stop, err := startBroker(ctx, v.bench)
		if err != nil {
			return r, err
		}
		defer func() { _ = stop() }() // it has nothing to lose
		s.brokers = brokers
	}
	s.topicPrefix = fmt.Sprintf("kafkadelta-bench-%d", r.At.Unix())
	for round := range s.rounds {
		s.round = round
		for _, sc := range scenarios {
			if !slices.Contains(s.onlyScenarios, sc.name) {
				continue
			}
			dir, err := os.MkdirTemp(s.work, sc.name+"-")
			if err != nil {
				return r, err
			}
			figures, err := sc.run(ctx, s, dir)
			if err = errors.Join(err, ctx.Err(), os.RemoveAll(dir)); err != nil {
				return r, fmt.Errorf("scenario %s: %w", sc.name, err)
			}
			for _, x := range figures {
				x.Scenario, x.Round = sc.name, round+1
				r.Figures = append(r.Figures, x)
				progress("round %d  %-9s %-64s %10.3f %s", round+1, sc.name, x.Name, x.Value, x.Unit)
			}
		}
	}
	return r, nil
}

// print writes the table of figures: minimum, median and maximum over the rounds.
func (r liveResult) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%v; broker %s\n\n", r.Machine, r.Broker)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "scenario\tfigure\tmin\tmedian\tmax\t")
	for i, x := range r.Figures {
		if x.Round > 1 {
			break
		}
		var values []float64
		for _, y := range r.Figures[i:] {
			if y.Scenario == x.Scenario && y.Name == x.Name {
				values = append(values, y.Value)
			}
		}
		slices.Sort(values)
		_, _ = fmt.Fprintf(t, "%s\t%s, %s\t%.3f\t%.3f\t%.3f\t\n", x.Scenario, x.Name, x.Unit, values[0], median(values), values[len(values)-1])
	}
	return t.Flush()
}

// stream is one connector over a topic of its own.
type stream struct {
	name, topic, table string
	live               *live
}

// added are the lines that -config adds to a configuration, and the scenario's own settings of flushes unless it has some.
func (s *liveSuite) added(flush string) string {
	if flushKey.MatchString(s.connectorYAML) {
		flush = ""
	}
	return strings.Trim(flush+"\n"+s.connectorYAML, "\n") + "\n"
}

var flushKey = regexp.MustCompile(`(?m)^flush\s*:`)

// startStream makes the topic and starts a connector. What the table's columns are is in yaml.
func (s *liveSuite) startStream(ctx context.Context, dir, yaml, flush string) (stream, error) {
	t := stream{name: fmt.Sprintf("bench-%d", time.Now().UnixNano()), table: filepath.Join(dir, "table")}
	t.topic = s.topicPrefix + "-" + t.name
	if err := s.makeTopic(ctx, t.topic); err != nil {
		return t, err
	}
	config := fmt.Sprintf("name: %s\nsource: {brokers: [%s], topic: %s}\nhttp: {listen: \"127.0.0.1:0\"}\n%s\n%s", t.name,
		strings.Join(quoted(s.brokers), ", "), t.topic, strings.ReplaceAll(yaml, "TABLE", fmt.Sprintf("%q", t.table)), s.added(flush))
	var err error
	t.live, err = startLive(ctx, s.connector, config, dir)
	return t, err
}

// webTable is the table of web_requests messages.
const webTable = `table:
  uri: TABLE
  schema: "meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, uuid STRING, date DATE"
  partition_by: [date]
  columns: {date: {from: meta.producer.timestamp, cast: date}}
`

// runStart asks how long it takes from the process's start to the first message that goes to the decoder, with a table of many files.
func runStart(ctx context.Context, s *liveSuite, dir string) ([]figure, error) {
	if err := (logTable{files: s.files}).writeBase(ctx, filepath.Join(dir, "table")); err != nil {
		return nil, err
	}
	store, err := local.New(filepath.Join(dir, "table"))
	if err != nil {
		return nil, err
	}
	if _, err := delta.WriteLogCheckpoint(ctx, store, -1, delta.CheckpointOptions{Now: time.Now}); err != nil {
		return nil, err
	}
	topic := fmt.Sprintf("%s-start-%d", s.topicPrefix, time.Now().UnixNano())
	if err := s.makeTopic(ctx, topic); err != nil {
		return nil, err
	}
	if err := s.produce(ctx, topic, func(i int64) []byte { return []byte(`{"id":1,"url":"/","status":200}`) }, 1000); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("name: start-%d\nsource: {brokers: [%s], topic: %s}\nhttp: {listen: \"127.0.0.1:0\"}\ntable: {uri: %q, create: never}\n%s\n",
		time.Now().UnixNano(), strings.Join(quoted(s.brokers), ", "), topic, filepath.Join(dir, "table"), s.connectorYAML)
	l, err := startLive(ctx, s.connector, config, dir)
	if err != nil {
		return nil, err
	}
	err = l.await(ctx, "kafkadelta_messages_total", 1, time.Millisecond)
	took := time.Since(l.begun)
	peak, endErr := l.end()
	return []figure{
		{Name: "first messages handed to the decoder", Value: took.Seconds(), Unit: "s"},
		{Name: "peak RSS", Value: float64(peak) / (1 << 20), Unit: "MiB"},
	}, errors.Join(err, endErr)
}

// runIdle asks what a connector takes that has nothing to do.
func runIdle(ctx context.Context, s *liveSuite, dir string) ([]figure, error) {
	t, err := s.startStream(ctx, dir, webTable, "")
	if err != nil {
		return nil, err
	}
	in := newWebRequests(webSeed)
	err = s.produce(ctx, t.topic, func(int64) []byte { text, _ := in.append(nil); return text }, 1000) // its append never fails
	if err == nil {
		err = t.live.await(ctx, "kafkadelta_committed_rows_total", 1000, 10*time.Millisecond)
	}
	if err != nil {
		_, endErr := t.live.end()
		return nil, errors.Join(err, endErr)
	}
	time.Sleep(30 * time.Second) // what the commit leaves to do is done, and memory was given back
	before := t.live.cpuSeconds()
	time.Sleep(s.length)
	used, resident, own := t.live.cpuSeconds()-before, t.live.memoryMiB("VmRSS"), t.live.memoryMiB("RssAnon")
	_, err = t.live.end()
	return []figure{
		{Name: "CPU", Value: 100 * used / s.length.Seconds(), Unit: "% of a core"},
		{Name: "RSS", Value: resident, Unit: "MiB"},
		{Name: "RSS without pages of files", Value: own, Unit: "MiB"},
	}, err
}

// txn is what is looked at of an entry of a Delta log.
type txn struct {
	Txn *struct {
		AppID   string `json:"appId"`
		Version int64  `json:"version"`
	} `json:"txn"`
}

// offsetsOf returns the last offsets that a version of the table holds, by partition.
func offsetsOf(text []byte, name string) (map[int32]int64, error) {
	offsets := map[int32]int64{}
	for line := range strings.Lines(string(text)) {
		var entry txn
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return nil, fmt.Errorf("reading a version of the table: %w", err)
		}
		if entry.Txn == nil {
			continue
		}
		var partition int32
		rest, ok := strings.CutPrefix(entry.Txn.AppID, name+"-")
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d", &partition); err != nil {
			continue // another txn of the stream
		}
		offsets[partition] = entry.Txn.Version
	}
	return offsets, nil
}
