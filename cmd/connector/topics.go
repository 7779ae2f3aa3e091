package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"kafkadelta/checkpoint"
)

// topicMark stands for the topic's name in the settings of a pipeline for many topics.
const topicMark = "{topic}"

// patternTopic stands for a topic that a pattern may find, where settings are validated.
const patternTopic = "topic"

// manyTopics tells whether the settings are for many topics, each of which becomes a pipeline.
func (c config) manyTopics() bool { return len(c.Source.Topics) > 0 || c.Source.TopicPattern != "" }

// pattern is what source.topic_pattern finds: whole names.
func (c config) pattern() (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?:" + c.Source.TopicPattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("source.topic_pattern is %q: %w", c.Source.TopicPattern, err)
	}
	return re, nil
}

// matches tells whether source.topic_pattern finds a topic. It was validated. A topic that dead letters of what it finds go to is none: they
// would come back as messages.
func (c config) matches(topic string) bool {
	re, err := c.pattern()
	return err == nil && re.MatchString(topic) && !c.getsLetters(topic, re)
}

// getsLetters tells whether dead_letters.topic is a topic, for one that the pattern may find where it has {topic} in it.
func (c config) getsLetters(topic string, found *regexp.Regexp) bool {
	to := c.DeadLetters.Topic
	marks := strings.Count(to, topicMark)
	if marks == 0 {
		return to == topic
	}
	first, length := strings.Index(to, topicMark), len(topic)-len(strings.ReplaceAll(to, topicMark, "")) // of what stands for all marks together
	if length <= 0 || length%marks != 0 {
		return false
	}
	of := topic[first : first+length/marks]
	return strings.ReplaceAll(to, topicMark, of) == topic && found.MatchString(of)
}

// forTopic is the pipeline of one of many topics.
func (c config) forTopic(topic string) config {
	c.Name = checkpoint.TopicName(c.Name, topic)
	c.Source.Topics, c.Source.TopicPattern = nil, ""
	return c.ofTopic(topic)
}

// ofTopic is the pipeline with the topic's name where the settings have {topic}.
func (c config) ofTopic(topic string) config {
	c.Source.Kafka.Topic = topic
	for _, text := range []*string{
		&c.Table.Sink.URI, &c.Table.Catalog, &c.Table.SchemaFile, &c.DeadLetters.URI, &c.DeadLetters.Topic, &c.Source.Kafka.Group,
		&c.Source.Avro.Schema, &c.Source.Avro.ReaderSchema, &c.Source.Protobuf.DescriptorSet, &c.Source.Protobuf.Message,
		&c.Source.Avro.Subject, &c.Source.Protobuf.Subject, &c.Source.JSON.Subject, &c.Source.Key.Subject,
	} {
		*text = strings.ReplaceAll(*text, topicMark, topic)
	}
	return c
}

// known are the pipelines that are known before Kafka is asked: of a list, one for each topic; of a pattern, it itself.
func (c config) known() []config {
	if len(c.Source.Topics) == 0 {
		return []config{c}
	}
	var all []config
	for _, t := range c.Source.Topics {
		all = append(all, c.forTopic(t))
	}
	return all
}

// validateTopics checks the settings of a pipeline for many topics.
func (c config) validateTopics() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	set := 0
	for _, is := range []bool{c.Source.Kafka.Topic != "", len(c.Source.Topics) > 0, c.Source.TopicPattern != ""} {
		if is {
			set++
		}
	}
	if set > 1 {
		bad("source.topic, topics and topic_pattern exclude each other: keep one of them")
	}
	if c.Source.Kafka.Group != "" && !strings.Contains(c.Source.Kafka.Group, topicMark) {
		bad("source.group is %q: with many topics each has a group of its own, so that it has to have %s in it, or to be left out", c.Source.Kafka.Group, topicMark)
	}
	sorted := slices.Sorted(slices.Values(c.Source.Topics))
	for i, t := range sorted {
		if i > 0 && t == sorted[i-1] {
			bad("source.topics has %q twice", t)
		}
	}
	if c.Source.DiscoveryInterval < time.Second {
		bad("source.discovery_interval is %v: use at least 1s", c.Source.DiscoveryInterval)
	}
	if _, err := c.pattern(); err != nil {
		errs = append(errs, err)
	}
	examples := c.known()
	if c.Source.TopicPattern != "" {
		if strings.Contains(c.Table.SchemaFile, topicMark) { // which topic's file there is, nobody knows yet
			c.Table.SchemaFile = ""
		}
		examples = []config{c.forTopic(patternTopic)}
	}
	for _, e := range examples {
		if to := e.DeadLetters.Topic; to != e.Source.Kafka.Topic && slices.Contains(c.Source.Topics, to) {
			bad("source.topics has %q, the dead_letters.topic of %s: each dead letter would come back as a message", to, e.Source.Kafka.Topic)
		}
		if err := e.validate(); err != nil {
			errs = append(errs, err)
			break // they differ in the topic alone
		}
	}
	return errors.Join(errs...)
}
