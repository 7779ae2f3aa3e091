package pipeline

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// Metrics are what an operator watches, as Prometheus metrics and, for a progress line, as numbers. One instance belongs
// to one pipeline.
type Metrics struct {
	messages, messageBytes, rowCount, poisoned, lostRaces atomic.Int64
	deadLetters, filtered                                 atomic.Int64
	proposals, carried, badProposals                      atomic.Int64
	commits, files, fileBytes, committedRows              atomic.Int64
	lastCommit                                            atomic.Int64 // Unix nanoseconds; 0: none yet
	freshness                                             atomic.Int64 // nanoseconds; 0: nothing was committed yet
	sourceDown, storeDown                                 atomic.Bool
	assigned, waiting                                     atomic.Int64
	first                                                 atomic.Bool
	joined                                                atomic.Bool                  // the group, once
	inFlight                                              atomic.Pointer[atomic.Int64] // of the pipeline, once it runs: HTTP is served before
	logCheckpoints, logCheckpointBytes, logCheckpointTime atomic.Int64                 // the last one's bytes and nanoseconds

	registry *prometheus.Registry
	poisonBy *prometheus.CounterVec
	failedBy *prometheus.CounterVec
	lagBy    *prometheus.GaugeVec
	offsetBy *prometheus.GaugeVec
	requests *prometheus.CounterVec
	lostBy   *prometheus.CounterVec
}

// NewMetrics makes the metrics of one pipeline, with the stream's name as a label.
func NewMetrics(name string, now func() time.Time) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	r := prometheus.WrapRegistererWith(prometheus.Labels{"stream": name}, m.registry)
	counter := func(metric, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: metric, Help: help}, func() float64 { return float64(v.Load()) }))
	}
	gauge := func(metric, help string, f func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metric, Help: help}, f))
	}
	counter("kafkadelta_messages_total", "Messages taken from Kafka, those read again after a drop included.", &m.messages)
	counter("kafkadelta_message_bytes_total", "Bytes of keys, values and headers of these messages.", &m.messageBytes)
	counter("kafkadelta_rows_total", "Rows written to data files, those read again after a drop included.", &m.rowCount)
	counter("kafkadelta_committed_rows_total", "Rows committed to the table.", &m.committedRows)
	counter("kafkadelta_filtered_messages_total", "Messages that table.filter leaves out.", &m.filtered)
	counter("kafkadelta_dead_letters_total", "Dead letters delivered to their table.", &m.deadLetters)
	counter("kafkadelta_committed_files_total", "Data files committed to the table.", &m.files)
	counter("kafkadelta_committed_bytes_total", "Bytes of these files.", &m.fileBytes)
	counter("kafkadelta_commits_total", "Delta versions made.", &m.commits)
	counter("kafkadelta_lost_races_total", "Versions that another writer made first.", &m.lostRaces)
	counter("kafkadelta_proposals_total", "Units left for whoever commits next, because races were lost.", &m.proposals)
	counter("kafkadelta_carried_proposals_total", "Units of other workers that this worker's commits brought into the table.", &m.carried)
	counter("kafkadelta_bad_proposals_total", "Units left by others that could not be understood.", &m.badProposals)
	counter("kafkadelta_log_checkpoints_total", "Log checkpoints of the table that this worker wrote.", &m.logCheckpoints)
	gauge("kafkadelta_log_checkpoint_bytes", "Bytes written for the last of them.", func() float64 { return float64(m.logCheckpointBytes.Load()) })
	gauge("kafkadelta_log_checkpoint_seconds", "Time that the last of them took.", func() float64 {
		return time.Duration(m.logCheckpointTime.Load()).Seconds()
	})
	gauge("kafkadelta_last_commit_age_seconds", "Seconds since the last commit; -1 before the first.", func() float64 {
		if at := m.lastCommit.Load(); at != 0 {
			return now().Sub(time.Unix(0, at)).Seconds()
		}
		return -1
	})
	gauge("kafkadelta_freshness_seconds", "How old the oldest message of the last commit was once the table held it, by its timestamp in Kafka; -1 before the first.", func() float64 {
		if age := m.freshness.Load(); age != 0 {
			return time.Duration(age).Seconds()
		}
		return -1
	})
	gauge("kafkadelta_bytes_in_flight", "Bytes of messages that were polled and are not decoded yet.", func() float64 {
		if bytes := m.inFlight.Load(); bytes != nil {
			return float64(bytes.Load())
		}
		return 0
	})
	gauge("kafkadelta_assigned_partitions", "Kafka partitions that this worker owns.", func() float64 { return float64(m.assigned.Load()) })
	gauge("kafkadelta_waiting_partitions", "Kafka partitions that stand still because a message waits for something outside, such as a schema of the registry.", func() float64 { return float64(m.waiting.Load()) })
	gauge("kafkadelta_ready", "1 while the worker is ready: it has joined its group, Kafka and the table's store answer, and no message waits for a schema.", func() float64 {
		if m.Ready() == nil {
			return 1
		}
		return 0
	})
	m.poisonBy = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_poison_messages_total", Help: "Messages that cannot become rows, by reason."}, []string{"reason"})
	m.failedBy = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_errors_total", Help: "Errors that were tried again, by cause: source, table, write, decode, report; and those of keeping the log in order: log_checkpoint, log_cleanup, checksum."}, []string{"cause"})
	m.lagBy = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kafkadelta_lag_messages", Help: "Offsets between what was read of a partition and its end, as of the last fetch."}, []string{"topic", "partition"})
	m.offsetBy = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kafkadelta_committed_offset", Help: "First offset of a partition that the table does not hold."}, []string{"topic", "partition"})
	m.lostBy = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_lost_offsets_total", Help: "Offsets that Kafka's retention removed before they were read, which on_data_loss: continue has passed over."}, []string{"topic", "partition"})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_storage_requests_total", Help: "Requests to the table's store, by operation and outcome."}, []string{"operation", "outcome"})
	r.MustRegister(m.poisonBy, m.failedBy, m.lagBy, m.offsetBy, m.requests, m.lostBy)
	return m
}

