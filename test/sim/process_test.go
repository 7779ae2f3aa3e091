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

	"kafkadelta/decode"
	decodejson "kafkadelta/decode/json"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// process is one running connector: everything that it reaches the world through, and how to freeze or kill it.
type process struct {
	name   string
	w      *world
	store  *link
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

// start runs a connector.
func (w *world) start() *process {
	w.started++
	p := &process{name: fmt.Sprintf("worker-%d", w.started), w: w, done: make(chan struct{}), dead: make(chan struct{}), open: make(chan struct{})}
	close(p.open)
	p.store = &link{w: w, store: w.store, process: p, rnd: rand.New(rand.NewPCG(w.seed, w.rnd.Uint64())), trouble: w.usual}
	p.kafka = &cable{network: &w.network, process: p, conns: map[*conn]struct{}{}}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	o := w.options(p)
	w.trace.add(p.name, "starts")
	go func() {
		defer close(p.done)
		p.err = pipeline.Run(ctx, o)
		w.trace.add(p.name, "has ended: %v", p.err)
		select {
		case <-p.dead:
		default:
			if p.err != nil && !errors.Is(p.err, pipeline.ErrInterrupted) {
				w.fault("%s has ended: %v", p.name, p.err)
			}
		}
	}()
	return p
}

func (w *world) options(p *process) pipeline.Options {
	log := slog.New(slog.NewTextHandler(w.trace.writer(p.name), &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}))
	table := sink.DefaultConfig()
	table.URI, table.Parquet.Compression = "memory://table", "none" // the zstd library keeps channels between bubbles
	table.Properties = w.properties
	skew := time.Duration(w.rnd.IntN(1001)-500) * time.Millisecond
	now := func() time.Time { return time.Now().Add(skew) }
	o := pipeline.Options{
		Config: pipeline.DefaultConfig(), Name: streamName, Source: source.DefaultConfig(), Now: now, Log: log,
		ClientOptions: []kgo.Opt{p.kafka.dialer()}, Metrics: pipeline.NewMetrics(streamName, now),
		OpenTable: func(ctx context.Context, events sink.Events) (*sink.Table, error) {
			return sink.Open(ctx, p.store, table, sink.Options{
				Name: streamName, Create: w.create, Engine: "kafkadelta/sim", Now: now, Log: log, Events: events,
			})
		},
		NewDecoder: newDecoder,
	}
	o.OnError, o.Lanes, o.ShutdownTimeout = pipeline.OnErrorSkip, 1+w.rnd.IntN(3), 10*time.Second
	o.Flush.Interval = w.flush/2 + time.Duration(w.rnd.Int64N(int64(w.flush)))
	o.Source.Brokers, o.Source.Topic = w.kafka.ListenAddrs(), topic
	o.Source.SessionTimeout, o.Source.RebalanceTimeout = 6*time.Second, time.Duration(4+w.rnd.IntN(8))*time.Second
	o.Source.GroupProtocol = w.protocol
	return o
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func newDecoder(layout *sink.Layout) (pipeline.Decoder, error) {
	plan, err := decode.NewPlan(layout.Schema, decode.Config{})
	if err != nil {
		return nil, err
	}
	return decodejson.New(plan), nil
}
