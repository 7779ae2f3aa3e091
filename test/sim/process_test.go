package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// process is one running connector: everything that it reaches the world through, and how to freeze or kill it.
type process struct {
	name   string
	stream int
	begun  time.Time
	w      *world
	stores []*link // of the table and, where there is one, of the dead letters
	tables links   // of a catalog
	kafka  *cable
	cancel context.CancelFunc
	done   chan struct{} // pipeline.Run has returned
	err    error
	dead   chan struct{} // it was killed

	mu   sync.Mutex
	open chan struct{} // closed unless the process is frozen
}

// thawed returns once the process is not frozen, or with an error where it is dead. Whatever a process exchanges with the world
// goes through here on its way out and in. What goes on inside of a frozen process is its memory alone.
func (p *process) thawed() error {
	for {
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		select {
		case <-p.dead:
			return errDead
		default:
		}
		select {
		case <-open:
			return nil
		default:
		}
		select {
		case <-open:
		case <-p.dead:
			return errDead
		}
	}
}

func (p *process) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

func (p *process) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// kill ends the process at once. Nothing that it tries from now on reaches the world; what was on its way may.
func (p *process) kill() {
	select {
	case <-p.dead: // already
		return
	default:
	}
	close(p.dead)
	p.kafka.die()
	p.cancel()
}

// ended tells whether the process has ended by itself.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (w *world) newProcess(name string) *process {
	p := &process{name: name, w: w, done: make(chan struct{}), dead: make(chan struct{}), open: make(chan struct{})}
	close(p.open)
	shelves := []*shelf{w.ledger.shelf}
	if w.buries {
		shelves = append(shelves, w.letters.shelf)
	}
	for _, s := range shelves {
		p.stores = append(p.stores, &link{shelf: s, process: p, rnd: rand.New(rand.NewPCG(w.seed, w.rnd.Uint64())), trouble: w.usual})
	}
	if w.divided != nil {
		p.tables = links{seed: w.rnd.Uint64(), now: w.usual, byName: map[string]*link{}}
	}
	p.kafka = &cable{network: &w.network, process: p, conns: map[*conn]struct{}{}}
	return p
}

// set makes the way to the stores better or worse.
func (p *process) set(t trouble) {
	p.stores[0].set(t)
	p.setFollowers(t)
}

// setFollowers is set for the tables that follow the stream's.
func (p *process) setFollowers(t trouble) {
	for _, l := range p.stores[1:] {
		l.set(t)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tables.now = t
	for _, key := range sorted(p.tables.byName) {
		p.tables.byName[key].set(t)
	}
}

// start runs a connector.
func (w *world) start() *process { return w.startOf(0) }

// startOf runs one for a stream.
func (w *world) startOf(stream int) *process {
	w.started++
	p := w.newProcess(fmt.Sprintf("worker-%d", w.started))
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.stream, p.begun = cancel, stream, time.Now()
	o, closed := w.options(p, stream)
	w.trace.add(p.name, "starts")
	go func() {
		defer close(p.done)
		defer closed()
		p.err = pipeline.Run(ctx, o)
		w.trace.add(p.name, "has ended: %v", p.err)
		select {
		case <-p.dead:
		default:
			refuses := errors.As(p.err, new(*checkpoint.RefusedError))
			if stream == intruder && refuses {
				w.trace.add(p.name, "is refused, as another stream of the topic")
			}
			refuses = refuses && (stream == intruder || w.hasLost()) // strand looks whether it does
			if p.err != nil && !errors.Is(p.err, pipeline.ErrInterrupted) && !refuses && !w.isExcused(p.err) && !w.isRestored(p) && !w.isEnded(p) {
				w.fault("%s has ended: %v", p.name, p.err)
			}
		}
	}()
	return p
}

func (w *world) logOf(p *process) *slog.Logger {
	return slog.New(slog.NewTextHandler(w.trace.writer(p.name), &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}))
}

func (w *world) tableConfig() sink.Config {
	table := sink.DefaultConfig()
	table.URI, table.Parquet.Compression = "memory://table", "none" // the zstd library keeps channels between bubbles
	table.Properties = w.properties
	if w.evolves || w.divided != nil {
		table.SchemaEvolution = evolution
	}
	return table
}

// options are those of a connector; the function ends what goes on behind them.
func (w *world) options(p *process, stream int) (pipeline.Options, func()) {
	log, table, name := w.logOf(p), w.tableConfig(), streams[stream].name
	decoder, closed := p.decoders(context.Background(), log)
	skew := time.Duration(w.rnd.IntN(1001)-500) * time.Millisecond
	now := func() time.Time { return time.Now().Add(skew) }
	o := pipeline.Options{
		Config: pipeline.DefaultConfig(), Name: name, Source: source.DefaultConfig(), Now: now, Log: log,
		ClientOptions: []kgo.Opt{p.kafka.dialer()}, Metrics: pipeline.NewMetrics(name, now),
		OpenTable: func(ctx context.Context, events sink.Events) (*sink.Table, error) {
			return sink.Open(ctx, p.stores[0], table, sink.Options{
				Name: name, Create: w.create, Engine: "kafkadelta/sim", Now: now, Log: log, Events: events,
			})
		},
		NewDecoder: decoder,
	}
	if w.divided != nil {
		o.Routing = p.routing(table, sink.Options{Name: name, Engine: "kafkadelta/sim", Now: now, Log: log})
	}
	o.OnError = pipeline.OnErrorSkip
	if w.buries {
		o.OpenDeadLetters = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
			return w.openLetters(ctx, p, sink.Options{Create: pipeline.DeadLetterSchema(), Engine: "kafkadelta/sim", Now: now, Log: log, Events: events})
		}
		o.OnError = pipeline.OnErrorDeadLetter
	}
	o.Lanes, o.ShutdownTimeout = 1+w.rnd.IntN(3), 10*time.Second
	o.Flush.Interval = w.flush/2 + time.Duration(w.rnd.Int64N(int64(w.flush)))
	o.Source.Brokers, o.Source.Topic = w.kafka.ListenAddrs(), streams[stream].topic
	o.Source.SessionTimeout, o.Source.RebalanceTimeout = 6*time.Second, time.Duration(4+w.rnd.IntN(8))*time.Second
	o.Source.GroupProtocol = w.protocol
	return o, closed
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
