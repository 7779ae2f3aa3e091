package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicOptions are the flags of fill and read.
func topicOptions(command string, args []string) (o options, s shape, lines string, err error) {
	o.rounds = 1
	var shapeName, brokers string
	f := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	f.StringVar(&brokers, "brokers", "localhost:9092", "host:port,...")
	f.Int64Var(&o.messages, "messages", 2_000_000, "messages of the topic")
	f.IntVar(&o.partitions, "partitions", 4, "its partitions")
	f.StringVar(&o.compression, "compression", "none", "of its messages: none, snappy, lz4 or zstd")
	f.StringVar(&shapeName, "shape", "web_requests", "of its messages")
	f.StringVar(&o.data, "data", filepath.Join("test", "data"), "folder of the sample data")
	if command == "fill" {
		f.StringVar(&lines, "lines", "", "file to write the same messages to, one a line")
	}
	if err := f.Parse(args); err != nil {
		return o, s, "", err
	}
	o.brokers = split(brokers)
	s, err = shapeOf(shapeName)
	return o, s, lines, errors.Join(err, o.validate(f.Args()))
}

// fillCommand fills a topic as the path stage does, for a program that is to be compared, and prints its name.
func fillCommand(ctx context.Context, args []string) error {
	o, s, lines, err := topicOptions("fill", args)
	if err != nil {
		return err
	}
	if err := o.fillTopic(ctx, o.brokers, s); err != nil {
		return err
	}
	if lines != "" {
		if err := o.writeLines(s, lines); err != nil {
			return fmt.Errorf("writing the messages of %s to %s: %w", s.name, lines, err)
		}
	}
	_, err = fmt.Println(o.topicName(s))
	return err
}

func (o options) writeLines(s shape, path string) (err error) {
	in, err := s.open(o.data)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	var text []byte
	for range s.messages(o.messages) {
		if text, err = in.append(text[:0]); err != nil {
			return err
		}
		if _, err = w.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}

// readCommand reads a topic to its end and does nothing with the messages: the floor under every figure of the whole path.
func readCommand(ctx context.Context, args []string) error {
	o, s, _, err := topicOptions("read", args)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...), kgo.ConsumeTopics(o.topicName(s)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, o.topicName(s))
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("looking for the end of topic %s: %w", o.topicName(s), err)
	}
	var want, bytes int64
	ends.Each(func(l kadm.ListedOffset) { want += l.Offset })
	out := run{Stage: "read", Shape: s.name}
	err = out.measure(func() error {
		for out.Messages < want {
			fetches := client.PollRecords(ctx, 0)
			if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
				return fmt.Errorf("reading topic %s: %w", o.topicName(s), err)
			}
			fetches.EachRecord(func(r *kgo.Record) { out.Messages, bytes = out.Messages+1, bytes+int64(len(r.Value)) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	out.Bytes, out.PeakRSS = bytes, peakRSS(os.Getpid())
	progress("%d messages, %d MB, in %s", out.Messages, bytes/1e6, time.Duration(out.Seconds*float64(time.Second)).Round(time.Millisecond))
	return json.NewEncoder(os.Stdout).Encode(out)
}
