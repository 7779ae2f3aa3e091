package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"kafkadelta/internal/backoff"
	"kafkadelta/source"
)

// run runs all pipelines until ctx is done, or to their end. One that fails does not touch the others: it is started again after a while. A
// pipeline alone ends with its error.
func (d *daemonConfig) run(ctx context.Context, log *slog.Logger, o runOptions) error {
	o.hub = newHub()
	stop, err := serveHTTP(d.process.HTTP, o.hub, log)
	if err != nil {
		return err
	}
	defer stop()
	memory := d.process.Memory.budget(log)
	memory.divide(1)
	o.memory = memory.part.Load
	idle, end := context.WithCancel(ctx)
	var released sync.WaitGroup
	released.Go(func() { releaseIdle(idle) })
	defer released.Wait()
	defer end()
	if len(d.pipelines) == 1 && !d.pipelines[0].manyTopics() {
		return runStream(ctx, d.pipelines[0], log, o)
	}
	if os.Getenv("GOGC") == "" { // the garbage of one pipeline is memory that the others lack
		debug.SetGCPercent(manyGC)
	}
	s := &supervisor{log: log, options: o, memory: memory, live: runStream, running: map[string]*kept{}}
	var known []config
	for _, c := range d.pipelines {
		if c.Source.TopicPattern == "" {
			known = append(known, c.known()...)
		} else {
			o.hub.note(searchOf(c), errors.New("topics were not looked for yet"))
		}
	}
	if err := s.start(ctx, "", known); err != nil { // validated, so that only a file that has gone since may do it
		s.errs = append(s.errs, err)
	}
	for _, c := range d.pipelines {
		if c.Source.TopicPattern != "" {
			s.wait.Go(func() { s.discover(ctx, c) })
		}
	}
	s.wait.Wait()
	return errors.Join(s.errs...)
}

// manyGC is the garbage that a process with many pipelines may hold, in percent of what is in use.
const manyGC = 50

// supervisor runs pipelines side by side.
type supervisor struct {
	log     *slog.Logger
	options runOptions
	memory  *budget
	live    func(context.Context, config, *slog.Logger, runOptions) error // one life of a pipeline: runStream
	wait    sync.WaitGroup

	mu      sync.Mutex
	running map[string]*kept // by name; whose topic is gone stays until it has ended, so that no second one begins beside it
	errs    []error
}

// kept is a pipeline that is kept running. Its changing fields are the supervisor's, by its lock.
type kept struct {
	config
	finder string             // the pipeline whose pattern has found the topic; "" for none
	gone   bool               // the topic is, and the pipeline with it
	done   bool               // it has ended, and is not started again; it stays for what clashes with it
	forget context.CancelFunc // ends it
}

// start runs those of the pipelines that do not run yet, each in a goroutine of its own, but for those that don't fit beside the others.
func (s *supervisor) start(ctx context.Context, finder string, all []config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var begun []*kept
	var errs []error
	for _, c := range all {
		if k := s.running[c.Name]; k != nil && k.finder == finder {
			continue
		}
		if err := s.fits(c); err != nil {
			errs = append(errs, fmt.Errorf("topic %s is not read: %w", c.Source.Kafka.Topic, err))
			continue
		}
		k := &kept{config: c, finder: finder}
		s.running[c.Name] = k
		s.options.hub.note(c.Name, errors.New("starting"))
		begun = append(begun, k)
	}
	s.divide()
	for _, k := range begun {
		var own context.Context
		own, k.forget = context.WithCancel(ctx)
		s.wait.Go(func() { s.keep(own, k) })
	}
	return errors.Join(errs...)
}

// fits checks a pipeline beside those that run.
func (s *supervisor) fits(c config) error {
	at := places{}
	for _, k := range s.running {
		if err := clash(k.config, c, at); err != nil {
			return &configError{err}
		}
	}
	if err := c.validate(); err != nil {
		return &configError{err}
	}
	return nil
}

// keep has a pipeline run, again after an error.
func (s *supervisor) keep(ctx context.Context, k *kept) {
	defer k.forget()
	o := s.options
	log := s.log.With("stream", k.Name)
	var again restarts
	for {
		begun := time.Now()
		o.share = s.share()
		err := s.live(ctx, k.config, log, o)
		if err == nil || ctx.Err() != nil || o.untilEnd {
			s.ended(k, err)
			return
		}
		wait := again.after(time.Since(begun))
		o.hub.failed(k.Name, err)
		log.Error("the pipeline has ended; the others go on, and it is started again", "error", err, "exit_code", exitCode(err), "again_in", wait.Round(time.Second))
		if backoff.Sleep(ctx, wait) != nil {
			s.ended(k, err)
			return
		}
		o.hub.restarts.WithLabelValues(k.Name).Inc()
	}
}

