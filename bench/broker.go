package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// childBroker is the hidden subcommand that is an embedded broker in a process of its own.
const childBroker = "child-broker"

func codecOf(name string) (kgo.CompressionCodec, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[name]
	if !ok {
		return codec, fmt.Errorf("compression %q is not known: use none, snappy, lz4 or zstd", name)
	}
	return codec, nil
}

// brokerChild serves until its standard input ends, which it does at the latest with its parent.
func brokerChild(_ context.Context, args []string) error {
	f := flag.NewFlagSet(childBroker, flag.ContinueOnError)
	if err := f.Parse(args); err != nil {
		return err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		return fmt.Errorf("starting the embedded broker: %w", err)
	}
	defer cluster.Close()
	if _, err := fmt.Println(strings.Join(cluster.ListenAddrs(), ",")); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startBroker starts an embedded broker with this very program.
func startBroker(ctx context.Context, binary string) (brokers []string, stop func() error, err error) {
	cmd := exec.CommandContext(ctx, binary, childBroker)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the embedded broker: %w", err)
	}
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("waiting for the embedded broker: %w", err), stop())
	}
	return split(strings.TrimSpace(line)), stop, nil
}

// maxMessageBytes is the topics' max.message.bytes.
const maxMessageBytes = 16 << 20

// topicName tells everything that a topic's content depends on, so that one that is there can be used again.
func (o options) topicName(s shape) string {
	return fmt.Sprintf("kafkadelta-bench-%s-%d-%s-%d", s.name, s.messages(o.messages), o.compression, o.partitions)
}

// fillTopic makes the topic, unless it is there whole, and sends message i to partition i modulo their number.
func (o options) fillTopic(ctx context.Context, brokers []string, s shape) error {
	codec, err := codecOf(o.compression)
	if err != nil {
		return err
	}
	topic := o.topicName(s)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(256<<20),
		kgo.ProducerBatchMaxBytes(maxMessageBytes-1024), kgo.BrokerMaxWriteBytes(100<<20), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	there, err := o.topicReady(ctx, kadm.NewClient(client), topic, s.messages(o.messages))
	if there || err != nil {
		return err
	}
	in, err := s.open(o.data)
	if err != nil {
		return err
	}
	var text []byte
	err = sendInTurn(ctx, client, s.messages(o.messages), o.partitions, func(int64) (_ []byte, err error) {
		text, err = in.append(text[:0])
		return slices.Clone(text), err
	})
	if err != nil {
		return fmt.Errorf("filling topic %s: %w", topic, err)
	}
	return nil
}

// sendInTurn sends message i to partition i modulo their number. The client keeps what it is given.
func sendInTurn(ctx context.Context, client *kgo.Client, n int64, partitions int, message func(int64) ([]byte, error)) error {
	failed := make(chan error, 1)
	for i := range n {
		value, err := message(i)
		if err != nil {
			return err
		}
		client.Produce(ctx, &kgo.Record{Partition: int32(i % int64(partitions)), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// topicReady reports whether the topic holds all messages already; if not, it is empty then.
func (o options) topicReady(ctx context.Context, admin *kadm.Client, topic string, messages int64) (bool, error) {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return false, fmt.Errorf("looking for topic %s: %w", topic, err)
	}
	var held, partitions int64
	ends.Each(func(l kadm.ListedOffset) {
		if l.Err == nil {
			held, partitions = held+l.Offset, partitions+1
		}
	})
	switch {
	case held == 0 && partitions == int64(o.partitions):
		return false, nil
	case held == messages && partitions == int64(o.partitions):
		return true, nil
	case partitions > 0:
		return false, fmt.Errorf("topic %s holds %d messages of %d in %d partitions: a run that filled it was stopped; delete the topic", topic, held, messages, partitions)
	}
	if _, err := admin.CreateTopic(ctx, int32(o.partitions), -1, map[string]*string{"max.message.bytes": new(strconv.Itoa(maxMessageBytes))}, topic); err != nil {
		return false, fmt.Errorf("making topic %s: %w", topic, err)
	}
	return false, nil
}
