// Package source is Kafka's side: one client in one consumer group, which polls, seeks, and reports offsets.
//
// It owns the client's configuration and the meaning of Kafka's errors. It promises that a partition is read from where
// the caller's Positions said and from nowhere else: Kafka's own committed offsets are reported, never used, and an
// offset that is out of range is an error, never a jump. After a log was cut back, which is an error too, the client goes on at
// the cut: the caller must not take what it has behind that. It never looks into a message and knows nothing of tables.
package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
	"kafkadelta/source/auth"
)

// Callbacks are called by the client's own goroutines while the group's assignment changes. They may block: heartbeats go
// on meanwhile.
type Callbacks struct {
	// Joined tells that the worker is a member of the group, whether or not it is assigned anything.
	Joined func()
	// Positions is asked for newly assigned partitions: from which offset is each to be read? An error ends the group
	// session; it is tried again.
	Positions func(ctx context.Context, assigned []checkpoint.Partition) (map[checkpoint.Partition]checkpoint.Position, error)
	// Revoked returns once the caller has committed or dropped what it holds of the partitions. No poll returns messages
	// of them from the call on.
	Revoked func(ctx context.Context, revoked []checkpoint.Partition)
	// Lost tells that the group no longer counts this worker as the owner of the partitions: its membership has ended by an error, such as a session
	// that timed out. They may be somebody else's by now, or nobody's, and the worker's own once it has joined again. Called as Revoked is, which is not called for them.
	Lost func(lost []checkpoint.Partition)
	// Stale tells that a certificate or secret can't be read again, and the one from before serves on.
	Stale func(err error)
}

// Source is one client. Poll, Seek and Close belong to one goroutine; the rest may be called from any.
type Source struct {
	cfg     Config
	group   string
	client  *kgo.Client
	admin   *kadm.Client
	stopped context.CancelFunc
	refused *refusals
	expands *expansion
}

// maxFetch bounds the bytes that one broker sends at once. Each is asked for what will take minHeld in memory, at least: less would be slow where brokers are far away.
// A larger batch comes all the same.
const (
	maxFetch = 16 << 20
	minHeld  = 1 << 20
)

// followerFor is how long a partition is read from a follower before its leader is asked once more who is to be read from (KIP-392). What a
// follower that is gone, is behind, or has deleted earlier does not have comes no later: the client believes neither loss nor a way
// out, and asks it again and again meanwhile.
const followerFor = 5 * time.Second

// PollRecords bounds one poll, so that the caller returns to its other duties often enough.
const PollRecords = 10_000

// New makes the client. It connects to nothing yet: Start does. Extra options are for tests (dialers).
func New(cfg Config, group string, cb Callbacks, extra ...kgo.Opt) (*Source, error) {
	opts, err := clientOptions(cfg, group, cb.Stale)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // lives as long as the client
	refused, expands := &refusals{}, &expansion{ratio: firstRatio}
	opts = append(opts,
		kgo.WithContext(ctx),
		kgo.WithHooks(refused, expands),
		kgo.AdjustFetchOffsetsFn(func(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			return positions(ctx, cb, at)
		}),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { cb.Joined() }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, m map[string][]int32) {
			if parts := partitions(m); len(parts) > 0 {
				cb.Revoked(ctx, parts)
			}
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			if parts := partitions(m); len(parts) > 0 {
				cb.Lost(parts)
			}
		}),
	)
	client, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("setting up the Kafka client: %w", err)
	}
	return &Source{cfg: cfg, group: group, client: client, admin: kadm.NewClient(client), stopped: cancel, refused: refused, expands: expands}, nil
}

func clientOptions(cfg Config, group string, stale func(error)) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(max(cfg.SessionTimeout/10, 100*time.Millisecond)),
		kgo.RebalanceTimeout(cfg.RebalanceTimeout),
		kgo.DisableAutoCommit(),
	}
	if cfg.GroupProtocol == ProtocolConsumer {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	if cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(cfg.InstanceID))
	}
	reader, err := readerOptions(cfg, stale)
	return append(opts, reader...), err
}

