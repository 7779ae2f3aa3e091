package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Producer writes to another topic of the same Kafka, with the same credentials. Its writes are idempotent: what the client sends again is
// there once. It may be used from any goroutine.
type Producer struct {
	topic  string
	client *kgo.Client
}

// What a producer may hold is at least leastProduced, since a message that is larger than that would be refused: a batch, and so a message, has 1 MB at most.
// A record with its headers takes up to recordTakes besides what is in it.
const (
	leastProduced = 2 << 20
	recordTakes   = 1 << 10
	mostProduced  = 50_000
)

// NewProducer makes the client, which holds about so many bytes of records at most. It connects to nothing yet. Extra options are for tests (dialers).
func NewProducer(cfg Config, topic string, bytes int64, extra ...kgo.Opt) (*Producer, error) {
	opts, err := connectOptions(cfg, func(error) {})
	if err != nil {
		return nil, err
	}
	bytes = max(bytes, leastProduced)
	opts = append(opts, kgo.DefaultProduceTopic(topic), kgo.MaxBufferedBytes(int(bytes)), kgo.MaxBufferedRecords(int(min(bytes/recordTakes, mostProduced))))
	client, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("setting up the Kafka client for topic %s: %w", topic, err)
	}
	return &Producer{topic: topic, client: client}, nil
}

// Find asks whether the topic is there, whether this user may write to it, as far as a broker tells, and whether as an idempotent producer. An *Error is final: it is not, or
// the user may not.
func (p *Producer) Find(ctx context.Context) error {
	if _, _, err := describe(ctx, kadm.NewClient(p.client), p.topic); err != nil {
		return p.explain(err)
	}
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = new(p.topic)
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, topic), true
	resp, err := req.RequestWith(ctx, p.client)
	if err != nil {
		return p.explain(err)
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return p.explain(err)
		}
		if mayNotWrite(t.AuthorizedOperations) {
			return p.explain(kerr.TopicAuthorizationFailed)
		}
	}
	_, _, err = p.client.ProducerID(ctx) // the first message would ask for it. Brokers before 2.8 ask for IDEMPOTENT_WRITE here, which KIP-430 tells only to who may DESCRIBE the cluster
	return p.explain(err)
}

// mayNotWrite reads KIP-430's bits, one for each operation. A broker that does not know answers the smallest number, or nothing at all; one that knows has at least
// DESCRIBE, or it would not have told of the topic.
func mayNotWrite(operations int32) bool {
	const describes, writes = 1 << int32(kmsg.ACLOperationDescribe), 1 << int32(kmsg.ACLOperationWrite)
	return operations&(describes|writes) == describes
}

// Send hands a record over, and waits where too many are under way. Done is called once, from another goroutine, when all brokers have the
// record or it is given up; an *Error is final. A broker that is down is waited for.
func (p *Producer) Send(ctx context.Context, r *kgo.Record, done func(error)) {
	p.client.Produce(ctx, r, func(_ *kgo.Record, err error) { done(p.explain(err)) })
}

// Close closes the connections, and gives up what is under way.
func (p *Producer) Close() { p.client.Close() }

func (p *Producer) explain(err error) error {
	if err == nil {
		return nil
	}
	op := "producing to topic " + p.topic
	for cause, hint := range map[error]string{
		kerr.TopicAuthorizationFailed:   "grant the user WRITE and DESCRIBE on the topic",
		kerr.ClusterAuthorizationFailed: "grant the user IDEMPOTENT_WRITE on the cluster, which brokers before Kafka 2.8 ask for, or with later ones WRITE and DESCRIBE on the topic",
		kerr.UnknownTopicOrPartition:    "create the topic: it is not made by itself",
		kerr.InvalidTopicException:      "check the topic's name",
		kerr.MessageTooLarge:            "a message and its headers are larger than the topic, or a batch of 1 MB, takes",
	} {
		if errors.Is(err, cause) {
			if e, ok := errors.AsType[*Error](err); ok {
				err = e.Err // its hint is for a topic that is read
			}
			return &Error{Op: op, Err: err, Hint: hint}
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}
