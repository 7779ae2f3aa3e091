package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/registry"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage/open"
)

// config is one stream's configuration file: every package's own settings, composed.
type config struct {
	Name        string            `yaml:"name"`
	Source      sourceSection     `yaml:"source"`
	Table       tableSection      `yaml:"table"`
	Storage     open.Config       `yaml:"storage"`
	Pipeline    pipeline.Config   `yaml:",inline"`
	DeadLetters deadLettersConfig `yaml:"dead_letters"`
	Process     processConfig     `yaml:",inline"`
	Verify      verifyConfig      `yaml:"verify"`
}

type sourceSection struct {
	Kafka source.Config `yaml:",inline"`
	// Topics and TopicPattern (a regular expression for whole names) are for many topics, each with a table of its own.
	Topics       []string `yaml:"topics"`
	TopicPattern string   `yaml:"topic_pattern"`
	// DiscoveryInterval is how often topics are looked for that the pattern finds.
	DiscoveryInterval time.Duration `yaml:"discovery_interval"`
	Format            string        `yaml:"format"`
	// Compression is of the values: none (default), gzip or zstd.
	Compression string `yaml:"compression"`
	// MaxDecompressed is what a value may become, in bytes.
	MaxDecompressed int64 `yaml:"max_decompressed" unit:"bytes"`

	JSON     jsonConfig      `yaml:"json"`
	Avro     avroConfig      `yaml:"avro"`
	Protobuf protobufConfig  `yaml:"protobuf"`
	Raw      rawConfig       `yaml:"raw"`
	Key      keyConfig       `yaml:"key"`
	Registry registry.Config `yaml:"schema_registry"`
}

type tableSection struct {
	Sink sink.Config `yaml:",inline"`
	// SchemaFile has the columns of a new table: see fileSchema.
	SchemaFile string `yaml:"schema_file"`
	// Infer is the number of messages from which a new table's columns are inferred; 0: they are not.
	Infer int `yaml:"infer"`
	// Catalog is where the offsets are of a stream whose rows go to many tables: by default the folder _catalog beside them.
	Catalog string `yaml:"catalog"`
	// MaxOpen is how many of these tables are open at a time, MaxTables how many there may be.
	MaxOpen   int `yaml:"max_open"`
	MaxTables int `yaml:"max_tables"`

	Decode decode.Config `yaml:",inline"`
}

func defaultConfig() config {
	return config{
		Source: sourceSection{
			Kafka: source.DefaultConfig(), DiscoveryInterval: time.Minute, Format: formatJSON, Compression: noCompression, MaxDecompressed: defaultMaxDecompressed,
			JSON: jsonConfig{Framing: framingNone}, Avro: avroConfig{Framing: framingRegistry}, Protobuf: protobufConfig{Framing: framingRegistry},
			Raw: rawConfig{Column: defaultRawColumn, Type: formatBinary}, Key: keyConfig{Column: defaultKeyColumn},
		},
		Table:    tableSection{Sink: sink.DefaultConfig(), MaxOpen: 100, MaxTables: 1000},
		Pipeline: pipeline.DefaultConfig(),
		Process:  processConfig{HTTP: httpConfig{Listen: ":9464"}},
	}
}

func readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}

func (c config) validate() error {
	errs := []error{
		checkpoint.ValidateName(c.Name), c.Source.Kafka.Validate(), c.Table.Sink.Validate(), c.validateColumns(),
		c.Storage.Validate(), c.Pipeline.Validate(), c.Process.HTTP.Validate(), c.Process.Memory.Validate(), c.Verify.Validate(), c.Source.validateFormat(), c.validateDeadLetters(),
	}
	if c.Source.Key.Format != "" {
		if f, ok := c.Table.Decode.Metadata.Field(); ok && f.Name == c.Source.Key.Column {
			errs = append(errs, fmt.Errorf("source.key.column is %q, which is the Kafka metadata column: name another one", f.Name))
		}
	}
	errs = append(errs, c.validateSchema(), c.validateEvolution(), c.validateTables())
	if c.Table.Sink.Schema != "" || c.Table.SchemaFile != "" {
		if schema, err := c.createSchema(); err != nil {
			errs = append(errs, err)
		} else if err := delta.CheckCreate(delta.CreateOptions{Schema: schema, PartitionBy: c.Table.Sink.PartitionBy, Properties: c.Table.Sink.Properties, Now: time.Now}); err != nil {
			errs = append(errs, fmt.Errorf("table: %w", err))
		}
	}
	return errors.Join(errs...)
}

// validateSchema checks what says which columns a new table gets.
func (c config) validateSchema() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	given := 0
	for _, is := range []bool{c.Table.Sink.Schema != "", c.Table.SchemaFile != "", c.Table.Infer != 0} {
		if is {
			given++
		}
	}
	if given > 1 {
		bad("table.schema, table.schema_file and table.infer exclude each other: keep one")
	}
	switch {
	case c.Table.Infer < 0 || c.Table.Infer > maxInferred:
		bad("table.infer is %d: use 1 to %d messages", c.Table.Infer, maxInferred)
	case c.Table.Infer > 0 && (c.Source.Format != formatJSON || c.Source.JSON.Framing != framingNone):
		bad("table.infer is for JSON without a schema registry: messages of format %s tell their schema by themselves", c.Source.Format)
	}
	return errors.Join(errs...)
}

// configuredSchema is the schema of a new table that the configuration has; nil where it has none.
func (c config) configuredSchema() (*arrow.Schema, error) {
	switch {
	case c.Table.Sink.Schema != "":
		schema, err := delta.ParseDDL(c.Table.Sink.Schema)
		if err != nil {
			err = fmt.Errorf("table.schema: %w", err)
		}
		return schema, err
	case c.Table.SchemaFile != "":
		schema, _, err := fileSchema(c.Table.SchemaFile, "", nil, avro.TableSchema)
		if err != nil {
			err = fmt.Errorf("table.schema_file: %w", err)
		}
		return schema, err
	}
	return nil, nil
}

// validateEvolution refuses to follow a schema that messages do not tell.
func (c config) validateEvolution() error {
	how := c.Table.Sink.SchemaEvolution
	switch {
	case how == sink.EvolveNone:
		return nil
	case !c.Source.valuesTell() && !c.Source.Key.byRegistry():
		return fmt.Errorf("table.schema_evolution is %s, but messages of source.format %s tell no schema to follow: use %s", how, c.Source.Format, sink.EvolveNone)
	case c.Source.Avro.ReaderSchema != "":
		return fmt.Errorf("table.schema_evolution is %s, but source.avro.reader_schema says which columns messages have: leave one of them out", how)
	}
	return nil
}

// createSchema is the schema of a new table: the configured columns, then the Kafka metadata column. It is nil where no
// schema is configured.
func (c config) createSchema() (*arrow.Schema, error) {
	schema, err := c.configuredSchema()
	if schema == nil || err != nil {
		return nil, err
	}
	return c.withMetadata(schema)
}

// withMetadata appends the Kafka metadata column.
func (c config) withMetadata(schema *arrow.Schema) (*arrow.Schema, error) {
	fields := schema.Fields()
	if f, ok := c.Table.Decode.Metadata.Field(); ok {
		if len(schema.FieldIndices(f.Name)) > 0 {
			return nil, fmt.Errorf("the schema has a column %q, which is the name of the Kafka metadata column: rename it, or set table.kafka_metadata.column", f.Name)
		}
		fields = append(fields, f)
	}
	return arrow.NewSchema(fields, nil), nil
}