// readerOptions are those of a client that reads, in a group or not.
func readerOptions(cfg Config, stale func(error)) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Markers of producer transactions come as records too, so that the position passes them.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(maxFetch),
		kgo.FetchMaxPartitionBytes(maxFetch / 4),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.RecheckPreferredReplicaInterval(followerFor),
	}
	if cfg.Rack != "" {
		opts = append(opts, kgo.Rack(cfg.Rack))
	}
	if cfg.Isolation == ReadCommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	connect, err := connectOptions(cfg, stale)
	return append(opts, connect...), err
}

// connectOptions are those of every client.
func connectOptions(cfg Config, stale func(error)) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.MetadataMinAge(250 * time.Millisecond),
		// New partitions are found by it.
		kgo.MetadataMaxAge(30 * time.Second),
	}
	connect, err := auth.Options(cfg.TLS, cfg.SASL, stale)
	if err != nil {
		return nil, &Error{Op: "setting up the connections to Kafka", Err: err}
	}
	return append(opts, connect...), nil
}

// positions translates between the client's nested maps and partitions.
func positions(ctx context.Context, cb Callbacks, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	var assigned []checkpoint.Partition
	for topic, offsets := range at {
		for id := range offsets {
			assigned = append(assigned, checkpoint.Partition{Topic: topic, ID: id})
		}
	}
	slices.SortFunc(assigned, checkpoint.Partition.Compare)
	next, err := cb.Positions(ctx, assigned)
	if err != nil {
		return nil, err
	}
	for _, p := range assigned {
		position, ok := next[p]
		if !ok {
			return nil, fmt.Errorf("no position is known for %s", p)
		}
		at[p.Topic][p.ID] = kgo.NewOffset().At(position.Next).WithEpoch(position.Epoch.Leader())
	}
	return at, nil
}

func partitions(m map[string][]int32) []checkpoint.Partition {
	var parts []checkpoint.Partition
	for topic, ids := range m {
		for _, id := range ids {
			parts = append(parts, checkpoint.Partition{Topic: topic, ID: id})
		}
	}
	slices.SortFunc(parts, checkpoint.Partition.Compare)
	return parts
}

// Topic describes the configured topic as the cluster has it now.
type Topic struct {
	Identity   checkpoint.Identity
	Partitions int32
}

// Describe asks the cluster for the topic.
func (s *Source) Describe(ctx context.Context) (Topic, error) {
	t, _, err := describe(ctx, s.admin, s.cfg.Topic)
	return t, err
}

func describe(ctx context.Context, admin *kadm.Client, topic string) (Topic, kadm.TopicDetail, error) {
	md, err := admin.Metadata(ctx, topic)
	if err != nil {
		return Topic{}, kadm.TopicDetail{}, newError("describing topic "+topic, err)
	}
	t, ok := md.Topics[topic]
	if !ok {
		return Topic{}, t, newError("describing topic "+topic, kerr.UnknownTopicOrPartition)
	}
	if t.Err != nil {
		return Topic{}, t, newError("describing topic "+topic, t.Err)
	}
	id := checkpoint.Identity{ClusterID: md.Cluster, TopicID: base64.RawURLEncoding.EncodeToString(t.ID[:])}
	if id.ClusterID == "" {
		id.ClusterID = "-"
	}
	if t.ID == (kadm.TopicID{}) {
		id.TopicID = "name:" + topic
	}
	return Topic{Identity: id, Partitions: int32(len(t.Partitions))}, t, nil
}

// Start joins the group.
func (s *Source) Start() { s.client.AddConsumeTopics(s.cfg.Topic) }

// StartOffsets returns, by partition, the offset of the first message to read under the policy earliest or latest.
func (s *Source) StartOffsets(ctx context.Context, policy string) (map[int32]int64, error) {
	if policy == StartLatest {
		return s.EndOffsets(ctx)
	}
	return startOffsets(ctx, s.admin, s.cfg)
}

// EndOffsets returns, by partition, the offset after the last message that can be read now under the configured
// isolation level.
func (s *Source) EndOffsets(ctx context.Context) (map[int32]int64, error) {
	return endOffsets(ctx, s.admin, s.cfg)
}