// Request counts a request to the table's store.
func (m *Metrics) Request(operation, outcome string) {
	m.requests.WithLabelValues(operation, outcome).Inc()
}

// Gatherer gives the metrics to an HTTP handler.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Ready is nil while the worker can do its work, else it says what is missing. A worker that was assigned nothing,
// because the group has more workers than partitions, is ready.
func (m *Metrics) Ready() error {
	switch {
	case !m.joined.Load():
		return errors.New("the consumer group was not joined yet")
	case m.sourceDown.Load():
		return errors.New("Kafka does not answer as it should")
	case m.storeDown.Load():
		return errors.New("the table's store does not answer as it should")
	case m.waiting.Load() > 0:
		return fmt.Errorf("messages of %d partitions wait for something outside, such as a schema of the registry", m.waiting.Load())
	}
	return nil
}

// ended has a pipeline that does not run any more own nothing and not be ready.
func (m *Metrics) ended() {
	m.joined.Store(false)
	m.first.Store(false)
	m.assigned.Store(0)
	m.waiting.Store(0)
}

// Leads reports whether this worker owns the topic's partition 0. What one worker of a topic has to do for all, and may be done
// twice or not at all for a while, is done by that one.
func (m *Metrics) Leads() bool { return m.first.Load() }

// Progress is a reading of the counters.
type Progress struct {
	Messages, Rows, Poison, Commits, Files, Bytes int64
}

// Progress reads the counters: Rows, Files and Bytes are those committed.
func (m *Metrics) Progress() Progress {
	return Progress{
		Messages: m.messages.Load(), Rows: m.committedRows.Load(), Poison: m.poisoned.Load(),
		Commits: m.commits.Load(), Files: m.files.Load(), Bytes: m.fileBytes.Load(),
	}
}

func (m *Metrics) taken(messages, bytes int64) {
	m.messages.Add(messages)
	m.messageBytes.Add(bytes)
}

func (m *Metrics) buried(n int64) { m.deadLetters.Add(n) }

func (m *Metrics) rows(n int64) { m.rowCount.Add(n) }

func (m *Metrics) committed(now time.Time, rows, bytes, files int64) {
	m.commits.Add(1)
	m.committedRows.Add(rows)
	m.fileBytes.Add(bytes)
	m.files.Add(files)
	m.lastCommit.Store(now.UnixNano())
}

func (m *Metrics) landed(spans []checkpoint.Span) {
	for _, s := range spans {
		m.offsetBy.WithLabelValues(s.Topic, strconv.Itoa(int(s.ID))).Set(float64(s.Next))
		if s.Lost > 0 {
			m.lostBy.WithLabelValues(s.Topic, strconv.Itoa(int(s.ID))).Add(float64(s.Lost))
		}
	}
}

func (m *Metrics) raceLost() { m.lostRaces.Add(1) }

func (m *Metrics) maintained(task sink.Upkeep, took time.Duration, bytes int64) {
	if task != sink.LogCheckpoint {
		return
	}
	m.logCheckpoints.Add(1)
	m.logCheckpointBytes.Store(bytes)
	m.logCheckpointTime.Store(int64(took))
}

func (m *Metrics) failed(cause string) { m.failedBy.WithLabelValues(cause).Inc() }

func (m *Metrics) poison(err error) {
	reason := "unknown"
	if p, ok := errors.AsType[poison](err); ok {
		_, reason = p.Poison()
	}
	m.poisonOf(reason).Inc()
}

// poisonCounter counts messages that can't become rows for one reason.
type poisonCounter struct {
	all *atomic.Int64
	by  prometheus.Counter
}

// Inc counts one more.
func (c poisonCounter) Inc() {
	c.all.Add(1)
	c.by.Inc()
}

func (m *Metrics) poisonOf(reason string) poisonCounter {
	return poisonCounter{&m.poisoned, m.poisonBy.WithLabelValues(reason)}
}

func (m *Metrics) setAssigned(parts map[checkpoint.Partition]*part) {
	m.assigned.Store(int64(len(parts)))
	first := false
	for p := range parts {
		first = first || p.ID == 0
	}
	m.first.Store(first)
}

func (m *Metrics) setSourceDown(down bool) { m.sourceDown.Store(down) }
func (m *Metrics) setStoreDown(down bool)  { m.storeDown.Store(down) }

// lagGauge is the lag of one owned partition.
type lagGauge struct {
	vec    *prometheus.GaugeVec
	labels []string
	gauge  prometheus.Gauge
}

func (m *Metrics) lag(p checkpoint.Partition) *lagGauge {
	labels := []string{p.Topic, strconv.Itoa(int(p.ID))}
	return &lagGauge{vec: m.lagBy, labels: labels}
}

// set shows the lag, from the first fetch on: before, it is not known.
func (g *lagGauge) set(n int64) {
	if g.gauge == nil {
		g.gauge = g.vec.WithLabelValues(g.labels...)
	}
	g.gauge.Set(float64(n))
}

func (g *lagGauge) remove() { g.vec.DeleteLabelValues(g.labels...) }