// divide gives all pipelines that there are now their parts of the memory. s.mu is held.
func (s *supervisor) divide() {
	if n := s.there(); n > 0 {
		s.memory.divide(n)
	}
}

// there is the number of pipelines that there are now. s.mu is held.
func (s *supervisor) there() int {
	n := 0
	for _, k := range s.running {
		if !k.done {
			n++
		}
	}
	return n
}

// share is the number of pipelines that there are now. Each takes its part of the cores by it when it is started, or started again.
func (s *supervisor) share() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there()
}

// Bounds of the wait before a pipeline is started again that an error has ended. One that has run for longest begins anew.
const (
	shortestRestart = time.Second
	longestRestart  = 5 * time.Minute
)

// restarts are the waits between the starts of one pipeline.
type restarts struct{ wait backoff.Backoff }

// after is the wait after an end of a pipeline that has run for so long.
func (r *restarts) after(ran time.Duration) time.Duration {
	if ran > longestRestart {
		r.wait = backoff.Backoff{}
	}
	r.wait.Longest = longestRestart
	return max(r.wait.Next(), shortestRestart)
}

// ended takes note of the last end of a pipeline. Those that still run have its part of the memory.
func (s *supervisor) ended(k *kept, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.done = true
	s.divide()
	switch {
	case k.gone:
		delete(s.running, k.Name)
		s.options.hub.forget(k.Name)
	case err != nil:
		s.options.hub.failed(k.Name, err)
		s.lost(k.Name, err)
	}
}

// lost takes note of what the process ends with. s.mu is held.
func (s *supervisor) lost(name string, err error) {
	s.log.Error("the pipeline has ended", "stream", name, "error", err, "exit_code", exitCode(err))
	s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
}

// searchOf is what a search for topics is called beside the streams, one of which may have its pipeline's name.
func searchOf(c config) string { return "topics of " + c.Name }

// discover starts a pipeline for each topic that the pattern finds, now and later, and lets those go whose topics are gone.
func (s *supervisor) discover(ctx context.Context, c config) {
	var wait backoff.Backoff
	for {
		found, err := s.look(ctx, c)
		if ctx.Err() != nil {
			return
		}
		s.options.hub.note(searchOf(c), err)
		if s.options.untilEnd && (found || errors.As(err, new(*source.Error)) || errors.As(err, new(*configError))) {
			if err != nil {
				s.mu.Lock()
				s.lost(c.Name, err)
				s.mu.Unlock()
			}
			return
		}
		next := c.Source.DiscoveryInterval
		if found {
			wait = backoff.Backoff{}
			c.Source.Kafka.Start = source.StartEarliest // what comes later was empty when this process looked
		} else {
			next = min(wait.Next(), next)
		}
		if err != nil {
			s.log.Warn("topics are not found, or not read; they are looked for again", "stream", c.Name, "error", err, "again_in", next.Round(time.Millisecond))
		}
		if backoff.Sleep(ctx, next) != nil {
			return
		}
	}
}

// look starts and ends pipelines by the topics that are there now, if it can find out.
func (s *supervisor) look(ctx context.Context, c config) (found bool, err error) {
	topics, err := s.find(ctx, c)
	if err != nil {
		return false, err
	}
	s.letGo(c, topics)
	if len(topics) == 0 {
		return true, &source.Error{
			Op: "looking for topics", Err: fmt.Errorf("none matches source.topic_pattern %q", c.Source.TopicPattern), Hint: "check the pattern, and whether the user may DESCRIBE the topics",
		}
	}
	return true, s.start(ctx, c.Name, topics)
}

// find are the pipelines of the topics that the pattern matches now.
func (s *supervisor) find(ctx context.Context, c config) ([]config, error) {
	if err := c.Source.Kafka.CheckSecrets(); err != nil {
		return nil, &configError{err}
	}
	i, err := source.NewInspector(c.Source.Kafka, s.options.client...)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	topics, err := i.Topics(ctx)
	if err != nil {
		return nil, err
	}
	var found []config
	for _, t := range topics {
		if c.matches(t) {
			found = append(found, c.forTopic(t))
		}
	}
	return found, nil
}

// letGo ends the pipelines that are not ready and whose topics are no longer there: one that a broker merely has not listed goes on.
func (s *supervisor) letGo(c config, found []config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, k := range s.running {
		if k.finder != c.Name || k.gone || s.options.hub.readiness(name) == nil || slices.ContainsFunc(found, func(f config) bool { return f.Name == name }) {
			continue
		}
		s.log.Warn("a topic is gone, and its pipeline with it; what was read of it is in its table", "stream", name, "topic", k.Source.Kafka.Topic)
		k.gone = true
		k.forget()
	}
}