func startOffsets(ctx context.Context, admin *kadm.Client, cfg Config) (map[int32]int64, error) {
	l, err := admin.ListStartOffsets(ctx, cfg.Topic)
	return offsets(cfg, "listing the first offsets", l, err)
}

func endOffsets(ctx context.Context, admin *kadm.Client, cfg Config) (map[int32]int64, error) {
	if cfg.Isolation == ReadCommitted {
		l, err := admin.ListCommittedOffsets(ctx, cfg.Topic)
		return offsets(cfg, "listing the last stable offsets", l, err)
	}
	l, err := admin.ListEndOffsets(ctx, cfg.Topic)
	return offsets(cfg, "listing the end offsets", l, err)
}

// Reported returns what the group has reported, by partition, for those that it has.
func (s *Source) Reported(ctx context.Context) (map[int32]int64, error) {
	return reported(ctx, s.admin, s.group, s.cfg.Topic)
}

func reported(ctx context.Context, admin *kadm.Client, group, topic string) (map[int32]int64, error) {
	op := fmt.Sprintf("asking for the offsets of group %s", group)
	all, err := admin.FetchOffsetsForTopics(ctx, group, topic)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil // a group that never was has reported nothing
	}
	if err == nil {
		err = all.Error()
	}
	if err != nil {
		return nil, newError(op, err)
	}
	m := map[int32]int64{}
	for id, o := range all[topic] {
		if o.At >= 0 {
			m[id] = o.At
		}
	}
	return m, nil
}

func offsets(cfg Config, op string, l kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = l.Error()
	}
	if err != nil {
		return nil, newError(op+" of topic "+cfg.Topic, err)
	}
	m := map[int32]int64{}
	for id, o := range l[cfg.Topic] {
		m[id] = o.Offset
	}
	return m, nil
}

// Poll waits for messages until the context is done, and returns so many at most. Errors of the client are in the fetches: see Judge.
func (s *Source) Poll(ctx context.Context, most int) kgo.Fetches {
	return s.refused.add(s.client.PollRecords(ctx, most))
}

// Hold has the client hold about so many bytes of fetches at most, for that many assigned partitions: decompressed, and with what records take besides,
// as it has seen fetches get larger lately. The first is small, and each after it may be an eighth larger, up to a 16th of these bytes on the wire: what came so far was
// perhaps not compressed, and what comes next is. It holds one fetch of each broker, so each is asked for its part, but not for less than takes minHeld; one larger
// batch comes all the same. All brokers are asked at once, however many, since one to which nothing comes keeps its answer back for FetchMaxWait.
// One goroutine calls it.
func (s *Source) Hold(bytes int64, partitions int) {
	brokers := max(min(len(s.client.DiscoveredBrokers()), partitions), 1)
	fetch := min(int64(float64(max(bytes/int64(brokers), minHeld))/s.expands.look()), maxFetch)
	s.client.UpdateFetchMaxBytes(int32(max(fetch, 4)), int32(max(fetch/4, 1)))
}

// Seek sets where owned partitions are read from next. Polls that begin afterwards return nothing from before.
func (s *Source) Seek(next map[checkpoint.Partition]checkpoint.Position) {
	s.client.SetOffsets(epochOffsets(next))
}

// Pause has nothing more fetched of a partition, until Resume. What was fetched already may still come.
func (s *Source) Pause(p checkpoint.Partition) {
	s.client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.ID}})
}

// Resume has a partition fetched again, if it was paused.
func (s *Source) Resume(p checkpoint.Partition) {
	s.client.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.ID}})
}

