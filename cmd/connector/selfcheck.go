package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafkadelta/admin"
	"kafkadelta/delta"
)

// verifyConfig says how often a running worker verifies what was committed since it last did.
type verifyConfig struct {
	// Interval between two checks, from 1 s on; 0 for none.
	Interval time.Duration `yaml:"interval"`
}

// Validate checks the interval.
func (c verifyConfig) Validate() error {
	if c.Interval != 0 && c.Interval < time.Second {
		return fmt.Errorf("verify.interval is %v: use 1s or more, or 0 for no checks", c.Interval)
	}
	return nil
}

// selfCheck is `connector verify --since` inside of the daemon: every interval it verifies what the newest versions of the
// table have brought, by reading the offsets in their files. Of the workers of one topic only the one that owns its first
// partition does so. What is found is logged and counted, and stops nothing: it is for an alert.
type selfCheck struct {
	store    delta.LogStore
	column   string
	interval time.Duration
	leads    func() bool
	now      func() time.Time
	log      *slog.Logger

	since int64 // versions up to it are verified, or another worker's; -1 where that is to be found out
	seen  int64 // newest version when this worker last did not lead, or first looked; -1 before

	version, rows, unverified, failures, finished atomic.Int64
	registry                                      *prometheus.Registry
	faults                                        *prometheus.CounterVec
}

// reach is how far before the newest version of a worker that did not lead yet one begins that takes over. Whoever led before has checked at most an interval
// before it stopped leading; the rest is for a check that took long, and for the hand-over.
func (s *selfCheck) reach() time.Duration { return 2*s.interval + time.Minute }

// maxFaultLines are the faults of one check that are logged; all are counted.
const maxFaultLines = 20

func newSelfCheck(name string, c verifyConfig, column string, leads func() bool, now func() time.Time, log *slog.Logger) *selfCheck {
	s := &selfCheck{
		column: column, interval: c.Interval, leads: leads, now: now, log: log, since: -1, seen: -1,
		registry: prometheus.NewRegistry(),
	}
	r := prometheus.WrapRegistererWith(prometheus.Labels{"stream": name}, s.registry)
	s.faults = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_verify_faults_total", Help: "Faults that the checks of verify.interval have found, by kind."}, []string{"kind"})
	counter := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, f func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	counter("kafkadelta_verify_rows_total", "Rows whose offsets were checked.", &s.rows)
	counter("kafkadelta_verify_unverified_total", "Things that the checks could neither call right nor wrong.", &s.unverified)
	counter("kafkadelta_verify_errors_total", "Checks that could not be done; the next one covers the same versions again.", &s.failures)
	s.version.Store(-1)
	gauge("kafkadelta_verify_version", "Newest version of the table that this worker has verified; -1 for none.", func() float64 { return float64(s.version.Load()) })
	gauge("kafkadelta_verify_age_seconds", "Seconds since the last check; -1 before the first, and always on a worker that does not own the topic's first partition.", func() float64 {
		if at := s.finished.Load(); at != 0 && s.leads() {
			return now().Sub(time.Unix(0, at)).Seconds()
		}
		return -1
	})
	r.MustRegister(s.faults)
	return s
}

// start checks until the returned function is called, which waits.
func (s *selfCheck) start(ctx context.Context, store delta.LogStore) func() {
	s.store = store
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(s.interval)
		defer tick.Stop()
		for {
			if err := s.check(ctx); err != nil && ctx.Err() == nil {
				s.failures.Add(1)
				s.log.Warn("the table could not be verified; the next check covers the same versions", "since_version", s.since, "error", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// check verifies what came since the last time. Whoever takes over begins where the leader before can have been: nothing tells how far that was.
func (s *selfCheck) check(ctx context.Context) error {
	newest, err := delta.OpenSnapshot(ctx, s.store, -1)
	switch {
	case errors.Is(err, delta.ErrNotTable): // not made yet
		return nil
	case err != nil:
		return err
	}
	leads := s.leads()
	if !leads || s.seen < 0 {
		s.since, s.seen = -1, newest.Version()
	}
	if !leads {
		return nil
	}
	oldest, err := delta.OldestVersion(ctx, s.store)
	switch {
	case err != nil:
		return err
	case s.since < 0:
		if s.since, err = s.begin(ctx, oldest); err != nil {
			return err
		}
	case s.since < oldest:
		s.unverified.Add(1)
		s.log.Warn("versions were cleaned from the log before they were verified", "from_version", s.since+1, "to_version", oldest)
		s.since = oldest
	}
	if s.since >= newest.Version() {
		s.finished.Store(s.now().UnixNano())
		return nil
	}
	r, err := admin.Verify(ctx, s.store, admin.Options{Column: s.column, Since: s.since, Until: newest.Version(), Readers: 1})
	if err != nil {
		return err
	}
	for kind, n := range r.FaultKinds {
		s.faults.WithLabelValues(string(kind)).Add(float64(n))
	}
	for i, f := range r.Faults {
		if i < maxFaultLines {
			s.log.Error("verification has found a fault", "kind", f.Kind, "what", f.Text)
		}
	}
	for i, f := range r.Unverified {
		if i < maxFaultLines {
			s.log.Warn("something cannot be verified", "kind", f.Kind, "what", f.Text)
		}
	}
	s.unverified.Add(int64(len(r.Unverified)))
	s.rows.Add(r.Rows)
	s.version.Store(r.Version)
	s.finished.Store(s.now().UnixNano())
	s.since = r.Version
	return nil
}

// begin is the version after which a worker that takes over checks: the newest one that was there reach before the version that it has seen, by the table's own
// times, or the oldest one.
func (s *selfCheck) begin(ctx context.Context, oldest int64) (version int64, err error) {
	var at time.Time
	for e, failed := range delta.HistoryOf(ctx, s.store, delta.HistoryOptions{From: s.seen, To: s.seen}) {
		at, err = e.Time, failed
	}
	if err == nil {
		version, err = delta.VersionAt(ctx, s.store, at.Add(-s.reach()))
	}
	switch {
	case errors.Is(err, delta.ErrMissingCommit), errors.Is(err, fs.ErrNotExist): // what was there then is cleaned from the log, or nothing was
		return oldest, nil
	case err != nil:
		return -1, fmt.Errorf("finding where to begin: %w", err)
	}
	return max(version, oldest), nil
}