func epochOffsets(next map[checkpoint.Partition]checkpoint.Position) map[string]map[int32]kgo.EpochOffset {
	m := map[string]map[int32]kgo.EpochOffset{}
	for p, at := range next {
		if m[p.Topic] == nil {
			m[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		m[p.Topic][p.ID] = kgo.EpochOffset{Epoch: at.Epoch.Leader(), Offset: at.Next}
	}
	return m
}

// Report tells the group how far the table is. It is advisory, for tools that watch the group's lag: the table alone
// decides where reading goes on.
func (s *Source) Report(ctx context.Context, next map[checkpoint.Partition]checkpoint.Position) error {
	var err error
	s.client.CommitOffsetsSync(ctx, epochOffsets(next), func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, e error) {
		err = e
		if e != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if e := kerr.ErrorForCode(p.ErrorCode); e != nil && err == nil {
					err = fmt.Errorf("%s[%d]: %w", t.Topic, p.Partition, e)
				}
			}
		}
	})
	if err != nil {
		return fmt.Errorf("reporting offsets: %w", err)
	}
	return nil
}

// Close leaves the group (a static member does not) and closes the connections.
func (s *Source) Close(ctx context.Context) {
	if s.cfg.InstanceID == "" {
		_ = s.client.LeaveGroupContext(ctx) // the session timeout does the same, later
	}
	s.stopped() // what still waits for a broker gives up
	s.client.Close()
}

// Error is an error of Kafka's side that trying again does not mend.
type Error struct {
	Op   string
	Err  error
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error() + "; " + e.Hint
}

func (e *Error) Unwrap() error { return e.Err }

// hints name the remedy of those errors that only an operator can mend.
var hints = map[*kerr.Error]string{
	kerr.TopicAuthorizationFailed:           "grant the user READ and DESCRIBE on the topic",
	kerr.GroupAuthorizationFailed:           "grant the user READ on the consumer group",
	kerr.ClusterAuthorizationFailed:         "grant the user DESCRIBE on the cluster",
	kerr.UnknownTopicOrPartition:            "check source.topic, or create the topic",
	kerr.InvalidTopicException:              "check source.topic",
	kerr.InvalidSessionTimeout:              "the broker's group.min.session.timeout.ms and group.max.session.timeout.ms bound source.session_timeout",
	kerr.InconsistentGroupProtocol:          "another program uses this consumer group: set source.group, or another name",
	kerr.FencedInstanceID:                   "another worker has the same source.instance_id",
	kerr.OffsetOutOfRange:                   "the messages after the table's offsets are gone (retention), or the topic was cut: going on would lose them silently",
	kerr.UnsupportedVersion:                 "the broker is too old",
	kerr.TransactionalIDAuthorizationFailed: "grant the user access to transactional ids",
}

// newError marks an error as final if only an operator can mend it, and otherwise just says what was being done.
func newError(op string, err error) error {
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		if hint, ok := hints[ke]; ok {
			return &Error{Op: op, Err: err, Hint: hint}
		}
	}
	if refused := auth.Explain(err); refused != nil && refused.Final {
		return &Error{Op: op, Err: err, Hint: refused.Hint}
	} else if refused != nil {
		return fmt.Errorf("%s: %w; %s", op, err, refused.Hint)
	}
	// A broker that closes the connection at once (*kgo.ErrFirstReadEOF) may be shutting down: that is tried again.
	return fmt.Errorf("%s: %w", op, err)
}

// TopicGone is the *Error of a topic that is not there any more, by such an answer of a broker.
func TopicGone(topic string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err // its hint is for a topic that never was
	}
	return &Error{
		Op: "reading topic " + topic, Err: fmt.Errorf("it was there, and has been deleted: %w", err),
		Hint: "the table keeps what it has of it. A topic that is made anew under the name is another one, with offsets of its own: `connector rewind --to earliest --new-topic` begins with it",
	}
}

// UnknownTopic reports whether an error says that there is no such topic, as brokers also do that have not heard of it yet.
func UnknownTopic(err error) bool { return errors.Is(err, kerr.UnknownTopicOrPartition) }

// Judge tells what an error that a poll returned means: final is an *Error for which the process must end, otherwise the
// client goes on by itself and the error is for the log.
func Judge(topic string, partition int32, err error) (final bool, judged error) {
	op := "reading from Kafka"
	if topic != "" {
		op = fmt.Sprintf("reading %s[%d]", topic, partition)
	}
	judged = newError(op, err)
	var e *Error
	return errors.As(judged, &e), judged
}
